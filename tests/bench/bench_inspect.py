"""How long the Inspect page's list takes over many pairs: python -m tests.bench.bench_inspect [--pairs 100000]"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 500
TERMS = ("loss", "logps_chosen", "logps_rejected", "reward_chosen", "reward_rejected", "log_ratio_chosen", "log_ratio_rejected")


def fill(folder: Path, count: int) -> Any:
    """A finished run that has seen every one of `count` pairs once."""
    import lab
    from lab.run.config import TrainConfig
    from lab.store import StoreWriter
    from lab.training.run_folder import create_run

    pairs = lab.open_pairs([{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)])
    steps = -(-count // BATCH)
    config = TrainConfig.parse(objective="dpo", steps=steps, batch_size=BATCH)
    create_run(folder, config, pairs_store=str(pairs.path), pairs_version=0, pairs_name="many")
    store, ids, rng = StoreWriter(folder), pairs.ids(), np.random.default_rng(0)
    for step in range(1, steps + 1):
        batch = ids[(step - 1) * BATCH : step * BATCH]
        store.pair_terms(step, batch, [1] * len(batch), {term: rng.normal(size=len(batch)).astype(np.float32) for term in TERMS})
        store.scalars(step, {"loss": 0.5})
    store.status(step=steps, state="finished")
    store.close()
    return lab.open_run(folder)


def timed(what: str, work: Callable[[], Any]) -> None:
    began = time.perf_counter()
    work()
    print(f"{what:<34}{time.perf_counter() - began:8.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    count = parser.parse_args().pairs
    from streamlit.testing.v1 import AppTest

    page = str(Path(__file__).parents[2] / "app" / "views" / "inspect" / "inspect.py")
    with tempfile.TemporaryDirectory() as place:
        os.environ["LAB_HOME"] = place
        run = fill(Path(place) / "runs" / "many", count)
        print(f"{count:,} pairs")
        app = AppTest.from_file(page, default_timeout=600)
        app.query_params["run"] = run.dir.name
        timed("first drawing, libraries loaded too", app.run)
        timed("drawn again", app.run)
        timed("next pair", lambda: next(b for b in app.button if b.label == "Next pair").click().run())
        timed("sorted by another term", lambda: next(b for b in app.selectbox if b.label == "Sort by").set_value("loss").run())
        timed("searched for a text", lambda: next(b for b in app.text_input if b.label == "Search").set_value("good 77").run())
        assert not app.exception


if __name__ == "__main__":
    main()
