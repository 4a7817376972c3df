"""`python -m lab world`: build an embedded world once, and show it."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "world", help="build and show an embedded world", description="Build an embedded world, unless it exists."
    )
    p.add_argument("name", nargs="?", default="world", help="world, world-hard, or with a seed world:3 (default: world)")
    p.add_argument("--sample", type=int, default=0, metavar="N", help="show N pairs with the oracle's scores")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build the world with a progress bar, and describe it."""
    world = build(options.name)
    print(world.describe())
    if options.sample > 0:
        print(world.sample_table(options.sample))
    return 0


def build(name: str = "world") -> Any:
    """Return the embedded world of a name, with a progress bar while it is built the first time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from lab.world import open_world

    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), disable=not sys.stdout.isatty(), transient=True
    ) as bar:
        task = bar.add_task(f"the embedded {name}", total=1.0)
        printed = ""

        def progress(what: str, share: float) -> None:
            nonlocal printed
            bar.update(task, description=what, completed=share)
            if bar.disable and what != printed:
                printed = what
                print(f"{share:4.0%}  {what}", flush=True)

        return open_world(name, progress)
