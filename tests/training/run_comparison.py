"""Helpers for runs in tests: compare two runs bit for bit, interrupt and resume them, send requests, wait."""

from __future__ import annotations

import shutil
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
"""Scalars that depend on the clock."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a run's last checkpoint: policy, optimizer, head, the objective's state."""
    last = list_checkpoints(folder)[-1]
    return {f"{path.name}:{name}": value for path in last.glob("*.safetensors") for name, value in load_file(path).items()}


def scalars(run: lab.Run) -> pd.DataFrame:
    return run.scalars([name for name in run.reader.scalars.names() if name not in CLOCKS])


def evaluations(run: lab.Run, after: int) -> dict[int, dict[str, Any]]:
    """Return the evaluation events after step `after` by step, without their duration; the last where a killed run has two."""
    events = run.events("evaluation")
    return {
        step: {name: value for name, value in detail.items() if name != "seconds"}
        for step, detail in zip(events["step"], events["detail"])
        if step > after
    }


def assert_same(run: lab.Run, expected: lab.Run, after: int = 0) -> None:
    """Assert equal steps, scalars, pair terms, evaluations, held-out terms and panel after a step, and final weights, bit for bit.

    The panel is compared at the steps where both runs have one: between evaluations it depends on the clock.
    """
    assert run.state == expected.state == "finished", run.error
    actual, wanted = scalars(run), scalars(expected)
    pd.testing.assert_frame_equal(actual[actual.index > after], wanted[wanted.index > after], check_exact=True)
    both = (run, expected)
    for step in range(after + 1, expected.step + 1):
        batches = [one.reader.pairs.batch(step).sort_values("pair", ignore_index=True) for one in both]
        pd.testing.assert_frame_equal(*batches, check_exact=True)
    assert evaluations(run, after) == evaluations(expected, after)
    pd.testing.assert_frame_equal(*(one.reader.held_out.read(first=after + 1) for one in both), check_exact=True)
    panels = [one.reader.panel.read(first=after + 1) for one in both]
    if not panels[1].empty:
        steps = set(panels[0]["step"]) & set(panels[1]["step"])
        assert {*evaluations(run, after)} <= steps
        common = [panel[panel["step"].isin(steps)].sort_values(["step", "pair"], ignore_index=True) for panel in panels]
        pd.testing.assert_frame_equal(*common, check_exact=True)
    ours, theirs = weights(run.dir), weights(expected.dir)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def interrupted(run: lab.Run, step: int, folder: Path) -> Path:
    """Copy a run that saved at every step, without the checkpoints after `step`: as if it had been killed after that step."""
    shutil.copytree(run.dir, folder)
    for checkpoint in list_checkpoints(folder):
        if step_of(checkpoint) > step:
            shutil.rmtree(checkpoint)
    return folder


def asking(folder: Path, step: int, kind: str, **detail: Any) -> Any:
    """Return an `on_step` that sends a request to the run in `folder` after step `step`."""

    def on_step(done: int, _: dict[str, float]) -> None:
        if done == step:
            send(folder, kind, **detail)

    return on_step


def resumed(folder: Path) -> lab.Run:
    return lab.train(run_dir=folder, resume=True, background=False)
