"""Comparing runs whose stores were filled by hand: long ones, living ones, ones that lack what others have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import lab
from lab.comparison import AXES
from lab.errors import FigureError
from lab.plots.comparison.overlay import DARK, DASHES, LIGHT
from lab.run.handle import Run
from lab.store import RunError, StoreWriter
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
    assert frame["value"].count() <= 1000
    assert frame["mean"].count() <= 1000
    assert frame["value"].max() == 50
    assert frame["value"].idxmax() == 617.0
    figure = both.figure("loss", "trained")
    assert all(len(trace["x"]) <= 1000 for trace in figure.data)
    less = both.difference("loss")
    assert len(less) <= 1000
    assert less["mean"].median() == 1.0
    figure = both.difference_figure("loss")
    assert figure.layout.shapes[0].y0 == 0


def test_a_figure_without_data_is_refused(store_run: Callable[..., Run]) -> None:  # noqa: F811
    both = lab.compare([store_run("one"), store_run("other")])
    for ask in (
        lambda: both.figure("log_ratios"),
        lambda: both.difference_figure("log_ratios"),
        lambda: both.at_kl(names=["nothing"]),
    ):
        with pytest.raises(
            FigureError, match=r"None of these runs has recorded a scalar .*, such as epoch, and `names\(\)` lists them"
        ):
            ask()
    with pytest.raises(FigureError, match="Did you mean 'rewards/margins'"):
        both.figure("reward/margin")
    with pytest.raises(FigureError, match="no axis 'time'; choose one of step, pairs"):
        both.figure("loss", "time")
    with pytest.raises(FigureError, match="needs two runs"):
        lab.compare([both.runs[0]]).difference_figure("loss")
    begun = lab.compare([store_run("begun", done=0, evaluations=False)])
    assert "begin with the first step" in begun.figure("loss").layout.annotations[0].text.replace("<br>", " ")


def noisy(seed: int, steps: int) -> np.ndarray:
    """Values around 1 that spike by 30 to one side at every 400th step: extremes alone would say nothing of where they go."""
    rng = np.random.default_rng(seed)
    values = 1 + seed + rng.normal(0, 0.5, steps)
    values[::400] += 30
    return values


@pytest.fixture
def spiky(store_run: Callable[..., Run]) -> tuple[lab.Comparison, list[pd.Series]]:  # noqa: F811
    """Two runs of 5,000 steps whose loss is noise with spikes, and that loss."""
    runs, losses = [], []
    for seed, name in enumerate(("one", "other")):
        run, steps = store_run(name, done=0, evaluations=False), 5000
        store = StoreWriter(run.dir)
        losses.append(pd.Series(noisy(seed, steps), index=range(1, steps + 1)))
        for step, loss in losses[-1].items():
            store.scalars(int(step), {"loss": loss} | ({"eval/kl": step / 1000} if step % 250 == 0 else {}))
        store.status(step=steps)
        store.close()
        runs.append(run)
    return lab.compare(runs), losses


def test_a_moving_mean_is_of_the_steps_and_not_of_the_points_on_the_screen(
    spiky: tuple[lab.Comparison, list[pd.Series]],
) -> None:
    both, losses = spiky
    means = [loss.rolling(125, min_periods=1).mean() for loss in losses]
    frame = both.curve(0, "loss")
    assert frame.attrs == {"stands_for": 5000, "window": 125}
    drawn = frame["mean"].dropna()
    assert 900 <= len(drawn) <= 1000
    # What the store sums up in buckets may begin a few values off: a spike of 30 among 125 then moves the mean by a quarter.
    assert (drawn - means[0][drawn.index]).abs().median() < 0.02
    assert (drawn - means[0][drawn.index]).abs().max() < 0.3
    figure = both.figure("loss")
    lines = [trace for trace in figure.data if "mean of the last 125 values" in (trace.hovertemplate or "")]
    assert len(lines) == 2
    assert all(len(trace.x) <= 1000 and not np.isnan(trace.y).any() for trace in figure.data)
    less = both.difference("loss")["mean"]
    assert abs(less.median() - (means[0] - means[1]).median()) < 0.02
    by_kl = both.curve(0, "loss", "kl")
    assert np.allclose(by_kl["mean"], means[0][by_kl["step"]], atol=0.3)
    matched = both.at_kl(2.0, ["loss"])
    assert np.allclose(matched["loss"], [mean[2000] for mean in means], atol=0.3)
    data = both.data(["loss"])
    kept = data[(data["run"] == "one") & data["mean"].notna()]
    assert np.allclose(kept["mean"], means[0][kept["step"]], atol=0.3)


def test_every_picture_says_how_many_values_it_stands_for(
    spiky: tuple[lab.Comparison, list[pd.Series]],
    store_run: Callable[..., Run],  # noqa: F811
) -> None:
    both, _ = spiky
    assert "5,000 values per run<" in both.figure("loss").layout.title.text
    assert "5,000 values<" in both.difference_figure("loss").layout.title.text
    assert "20 evaluations per run" in both.figure("loss", "kl").layout.title.text
    short = lab.compare([store_run("short", steps=30), store_run("shorter", steps=20)])
    assert "20 to 30 values per run" in short.figure("loss").layout.title.text
    assert "20 values<" in short.difference_figure("loss").layout.title.text
    assert "190 distances<" in short.difference_figure("loss", "kl").layout.title.text


def test_what_is_saved_of_a_long_run_is_every_value(spiky: tuple[lab.Comparison, list[pd.Series]]) -> None:
    both, losses = spiky
    whole = both.data(["loss"], whole=True)
    one = whole[whole["run"] == "one"].set_index("step")
    assert np.allclose(one["value"], losses[0])
    assert np.allclose(one["mean"], losses[0].rolling(125, min_periods=1).mean())
    assert np.allclose(both.difference("loss", whole=True)["value"], losses[0] - losses[1])


def test_what_happened_is_marked_in_the_colour_of_its_run(store_run: Callable[..., Run]) -> None:  # noqa: F811
    runs = [
        store_run("one", steps=30, warnings=("too <b>hot</b>",)),
        store_run("other", steps=20, objective="dpo", warnings=("cold",)),
    ]
    both = lab.compare(runs)
    for figure in (both.figure("loss"), both.difference_figure("loss")):
        traces = {trace.legendgroup: trace for trace in figure.data if trace.name == "events"}
        assert set(traces) == set(both.labels)
        message = list(traces[both.labels[0]].text)
        assert any("too &lt;b&gt;hot" in each for each in message)
        assert traces[both.labels[0]].marker.color[message.index(next(w for w in message if "hot" in w))] == LIGHT[0]
        assert traces[both.labels[0]].y[0] != traces[both.labels[1]].y[0], "a row each"
        assert figure.layout.yaxis2.overlaying == "y"
    by_pairs = both.figure("loss", "pairs")
    marks = next(trace for trace in by_pairs.data if trace.name == "events")
    assert marks.x[-1] == 240
    assert marks.customdata[-1] == 30
    by_kl = next(trace for trace in both.figure("eval/oracle_reward", "kl").data if trace.name == "events")
    assert np.allclose(by_kl.x, [0.3])
    assert "events" not in [trace.name for trace in both.figure("loss", "clock").data], "these stores have no clocks"


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
