"""Tiny real runs in which something is changed in mid-run: settings, or the pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lab.run import send
from lab.run.handle import Run, open_run
from tests.diagnosis import troubled

AT = 12
"""Steps done when the change is made."""

SETTINGS: dict[str, Any] = {"learning_rate": 3e-5, "steps": 24, "save_every": 5, "keep_checkpoints": 9, "probe_budget": 0}
SETTINGS |= {"warmup_ratio": 0.0}


def setting(**settings: Any) -> Callable[[Path], None]:
    """Ask the run in a folder to change settings."""
    return lambda folder: send(folder, "set", settings=settings) and None


def swapping(folder: Path) -> None:
    """Swap the answers of all pairs and let the run take the edits."""
    with open_run(folder).pair_store() as store:
        for pair in store.all():
            store.edit(pair.id, chosen=pair.rejected, rejected=pair.chosen)
        send(folder, "edits", version=store.version)


def rewording(folder: Path) -> None:
    """Edit one pair harmlessly and let the run take the edit."""
    with open_run(folder).pair_store() as store:
        store.edit(store.ids()[0], prompt="Question: how do I bake bread today?\n")
        send(folder, "edits", version=store.version)


def run(
    objective: Any,
    model: Path,
    folder: Path,
    change: Callable[[Path], None],
    *,
    at: int = AT,
    fails: int = 0,
    failure: Exception | None = None,
    rows: Callable[[], list[dict[str, str]]] = troubled.told_apart,
    **settings: Any,
) -> Run:
    """Train, and make the change when `at` steps are done; memory runs out in step `fails` (0: never), or `failure` is
    raised there."""

    def on_step(step: int, scalars: dict[str, float]) -> None:
        if step == at:
            change(folder)
        if step == fails:
            raise failure or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return troubled.run(objective, rows(), model, run_dir=folder, on_step=on_step, **SETTINGS | settings)
