"""The command line. Every command is one module with `add` (its grammar) and functions from parsed arguments to an exit code.

Only the module of the command that was asked for is imported: listing runs must not wait for torch.
Errors that people can mend end in one line on standard error and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab import threads

COMMANDS = {
    "train": ("train", "start or continue a run"),
    "runs": ("runs", "list the runs"),
    "show": ("runs", "look at a run, or steer it"),
    "queue": ("queue", "who trains, who waits; change the order"),
    "export": ("export", "write a run's model for transformers and peft"),
    "pairs": ("pairs", "look at preference pairs, check and export them"),
    "world": ("world", "build and look at the embedded world"),
    "bench": ("bench", "measure this machine"),
}


def parser(command: str) -> argparse.ArgumentParser:
    """The grammar: all commands by name, the one that was asked for in full."""
    top = argparse.ArgumentParser(
        prog="python -m lab", description="A lab for preference optimization: train, watch and steer, and look into pairs."
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="command")
    asked = COMMANDS.get(command, ("", ""))[0]
    for name, (module, message) in COMMANDS.items():
        if module != asked:
            commands.add_parser(name, help=message)
    if asked:
        importlib.import_module(f"lab.cli.{asked}").add(commands)
    return top


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lab.training.lifecycle").setLevel(logging.CRITICAL)  # how a run ended is said once, by the command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # pairs may hold what a terminal cannot say
    if arguments[:1] == ["train"]:
        threads.spin_where_idle()  # before the command's module brings torch
    try:
        options = parser(arguments[0] if arguments else "").parse_args(arguments)
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (ValueError, RuntimeError, OSError, MemoryError, sqlite3.Error) as error:
        # ConfigError, PairsError, RunError and ModelError are ValueErrors and say in one sentence what to do.
        fail(_words(error))
        return 1


def _words(error: Exception) -> str:
    """An error as it is said; that memory ran out, or the disk is full, with what to do about it, as a run says it."""
    from lab.store.durable import disk_problem  # brings pandas, which Ctrl-C should not wait for

    if problem := disk_problem(error):
        return problem
    if isinstance(error, RuntimeError | MemoryError) and "torch" in sys.modules:
        from lab.policy.memory import out_of_memory
        from lab.training.lifecycle import describe

        if out_of_memory(error):
            return describe(error)
    return str(error)


def fail(message: str) -> None:
    """Say in one line what went wrong.

    A launcher (`accelerate launch`, `torchrun`) prints a traceback of its own below that; it closes with what it finds in the file
    it named to this process, so the same line stands there, too, at the very end.
    """
    line = f"error: {' '.join(message.split())}"
    print(line, file=sys.stderr, flush=True)
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        more = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": more}}), encoding="utf-8")
