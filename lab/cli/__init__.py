"""The command line. Every command is one module with `add` (its grammar) and functions from parsed arguments to an exit code.

Only the module of the command that was asked for is imported: listing runs must not wait for torch.
Errors that people can mend end in one line on standard error and exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import sqlite3
import sys
from collections.abc import Sequence

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
    for name, (module, words) in COMMANDS.items():
        if module != asked:
            commands.add_parser(name, help=words)
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
    except (ValueError, RuntimeError, OSError, sqlite3.Error) as error:
        # ConfigError, PairsError, RunError and ModelError are ValueErrors and say in one sentence what to do.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
