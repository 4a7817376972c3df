# ruff: noqa: E402 - how idle threads wait is settled before torch is loaded
"""What watching costs: training with every record and probe against the same training that records nothing.

    python -m tests.bench.bench_monitoring [--rounds 5] [--steps 40]

The model and pairs of `bench_engine`, SGDPO (the objective with most to show), batch 8. "All" is what every run does: scalars,
pair terms and token credit of every step into the store, gradient probes within their budget of 5 %, requests listened to, and
the monitor, which reads the store in a thread of its own (see lab/diagnosis/monitor.py; its last examination, after the last
step, is not in the loop's time). The probes are the gradient by layer and looks at a panel of held-out pairs. "Records" is the same
without probes and monitor. "None" makes the same steps and neither computes nor writes any of it. Neither trackers nor alerts,
which a run has where it is asked for them. Alternating in one run, medians of the whole loop's time without its
evaluations, which are outside of the budget, looks at the panel in them included.

Below stands what one probe costs: the gradient of all layers, of the last block alone, and one look at the panel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from lab import process_settings

process_settings.spin_where_idle()  # as a process that only trains does, before torch is loaded

from lab.store import SilentWriter, StoreWriter  # isort: skip
from lab.diagnosis.monitor import DiagnosticsMonitor
from lab.pairs import pair_of
from lab.run.config import TrainConfig
from lab.training.loop import Training
from lab.training.run_folder import create_run
from tests.bench.bench_engine import RATE, Size, make_model, make_rows

WAYS = {"none": 0.0, "records": 0.0, "all": 0.05}

PAIRS = 8
"""In the panel."""


class Timed(Training):
    """Knows when its preparation was over, and what its evaluations took."""

    evaluated = 0.0

    def _prepare(self) -> None:
        super()._prepare()
        self.began = time.perf_counter()

    def _evaluate(self) -> None:
        began = time.perf_counter()
        super()._evaluate()
        self.evaluated += time.perf_counter() - began


class Unwatched(Timed):
    """Trains and says nothing."""

    def _record(self, *_: Any) -> None:
        pass


def trained(way: str, model: Path, rows: list[dict[str, str]], steps: int, **settings: Any) -> tuple[float, Training]:
    """Seconds that the loop of a training took, its last checkpoint included, and the training."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        common: dict[str, Any] = {"steps": steps, "learning_rate": RATE, "save_every": 0, "device": "cpu", "model": str(model)}
        looks = {"held_out": 0.05, "eval_every": 0, "eval_prompts": 1, "eval_tokens": 64, "panel_pairs": PAIRS}
        config = TrainConfig.parse(objective="sgdpo", **common | looks | {"probe_budget": WAYS[way]} | settings)
        create_run(folder, config)
        store = SilentWriter() if way == "none" else StoreWriter(folder)
        if way == "all":
            store.listeners.append(DiagnosticsMonitor(folder, store))  # as `lab.api.start_run` does
        kind = Unwatched if way == "none" else Timed
        pairs = [pair_of(row) for row in rows]
        training = kind(
            folder, config, pairs_at=lambda _: pairs, pairs_version=0, model=str(model), cache=folder / "cache", store=store
        )
        training.run()
        took = time.perf_counter() - training.began - training.evaluated
        store.close()
        return took, training


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=40)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), Size())
        rows = make_rows(10 * given.steps + 20 * PAIRS, 64, 64)
        trained("all", Path(folder), rows[:32], 3)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way in WAYS:
                found[way].append(trained(way, Path(folder), rows, given.steps)[0])
        probes = {
            wanted: trained("all", Path(folder), rows, min(given.steps, 8), probe_budget=1, probe_layers=wanted)[1].probes
            for wanted in ("all", f"layers.{Size().layers - 1}")
        }
    none = statistics.median(found["none"])
    print("| monitoring | ms a step | over none |\n|---|---|---|")
    for way, times in found.items():
        median = statistics.median(times)
        print(f"| {way} | {1000 * median / given.steps:.0f} | {median / none - 1:+.1%} |")
    print("\n| one probe | ms |\n|---|---|")
    for wanted, probing in probes.items():
        print(f"| gradient of {wanted} | {1000 * (probing.gradients.last or 0):.0f} |")
    print(f"| look at a panel of {len(probing.panel.pairs)} pairs | {1000 * (probing.looks.last or 0):.0f} |")


if __name__ == "__main__":
    main()
