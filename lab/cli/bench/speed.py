"""`python -m lab bench`: training speed of this machine by objective."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any


def add(commands: Any) -> Any:
    """Declare the command and return its parser."""
    p = commands.add_parser(
        "bench",
        help="measure this machine, or the papers' claims",
        description="Median pairs per second of short runs, alternating objectives.",
    )
    p.add_argument("--objectives", default="dpo,sgdpo,alpha_dpo,simpo,spo", metavar="A,B", help="objectives to compare")
    p.add_argument("--model", default="world", metavar="M", help="world, a folder or a hub id (default: world)")
    p.add_argument("--pairs", default="world", metavar="P", help="as for train (default: world)")
    p.add_argument("--steps", type=int, default=30, metavar="N", help="steps per round (default: 30)")
    p.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds, alternating between the objectives (default: 3)")
    p.add_argument("--batch-size", type=int, default=8, metavar="N", help="pairs per step (default: 8)")
    p.set_defaults(run=run)
    return p


def run(options: argparse.Namespace) -> int:
    """Print a table: objective, median pairs per second, ratio to the first objective."""
    from lab import api
    from lab.opening import open_pairs

    names = [name.strip() for name in options.objectives.split(",") if name.strip()]
    if not names or options.rounds < 1 or options.steps < 1:
        raise ValueError("Nothing to measure: name at least one objective, one round and one step.")
    pairs = open_pairs(options.pairs)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name in names:
                handle = api.train(
                    name, pairs, options.model, run_dir=Path(folder) / f"{name}-{number}", background=False,
                    steps=options.steps, batch_size=options.batch_size, save_every=0, evaluate=False, listed=False,
                )  # fmt: skip
                if handle.state != "finished":
                    raise RuntimeError(f"The run with {name} {handle.state}: {handle.error}")
                speeds[name].append(options.steps * options.batch_size / handle.status["seconds"])
    print(f"{'objective':<12} {'pairs/s':>8} {'ratio':>6}   median of {options.rounds} rounds, {options.steps} steps each")
    first = statistics.median(speeds[names[0]])
    for name in names:
        median = statistics.median(speeds[name])
        print(f"{name:<12} {median:8.1f} {median / first:6.2f}")
    return 0
