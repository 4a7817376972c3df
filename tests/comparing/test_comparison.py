"""Comparing runs whose stores were filled by hand: long ones, living ones, ones that lack what others have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import lab
from lab.comparing import AXES
from lab.monitor import RunError, StoreWriter
from lab.plots.overlay import DARK, DASHES, LIGHT
from lab.run import Run
from tests.app.conftest import fill, store_run  # noqa: F401 - a fixture

LONG = 4000


def test_a_long_run_is_drawn_with_a_thousand_points_that_keep_the_spike(store_run: Callable[..., Run]) -> None:  # noqa: F811
    one, other = store_run("one", done=2), store_run("other", done=2)
    for run, spike in ((one, 50.0), (other, 0.0)):
        store = StoreWriter(run.dir)
        for step in range(1, LONG + 1):
            store.scalars(step, {"loss": spike if step == 1234 else 1.0 + (run is one), "seconds/trained": 0.5 * step})
        store.status(step=LONG)
        store.close()
    both = lab.compare([one, other])
    frame = both.curve(0, "loss", "trained")
    assert len(frame) <= 1000
    assert frame["value"].max() == 50
    assert frame["value"].idxmax() == 617.0
    figure = both.figure("loss", "trained")
    assert all(len(trace["x"]) <= 1000 for trace in figure.data)
    less = both.difference("loss")
    assert len(less) <= 1000
    assert less["mean"].median() == 1.0
    figure = both.difference_figure("loss")
    assert figure.layout.shapes[0].y0 == 0


def test_what_a_run_adds_is_read_and_the_look_after_its_last_step_too(store_run: Callable[..., Run]) -> None:  # noqa: F811
    run = store_run("one", steps=20, evaluations=False)
    both = lab.compare([run])
    assert both.scalar(0, "eval/kl").empty
    store = StoreWriter(run.dir)
    store.scalars(20, {"eval/kl": 2.0})
    store.event(20, "evaluation", **{"eval/kl": 2.0, "kl_low": 1.0, "kl_high": 3.0})
    store.flush()
    assert both.scalar(0, "eval/kl").empty, "between refreshes nothing changes"
    both.refresh()
    assert both.curve(0, "eval/kl")[["value", "low", "high"]].to_numpy().tolist() == [[2.0, 1.0, 3.0]]
    fill(store, "sgdpo", range(21, 31), 40)
    store.status(step=30)
    store.close()
    both.refresh()
    assert both.scalar(0, "loss").index[-1] == 30


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_gives_a_figure_and_the_data_behind_it(store_run: Callable[..., Run], axis: str) -> None:  # noqa: F811
    both = lab.compare([store_run("one", steps=30, batch_size=4), store_run("other", steps=30, objective="dpo")])
    assert both.figure("eval/oracle_reward", axis, dark=True).layout.xaxis.title.text in (None, AXES[axis].title)
    data = both.data(["eval/oracle_reward", "loss"], axis)
    assert set(data["axis"]) <= {axis}
    if axis == "pairs":
        last = data[data["scalar"] == "loss"].groupby("label")["x"].max()
        assert last.tolist() == [120, 240]
    if axis == "kl":
        assert np.allclose(data[data["scalar"] == "eval/oracle_reward"]["x"], [0, 0.3, 0, 0.3])
    if axis in ("trained", "clock"):
        assert data.empty, "these stores have no clocks"


def test_pairs_and_terms_that_both_have(store_run: Callable[..., Run]) -> None:  # noqa: F811
    both = lab.compare([store_run("one", steps=30), store_run("other", steps=20, objective="dpo")])
    assert "pilot_chosen" not in both.terms()
    assert "logit" in both.terms()
    assert both.last_common_step() == 20
    table = both.pairs("logit")
    assert (table["step_one"] <= 20).all()
    assert both.batches().same, "the same pairs, whatever the objective"
    history = both.pair(table["pair"].iloc[0])
    assert all(isinstance(frame, pd.DataFrame) and len(frame) for frame in history.values())
    assert not both.are_twins()


def test_what_cannot_be_compared(store_run: Callable[..., Run]) -> None:  # noqa: F811
    run = store_run("one", done=2)
    with pytest.raises(RunError, match="one to 8 runs"):
        lab.compare([])
    with pytest.raises(RunError, match="given twice"):
        lab.compare([run, "one"])


def test_eight_runs_have_a_look_each() -> None:
    for colours in (LIGHT, DARK):
        assert len(set(colours)) == len({*zip(colours, DASHES)}) == 8
    assert len(set(DASHES[:4])) == 4, "the first four are told apart without colours"
