"""Figures of runs: what they show, how big they are, what they say when there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.plots import FIGURES, GLOSSARY, Record, curves, distribution, layers, run_figure, run_parts
from lab.plots.comparison.overlay import overlay
from lab.plots.style import UPRIGHT
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.store import LayerRow, PanelRow, StoreWriter
from lab.training.metrics import batch_scalars
from lab.training.run_folder import create_run

LIMIT = 1000


class Filled:
    """A run folder and the writer that fills it."""

    def __init__(self, folder: Path) -> None:
        create_run(folder, TrainConfig.parse(objective="sgdpo"), pairs_store="", pairs_version=0, pairs_name="world")
        self.store = StoreWriter(folder)
        self.store.flush()
        self.run = Run(folder)

    def train(self, first: int, last: int, *, shift: float = 0.0, value: float | None = None) -> Run:
        for step in range(first, last + 1):
            names = ("loss", "reward_chosen", "reward_rejected", "logps_chosen", "logps_rejected", "pilot_chosen", "weight_chosen")
            rng = np.random.default_rng(step)
            terms = {name: (rng.normal(shift, 1, 4) if value is None else np.full(4, value)).astype(np.float32) for name in names}
            self.store.scalars(step, batch_scalars(terms) | {"pairs_per_second": 10.0, "eval/oracle_reward": 0.5})
            self.store.pair_terms(step, [f"p{i}" for i in range(4)], [0] * 4, terms)
            self.store.layers(step, [LayerRow("layers.0", 1.0, 2.0, -0.5, 1e-4), LayerRow("<b>head</b>", 0.5, 0.1, 0.5, 0.0)])
            self.store.panel(
                step, [panel_row(f"h{i}", -50.0 - i - 0.01 * step, -60 - 0.05 * step, -9 + 0.01 * step) for i in range(8)]
            )
        self.store.event(last, "checkpoint", folder=f"step-{last}")
        self.store.status(step=last)
        self.store.flush()
        return self.run


def panel_row(pair: str, chosen: float, rejected: float, greedy: float, *, answer: str = "First mix, then knead.") -> PanelRow:
    return PanelRow(pair, chosen, rejected, greedy, 50, 40, 30, answer, True)


@pytest.fixture
def filled(tmp_path: Path) -> Any:
    made = Filled(tmp_path / "run")
    yield made
    made.store.close()


def checked(figure: go.Figure) -> go.Figure:
    """The figure, once Plotly has validated it and no series is longer than a screen needs."""
    for trace in figure.data:
        for axis in ("x", "y"):
            values = getattr(trace, axis)
            assert values is None or (isinstance(values, np.ndarray) and len(values) <= LIMIT)
    plain = figure.to_plotly_json()
    plain["layout"].pop("template")
    go.Figure(plain)
    return figure


def titles(figure: go.Figure) -> str:
    return str(figure.layout.title.text)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", sorted(FIGURES))
def test_an_empty_run_says_what_will_appear(filled: Filled, name: str, dark: bool) -> None:
    figure = checked(run_figure(filled.run.reader, name, dark))
    assert not figure.data
    assert len(figure.layout.annotations[0].text) > 20
    assert titles(figure).startswith(FIGURES[name].title)


@pytest.mark.parametrize("steps", [1, 5])
def test_every_figure_of_a_small_run(filled: Filled, steps: int) -> None:
    record = Record(filled.train(1, steps).reader)
    for name in FIGURES:
        checked(run_figure(record, name))
    assert len(run_figure(record, "rewards").data) == 3
    panels = {"heatmap": 4, "scatter": 4}  # the parts and their marks
    assert {kind: sum(t.type == kind for t in run_figure(record, "layers").data) for kind in panels} == panels


def test_every_figure_of_a_big_run_fits_the_screen(filled: Filled) -> None:
    record = Record(filled.train(1, 3000).reader)
    sizes = {name: len(checked(run_figure(record, name)).to_json()) for name in FIGURES}
    assert max(sizes.values()) < 120_000


def test_spikes_stay_when_there_is_more_than_a_screen_shows() -> None:
    values = np.zeros(50_000)
    values[31_415], values[27_182] = 9.0, -7.0
    figure = curves(pd.DataFrame({"loss": values}, index=pd.RangeIndex(50_000, name="step")), ["loss"], title="Loss", smooth=100)
    line = figure.data[0]
    assert line.y.max() == 9
    assert line.y.min() == -7
    assert line.x[line.y.argmax()] == 31_415


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_a_gap(filled: Filled, value: float) -> None:
    filled.train(1, 20)
    with np.errstate(invalid="ignore"):
        record = Record(filled.train(21, 25, value=value).reader)
    for name in FIGURES:
        for trace in checked(run_figure(record, name)).data:
            if trace.type == "scatter" and trace.name != "events":
                assert not np.isinf(np.asarray(trace.y, float)).any()
    assert "20 more not finite" in titles(run_figure(record, "distribution:pilot_chosen"))


def test_held_out_numbers_stand_beside_the_training_ones(filled: Filled) -> None:
    run = filled.train(1, 200)
    for step in (0, 100, 200):
        filled.store.scalars(step, {"eval/loss": 0.6, "eval/rewards/margins": 0.1, "eval/rewards/accuracies": 0.7})
    filled.store.flush()
    for name in ("loss", "margins", "accuracy"):
        figure = checked(run_figure(run.reader, name))
        assert figure.layout.showlegend
        training, mean, held_out = (trace for trace in figure.data if trace.name != "events")
        assert held_out.name == "held out"
        assert held_out.line.dash == "dash"
        assert held_out.x.tolist() == [0, 100, 200]
        assert held_out.line.color == mean.line.color  # the colour of its twin
        assert "On held-out pairs" in held_out.hovertemplate.replace("<br>", " ")
        assert len(training.x) == 200


def test_an_unknown_figure_names_the_known_ones(filled: Filled) -> None:
    with pytest.raises(ValueError, match=r"no figure 'margin'.*margins"):
        run_figure(filled.train(1, 3).reader, "margin")
    with pytest.raises(ValueError, match="distribution:pilot_chosen"):
        run_figure(filled.run.reader, "distribution:nothing")


def test_any_recorded_scalar_has_a_curve(filled: Filled) -> None:
    run = filled.train(1, 20)
    figure = checked(run_figure(run.reader, "scalar:pairs_per_second"))
    assert figure.data[0].y.tolist() == [10.0] * 20
    with pytest.raises(ValueError, match=r"There is no figure 'scalar:never'.*scalar:<name>"):
        run_figure(run.reader, "scalar:never")


def test_a_run_draws_its_own_figures(filled: Filled) -> None:
    assert titles(filled.train(1, 3).figure("margins")).startswith("Reward margin")


def test_the_zoom_word_is_constant_and_differs_between_figures(filled: Filled) -> None:
    record = Record(filled.train(1, 3).reader)
    message = {name: run_figure(record, name).layout.uirevision for name in FIGURES}
    filled.train(4, 6)
    record.refresh()
    assert message == {name: run_figure(record, name).layout.uirevision for name in FIGURES}
    assert len(set(message.values())) == len(message)


@pytest.mark.parametrize("name", ["loss", "rewards/chosen", "logps/rejected", "pilot_chosen", "target_margin", "grad_norm"])
def test_a_curve_explains_its_symbol_on_hover(name: str) -> None:
    figure = checked(curves(pd.DataFrame({name: [1.0, 2.0]}), [name], title="t"))
    hover = figure.data[0].hovertemplate.replace("<br>", " ")
    assert GLOSSARY[name].meaning.split(",")[0].split("'")[0] in hover


def test_sides_have_the_same_colours_in_every_figure(filled: Filled) -> None:
    record = Record(filled.train(1, 50).reader)
    colours = {
        (trace.name, trace.line.color)
        for name in ("rewards", "logps")
        for trace in run_figure(record, name).data
        if trace.line.width == 1.5
    }
    assert len(colours) <= 2


def test_text_from_outside_is_inert() -> None:
    events = pd.DataFrame(
        [(1, 0.0, 1, "warning", {"message": "<a href='http://x'>pair</a>"})], columns=["number", "time", "step", "kind", "detail"]
    )
    columns = ["step", "layer", "norm_chosen", "norm_rejected", "cosine", "update_ratio"]
    frame = pd.DataFrame([(1, "<b>x</b>", 1.0, 1.0, 0.0, 1e-3)], columns=columns)
    marks = curves(pd.DataFrame({"loss": [1.0]}), ["loss"], title="<i>t</i>", events=events)
    assert "<a" not in "".join(marks.data[-1].text)
    assert "<i>" not in titles(marks)
    assert "<b>" not in "".join(layers(frame).data[0].y)


def test_the_update_is_drawn_by_powers_of_ten_and_said_as_it_is(filled: Filled) -> None:
    filled.store.layers(1, [LayerRow("a", 1.0, 1.0, 0.0, 1e-3), LayerRow("b", 1.0, 1.0, 0.0, 0.0), LayerRow("c", 1.0, 1.0, 0.0)])
    filled.store.flush()
    update = checked(run_figure(filled.run.reader, "layers")).data[3]
    assert update.z[:, 0].tolist()[0] == -3
    assert (update.zmin + update.zmax) / 2 == -3
    assert np.isnan(update.z[1:, 0]).all()  # nothing moved; not measured
    assert update.customdata[0, 0] == pytest.approx(1e-3)
    assert "customdata" in update.hovertemplate
    assert "learning rate" in update.hovertemplate.replace("<br>", " ")
    assert list(update.colorbar.ticktext) == ["1e-5", "1e-4", "1e-3", "1e-2", "1e-1"]


class TestPanel:
    """Where the probability goes."""

    def test_it_shows_displacement_and_squeezing(self, filled: Filled) -> None:
        """The median falls for both sides and rises for the greedy answer, from 0 on; levels are per token of each."""
        run = filled.train(0, 50)
        figure = checked(run_figure(run.reader, "panel"))
        medians = [trace for trace in figure.data if "median over the panel" in (trace.hovertemplate or "")]
        assert [trace.name for trace in medians] == ["chosen", "rejected", "greedy"] * 2
        per_token, moved = medians[:3], medians[3:]
        assert [round(float(trace.y[-1]), 4) for trace in moved] == [-0.5, -2.5, 0.5]
        assert all(trace.y[0] == 0 for trace in moved)
        assert per_token[0].y[0] == pytest.approx(-53.5 / 50)
        assert per_token[1].y[0] == pytest.approx(-60 / 40)
        assert "8 held-out pairs, scored 51 times; chosen below its start: 8 of 8" in titles(figure)
        assert "most likely anyway" in per_token[2].hovertemplate.replace("<br>", " ")

    def test_a_pair_is_named_and_its_text_inert(self, filled: Filled) -> None:
        for step in (0, 1):
            filled.store.panel(step, [panel_row("<i>p</i>", -1.0, -2.0, -3.0, answer="<script>x</script> " * 20)])
        filled.store.flush()
        figure = checked(run_figure(filled.run.reader, "panel"))
        hovers = " ".join(trace.hovertemplate or "" for trace in figure.data)
        assert "&lt;i&gt;p&lt;/i&gt;" in hovers
        assert "<script" not in hovers
        assert "<i>" not in hovers

    def test_what_is_not_finite_is_a_gap(self, filled: Filled) -> None:
        for step in (0, 1, 2):
            filled.store.panel(step, [panel_row("a", float("nan") if step == 1 else -1.0, float("-inf"), -3.0)])
        filled.store.flush()
        figure = checked(run_figure(filled.run.reader, "panel"))
        assert not any(np.isinf(np.asarray(trace.y, float)).any() for trace in figure.data)


def test_marks_of_the_clock_do_not_become_a_band(filled: Filled) -> None:
    for step in range(1, 500):
        filled.store.event(step, "checkpoint", folder=f"step-{step}")
    filled.store.event(250, "warning", message="Look.")
    trace = run_figure(filled.train(1, 500).reader, "loss").data[-1]
    assert len(trace.x) == 61
    assert "Warning: Look." in list(trace.text)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_the_shares_of_a_column_add_up_to_all_its_pairs(values: list[float], batch: int) -> None:
    frame = pd.DataFrame({"step": np.arange(len(values)) // batch, "gap": values})
    shares = distribution(frame, "gap").data[0].z
    totals = np.nansum(shares, axis=0)
    assert np.all(np.isclose(totals, 1) | (totals == 0))


def test_the_median_runs_through_the_values() -> None:
    frame = pd.DataFrame({"step": np.repeat(np.arange(100), 48), "gap": np.tile(np.linspace(-1, 3, 48), 100)})
    heat, median = distribution(frame, "gap").data
    assert np.allclose(median.y, 1, atol=1e-6)
    assert len(heat.x) == len(median.x) == 60


def test_the_confusion_counts_the_latest_steps(filled: Filled) -> None:
    for step in range(1, 61):
        old = step <= 10
        counts = {"0/0": 0.0 if old else 3.0, "0/1": 9.0 if old else 1.0, "1/0": 0.0, "1/1": 0.0}
        filled.store.scalars(step, {f"degree_confusion/{name}": count for name, count in counts.items()})
    filled.store.flush()
    figure = run_figure(filled.run.reader, "confusion")
    assert "200 answers of the latest 50 steps" in titles(figure)
    cells = checked(figure).data[0]
    assert np.allclose(cells.z, [[0.75, 0.25], [0.0, 0.0]])
    assert np.allclose(cells.customdata, [[150.0, 50.0], [0.0, 0.0]])


class TestRecord:
    """Reading on gives what reading anew gives."""

    def frames(self, record: Record) -> list[pd.DataFrame]:
        return [
            record.scalars(["loss", "rewards/margins", "never"]),
            record.layers(),
            record.panel(),
            record.events().drop(columns="detail"),
            record.terms(),
        ]

    def same(self, one: Record, other: Record) -> None:
        for mine, theirs in zip(self.frames(one), self.frames(other)):
            pd.testing.assert_frame_equal(mine, theirs, check_dtype=False)

    def test_after_more_steps(self, filled: Filled) -> None:
        kept = Record(filled.run.reader)
        for last in (3, 4, 9, 30):
            filled.train(max(kept.reader.step, 0) + 1, last)
            kept.refresh()
            self.same(kept, Record(filled.run.reader))

    @pytest.mark.parametrize("back_to", [0, 4, 10])
    def test_after_going_back_to_a_checkpoint(self, filled: Filled, back_to: int) -> None:
        for end in (5, 10):
            filled.train(end - 4, end)
        kept = Record(filled.run.reader)
        self.frames(kept)
        filled.store.forget_after(back_to)
        filled.store.event(back_to, "resumed", checkpoint=None)
        filled.train(back_to + 1, 12, shift=5.0)
        kept.refresh()
        self.same(kept, Record(filled.run.reader))

    @pytest.mark.parametrize("until", [1, 7, 20, 99])
    def test_nothing_later_than_the_moment(self, filled: Filled, until: int) -> None:
        filled.train(1, 10)
        filled.train(11, 20)
        record = Record(filled.run.reader, until)
        shown = min(until, 20)
        assert record.step == shown
        assert record.latest == 20
        assert record.scalars(["loss"]).index.max() == shown
        assert record.layers()["step"].max() == shown
        assert record.terms()["step"].max() == shown
        assert record.pairs()["step"].max() == shown
        assert record.events()["step"].max() == (20 if until >= 20 else 10 if until >= 10 else 0) or record.events().empty
        for name in FIGURES:
            for trace in checked(run_figure(record, name)).data:
                if trace.type == "scatter" and trace.x is not None and name != "plane":
                    assert np.nanmax(np.asarray(trace.x, float)) <= shown

    def test_travelling_back_and_forth_gives_what_reading_anew_gives(self, filled: Filled) -> None:
        filled.train(1, 30)
        kept = Record(filled.run.reader)
        for until in (12, 3, None, 29, 30, 1, None):
            kept.refresh(until)
            self.same(kept, Record(filled.run.reader, until))

    def test_pictures_of_a_running_run_follow_when_it_shows_and_are_exact_at_its_end_and_in_the_past(self, filled: Filled) -> None:
        filled.store.event(0, "state", state="running")
        filled.train(1, 500)
        kept = Record(filled.run.reader)
        terms, layers = kept.terms(), kept.layers()
        filled.train(501, 501)
        kept.refresh()
        assert kept.terms() is terms
        assert kept.layers() is layers
        filled.train(502, 510)
        kept.refresh()
        self.same(kept, Record(filled.run.reader))
        kept.refresh(509)
        assert kept.terms()["step"].max() == 509
        assert kept.layers()["step"].max() <= 509
        kept.refresh(None)
        filled.train(511, 511)
        filled.store.event(511, "state", state="finished")
        filled.store.flush()
        kept.refresh()
        assert kept.terms()["step"].max() == 511
        self.same(kept, Record(filled.run.reader))

    def test_without_news_nothing_is_read_and_news_cost_a_screen(self, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = Record(filled.train(1, 50).reader)
        kept.scalars(["loss"])
        read: list[int] = []
        original: Callable[..., pd.DataFrame] = kept.reader.scalars.read

        def counting(*arguments: Any, **options: Any) -> pd.DataFrame:
            frame = original(*arguments, **options)
            read.append(len(frame))
            return frame

        monkeypatch.setattr(kept.reader.scalars, "read", counting)
        before = kept.version
        kept.refresh()
        assert kept.version == before
        assert len(kept.scalars(["loss"])) == 50
        assert read == []
        filled.train(51, 1300)
        kept.refresh()
        assert kept.version != before
        assert kept.scalars(["loss"]).index[-1] == 1300
        assert len(read) == 1
        assert read[0] <= LIMIT


def test_parts_are_the_figure(filled: Filled) -> None:
    record = Record(filled.train(1, 120).reader)
    for name in FIGURES:
        parts = go.Figure(run_parts(record, name), _validate=False)
        assert parts.to_json() == run_figure(record, name).to_json()


def test_in_the_past_the_axis_keeps_its_length(filled: Filled) -> None:
    record = Record(filled.train(1, 50).reader, until=10)
    for name in ("loss", "layers", "distribution:pilot_chosen"):
        assert tuple(run_figure(record, name).layout.xaxis.range) == (0, 50)
    assert run_figure(Record(filled.run.reader), "loss").layout.xaxis.range is None


def test_a_figure_says_how_many_values_it_stands_for(filled: Filled) -> None:
    record = Record(filled.train(1, 40).reader)
    assert "40 values" in titles(run_figure(record, "loss"))
    assert "3 values" in titles(run_figure(Record(filled.run.reader, until=3), "loss"))


def test_events_are_marked_on_heat_maps_too(filled: Filled) -> None:
    figure = run_figure(filled.train(1, 50).reader, "distribution:pilot_chosen")
    assert figure.data[-1].name == "events"
    assert "Checkpoint saved" in figure.data[-1].text[0]


def test_events_are_marked_in_both_halves_of_the_panel(filled: Filled) -> None:
    figure = run_figure(filled.train(1, 50).reader, "panel")
    events = [trace for trace in figure.data if trace.name == "events"]
    assert [(trace.xaxis, trace.yaxis) for trace in events] == [("x", "y3"), ("x2", "y4")]
    assert all("Checkpoint saved" in trace.text[0] for trace in events)
    assert (figure.layout.yaxis3.overlaying, figure.layout.yaxis4.overlaying) == ("y", "y2")
    checked(figure)


def test_looks_that_are_more_than_a_screen_shows_are_counted(filled: Filled) -> None:
    for step in range(1, 1501):
        filled.store.scalars(step, {"eval/kl": step / 10})
    filled.store.flush()
    assert "1,500 values, extremes kept" in titles(run_figure(filled.run.reader, "kl"))


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_every_axis_has_its_unit(filled: Filled, name: str) -> None:
    filled.train(1, 30)
    for step in (1, 30):
        filled.store.scalars(step, dict.fromkeys(FIGURES[name].scalars, 0.5))
    filled.store.flush()
    layout = run_figure(filled.run.reader, name).layout
    if name in ("layers", "confusion") or layout.annotations:
        return
    for axis in ("xaxis", "yaxis"):
        assert layout[axis].title.text, f"{axis} of {name}"


def test_upright_titles_are_not_cut() -> None:
    frame = pd.DataFrame({"x": [0.0, 1.0], "step": [0, 1], "value": [0.0, 1.0], "mean": [0.0, 1.0]})
    for name in [*GLOSSARY, *(f"eval/rewards/{side}" for side in ("margins", "accuracies"))]:
        title = overlay({"a": frame}, name, labels=["a"]).layout.yaxis.title.text
        assert max(map(len, unescape(title).split("<br>"))) <= UPRIGHT, name
