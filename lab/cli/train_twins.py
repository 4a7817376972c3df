"""`python -m lab train --twin NAME`: train a second, equal run with another objective after the first."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lab.run.checkpoints import find_checkpoint
from lab.run.config import ConfigError
from lab.run.settings import checkpoint_settings

from .interrupting import interruption
from .outcome import exit_code, print_outcome
from .parameters import with_parameters
from .screens import Bar, JsonLines


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--twin", metavar="NAME", help="then train a twin: equal start, equal batches in equal order, but this objective"
    )
    parser.add_argument(
        "--twin-set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the twin's objective; may be repeated"
    )


def check(options: argparse.Namespace) -> None:
    """Raise ConfigError for flags that cannot be combined."""
    if options.twin_set and not options.twin:
        raise ConfigError("--twin-set changes a parameter of the twin's objective; say which with --twin NAME.")
    if options.twin and options.resume:
        raise ConfigError("Twins are resumed one by one, each with its own --run-dir; leave --twin out.")
    if options.twin and options.dry_run:
        raise ConfigError("--dry-run reports on one run; leave --twin out.")


def train(arguments: dict[str, Any], options: argparse.Namespace) -> int:
    """Train both, one after the other. Ctrl-C stops the one that trains, with a checkpoint, and the other is not started."""
    from lab import api, twins

    arguments = dict(arguments)
    objective = arguments.pop("objective", None)
    if objective is None:  # of a branch
        objective = checkpoint_settings(find_checkpoint(arguments["branch_from"].dir, arguments["at"])).objective
    objectives = (objective, with_parameters(options.twin, options.twin_set))
    first = options.run_dir
    dirs = None if first is None else (first, first.with_name(f"{first.name}-twin"))
    screen: Any = JsonLines() if options.json else Bar()
    out = sys.stderr if options.json else sys.stdout
    folders = twins.make_twins(objectives, run_dirs=dirs, known_elsewhere=options.detach, progress=screen.preparing, **arguments)
    if options.detach:
        screen.close()
        runs = twins.start_in_order(folders, executor="process", queue=not options.no_queue)
        started = [{"run": run.dir.name, "folder": str(run.dir)} for run in runs]
        print(json.dumps(started) if options.json else f"{' and '.join(str(run.dir) for run in runs)} train in the background.")
        return 0
    for number, folder in enumerate(folders):
        screen = screen if number == 0 else JsonLines() if options.json else Bar()
        if options.json:
            print(json.dumps({"run": folder.name}), flush=True)
        try:
            handle = api.start_run(folder, queue=not options.no_queue, on_step=screen.step, progress=screen.preparing)
            screen.follow(handle)
        finally:
            screen.close()
        print_outcome(handle, file=out)
        if handle.state == "finished" and (number > 0 or interruption.next()):
            continue
        if number == 0:
            print(f"Its twin was not started: python -m lab train --run-dir {folders[1]} --resume", file=out)
        return exit_code(handle) or interruption.code or 0
    return 0
