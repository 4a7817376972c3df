"""The command line. Every command is one function: parsed arguments in, exit code out.

Errors that people can mend (LabError below) end in one line on standard error and exit code 1.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import bench, pairs, runs, train, world


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m lab", description="A lab for preference optimization: train, watch and steer, and look into pairs."
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="command")
    for module in (train, runs, pairs, world, bench):
        module.add(commands)
    return top


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except (ValueError, RuntimeError, OSError) as error:
        # ConfigError, PairsError, RunError and ModelError are ValueErrors and say in one sentence what to do.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
