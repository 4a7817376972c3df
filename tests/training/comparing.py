"""Are two runs the same, number for number?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

import lab
from lab.run import send
from lab.store import list_checkpoints
from lab.store.folder import step_of

CLOCKS = ("pairs_per_second", "probe_cost", "panel_seconds", "seconds/trained", "seconds/clock")
"""Scalars that tell the time."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that a run's last checkpoint holds as numbers: policy, optimizer, head, the objective's state."""
    last = list_checkpoints(folder)[-1]
    return {f"{path.name}:{name}": value for path in last.glob("*.safetensors") for name, value in load_file(path).items()}


def scalars(run: lab.Run) -> pd.DataFrame:
    return run.scalars([name for name in run.reader.scalars.names() if name not in CLOCKS])


def looks(run: lab.Run, after: int) -> dict[int, dict[str, Any]]:
    """What every evaluation behind step `after` said, by its step, apart from the time it took. Where a run that was killed looked
    twice at a step, what it said last."""
    events = run.events("evaluation")
    return {
        step: {name: value for name, value in detail.items() if name != "seconds"}
        for step, detail in zip(events["step"], events["detail"])
        if step > after
    }


def assert_same(found: lab.Run, expected: lab.Run, after: int = 0) -> None:
    """Same steps, scalars, pair terms, evaluations, held-out terms and panel behind step `after`, and the same end, bit for bit.

    The panel is compared where both looked, if `expected` has one: looks in between evaluations are spaced by a clock.
    """
    assert found.state == expected.state == "finished", found.error
    one, other = scalars(found), scalars(expected)
    pd.testing.assert_frame_equal(one[one.index > after], other[other.index > after], check_exact=True)
    for step in range(after + 1, expected.step + 1):
        batches = [run.reader.pairs.batch(step).sort_values("pair", ignore_index=True) for run in (found, expected)]
        pd.testing.assert_frame_equal(*batches, check_exact=True)
    assert looks(found, after) == looks(expected, after)
    pd.testing.assert_frame_equal(*(run.reader.held_out.read(first=after + 1) for run in (found, expected)), check_exact=True)
    panels = [run.reader.panel.read(first=after + 1) for run in (found, expected)]
    if not panels[1].empty:
        both = set(panels[0]["step"]) & set(panels[1]["step"])
        assert {*looks(found, after)} <= both
        shown = [panel[panel["step"].isin(both)].sort_values(["step", "pair"], ignore_index=True) for panel in panels]
        pd.testing.assert_frame_equal(*shown, check_exact=True)
    ours, theirs = weights(found.dir), weights(expected.dir)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def interrupted(run: lab.Run, step: int, folder: Path) -> Path:
    """A copy of a run that saved at every step, as if it had died right after saving at `step`, or a little later."""
    shutil.copytree(run.dir, folder)
    for checkpoint in list_checkpoints(folder):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)
    return folder


def asking(folder: Path, step: int, kind: str, **detail: Any) -> Any:
    """An `on_step` that sends a request to the run in `folder` while it makes a step."""

    def on_step(done: int, _: dict[str, float]) -> None:
        if done == step:
            send(folder, kind, **detail)

    return on_step


def resumed(folder: Path) -> lab.Run:
    return lab.train(run_dir=folder, resume=True, background=False)


def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
