"""A sweep of seeds of the embedded world's model, in the ways in which its runs can be trained, against a single run.

    python -m tests.bench.bench_seeds --seeds 8 --steps 200 --rounds 3

Every round trains fresh seeds in each way, so that the reference's sampled answers are not in the cache, and alternates the ways.
Seconds of the processors are those of all processes together; they say more than elapsed seconds on a machine that others use too.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import psutil

from lab.run import Run, is_held
from lab.starting import make_run
from lab.training.setup.child_process import start_group

Way = Callable[[Sequence[Path]], None]
ONE = "one run"


def train_groups(groups: Sequence[Sequence[Path]], *, at_once: int, threads: int) -> None:
    """Train groups of runs, each in a process of its own, some of them at once."""
    waiting, active = list(groups), list[Sequence[Path]]()
    while waiting or active:
        active = [group for group in active if any(map(is_held, group))]
        while waiting and len(active) < at_once:
            active.append(waiting.pop(0))
            start_group(active[-1], queue=False, threads=threads)
        time.sleep(0.05)


def ways(cores: int) -> dict[str, Way]:
    """Return the ways of training a sweep, by name."""

    def in_groups(folders: Sequence[Path]) -> None:
        size = -(-len(folders) // cores)
        groups = [folders[first : first + size] for first in range(0, len(folders), size)]
        train_groups(groups, at_once=cores, threads=1)

    return {
        ONE: lambda folders: train_groups([folders], at_once=1, threads=cores),
        "one after another": lambda folders: train_groups([[folder] for folder in folders], at_once=1, threads=cores),
        f"{cores} at once, 1 thread each": lambda folders: train_groups([[f] for f in folders], at_once=cores, threads=1),
        f"{cores} processes, 1 thread each, runs share them": in_groups,
    }


def measure(way: Way, seeds: Sequence[int], steps: int) -> tuple[float, float]:
    """Train runs with these seeds; return (elapsed seconds, seconds of the processors)."""
    with tempfile.TemporaryDirectory() as place:
        settings = {"steps": steps, "batch_size": 16, "learning_rate": 2e-4, "device": "cpu", "listed": False}
        folders = [make_run("dpo", run_dir=Path(place) / f"seed{seed}", seed=seed, **settings) for seed in seeds]
        used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        way(folders)
        elapsed = time.perf_counter() - began
        while psutil.Process().children():  # their seconds are known when they have ended
            time.sleep(0.05)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert all(Run(folder).step == steps for folder in folders), [Run(folder).error for folder in folders]
    return elapsed, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    """Print a table of medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=8)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--ways", default="", help="parts of the names of the ways, separated by commas; empty: all")
    given = options.parse_args()
    wanted = [part for part in given.ways.split(",") if part]
    chosen = {name: way for name, way in ways(os.cpu_count() or 1).items() if not wanted or any(part in name for part in wanted)}
    first = int(time.time()) % 1_000_000  # seeds that no earlier round had
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for number in range(given.rounds):
        for name, way in chosen.items():
            seeds = range(first, first + given.seeds)
            first += given.seeds
            measured[name].append(measure(way, seeds[:1] if name == ONE else seeds, given.steps))
            elapsed, used = measured[name][-1]
            print(f"round {number + 1}: {name}: {elapsed:.1f} s, {used:.1f} s of the processors", flush=True)
    for name, values in measured.items():
        print(f"{name:45} {median(v[0] for v in values):7.1f} s {median(v[1] for v in values):7.1f} s of the processors")


if __name__ == "__main__":
    main()
