"""The command line. Every command is one module with `add` (its grammar) and functions from parsed arguments to an exit code.

Only the module of the given command is imported, so that listing runs does not import torch. Errors of use end in one line on
standard error and exit code 1.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import sqlite3
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from lab import process_settings
from lab.errors import did_you_mean

from .parser import Parser

COMMANDS = {
    "train": ("train", "start or continue a run"),
    "runs": ("runs", "list the runs; name, tag, archive and delete them"),
    "show": ("show", "show a run, or control it"),
    "sweep": ("sweep", "run an experiment: objectives x settings x seeds, with intervals"),
    "queue": ("queue", "list running and waiting runs, and change their order"),
    "export": ("export", "write a run's model for transformers and peft"),
    "pairs": ("pairs", "show, check and export preference pairs"),
    "world": ("world", "build and show an embedded world"),
    "bench": ("bench", "measure this machine"),
}


def parser(command: str) -> Parser:
    """Return the grammar: the given command in full, the others by name."""
    top = Parser(
        prog="python -m lab", description="A lab for preference optimization: train, observe and control runs, edit pairs."
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="command")
    wanted = COMMANDS.get(command, ("", ""))[0]
    for name, (module, summary) in COMMANDS.items():
        if module != wanted:
            commands.add_parser(name, help=summary)
    if wanted:
        importlib.import_module(f"lab.cli.{wanted}").add(commands)
    return top


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lab.training.lifecycle").setLevel(logging.CRITICAL)  # the command itself reports how a run ended
    warnings.simplefilter("ignore", FutureWarning)  # of transformers and torch, about their own use of each other
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # pairs may hold characters that a terminal cannot print
    if arguments[:1] == ["train"]:
        process_settings.spin_where_idle()  # before the command's module brings torch
        process_settings.postpone_collector()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        fail(f"There is no command {arguments[0]!r}; choose one of {', '.join(COMMANDS)}.{did_you_mean(arguments[0], COMMANDS)}")
        return 2
    try:
        options = parser(arguments[0] if arguments else "").parse_args(arguments)
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (ValueError, RuntimeError, OSError, MemoryError, sqlite3.Error) as error:
        # The lab's own errors (ConfigError, PairsError, RunError, ModelError) are ValueErrors with one sentence.
        fail(_message(error))
        return 1
    finally:
        process_settings.resume_collector()  # where no model was loaded


def _message(error: Exception) -> str:
    """The message of an error; of a full disk or memory, with what to do about it."""
    from lab.store.durable import disk_problem  # imports pandas, which Ctrl-C should not wait for

    if problem := disk_problem(error):
        return problem
    if isinstance(error, RuntimeError | MemoryError) and "torch" in sys.modules:
        from lab.policy.memory import out_of_memory
        from lab.training.lifecycle import describe

        if out_of_memory(error):
            return describe(error)
    return str(error)


def fail(message: str) -> None:
    """Print an error in one line.

    A launcher (`accelerate launch`, `torchrun`) prints its own traceback below, which ends with the content of a file that it names
    in the environment; the line is written there too.
    """
    line = f"error: {' '.join(message.split())}"
    print(line, file=sys.stderr, flush=True)
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        more = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": more}}), encoding="utf-8")
