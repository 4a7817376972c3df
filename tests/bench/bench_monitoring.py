# ruff: noqa: E402 - how idle threads wait is settled before torch is loaded
"""What watching costs: training with every record and probe against the same training that records nothing.

    python -m tests.bench.bench_monitoring [--rounds 5] [--steps 40]

The model and pairs of `bench_engine`, SGDPO (the objective with most to show), batch 8. "All" is what every run does: scalars,
pair terms and token credit of every step into the store, gradient probes within their budget of 5 %, requests listened to.
"Records" is the same without probes. "None" makes the same steps and neither computes nor writes any of it. Alternating in one
run, medians of the whole loop's time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lab import threads

threads.spin_where_idle()  # as a process that only trains does, before torch is loaded

from lab.monitor import SilentWriter, StoreWriter  # isort: skip
from lab.pairs import pair_of
from lab.training import TrainConfig
from lab.training.loop import Training
from tests.bench.bench_engine import RATE, Size, make_model, make_rows

WAYS = {"none": 0.0, "records": 0.0, "all": 0.05}


class Timed(Training):
    """Knows when its preparation was over."""

    def _prepare(self) -> None:
        super()._prepare()
        self.began = time.perf_counter()


class Unwatched(Timed):
    """Trains and says nothing."""

    def _record(self, *_: Any) -> None:
        pass


def seconds(way: str, model: Path, rows: list[dict[str, str]], steps: int) -> float:
    """Seconds that the loop of a training took, its last checkpoint included."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = TrainConfig.parse(
            objective="sgdpo",
            steps=steps,
            learning_rate=RATE,
            evaluate=False,
            probe_budget=WAYS[way],
            save_every=0,
            device="cpu",
            model=str(model),
        )
        store = SilentWriter() if way == "none" else StoreWriter(folder)
        kind = Unwatched if way == "none" else Timed
        pairs = [pair_of(row) for row in rows]
        training = kind(
            folder, config, pairs_at=lambda _: pairs, pairs_version=0, model=str(model), cache=folder / "cache", store=store
        )
        training.run()
        took = time.perf_counter() - training.began
        store.close()
        return took


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=40)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), Size())
        rows = make_rows(8 * given.steps, 64, 64)
        seconds("all", Path(folder), rows[:32], 3)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way in WAYS:
                found[way].append(seconds(way, Path(folder), rows, given.steps))
    none = statistics.median(found["none"])
    print("| monitoring | ms a step | over none |\n|---|---|---|")
    for way, times in found.items():
        median = statistics.median(times)
        print(f"| {way} | {1000 * median / given.steps:.0f} | {median / none - 1:+.1%} |")


if __name__ == "__main__":
    main()
