"""Figures of one pair: its history, what a virtual step did, what is painted on tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lab.plots import KINDS, edits_of, history_groups, history_table, layer_bars, paint, paintable, pair_history, virtual_step


def history(times: int, edited_at: int | None = None) -> pd.DataFrame:
    steps = np.arange(1, times + 1) * 10
    version = np.where(steps >= (edited_at or 10**9), 2, 1)
    return pd.DataFrame(
        {"pair": "a", "step": steps, "version": version, "loss": 1.0 / steps, "logps_chosen": -1.0 * steps, "own_term": 2.0}
    )


def checked(figure: go.Figure) -> go.Figure:
    """The figure, once Plotly has validated it."""
    plain = figure.to_plotly_json()
    plain["layout"].pop("template")
    go.Figure(plain)
    return figure


def test_terms_are_drawn_by_their_kind() -> None:
    groups = history_groups(history(3))
    assert groups == {"Loss": ["loss"], "Log-probs": ["logps_chosen"], "own_term": ["own_term"]}
    table = history_table(history(3))
    assert list(table["now"]) == [1 / 30, -30.0, 2.0]
    assert list(table["change"]) == [1 / 30 - 1 / 10, -20.0, 0.0]


@pytest.mark.parametrize("dark", [False, True])
def test_a_history_marks_edits_and_the_moment(dark: bool) -> None:
    figure = checked(pair_history(history(5, edited_at=30), ["loss"], title="Loss", shown=40, dark=dark))
    assert list(figure.data[0].x) == [10, 20, 30, 40, 50]
    assert list(figure.data[0].customdata) == [1, 1, 2, 2, 2]
    assert sorted((shape["x0"], shape["line"]["dash"]) for shape in figure.layout.shapes) == [(30, "dash"), (40, "dot")]
    assert [note["text"] for note in figure.layout.annotations] == ["version 2"]
    assert figure.layout.yaxis.title.text == "nats"


def test_a_history_marks_what_happened_in_the_run() -> None:
    events = pd.DataFrame(
        [(1, 0.0, 20, "warning", {"message": "too hot"}), (2, 0.0, 30, "state", {}), (3, 0.0, 40, "checkpoint", {"folder": "x"})],
        columns=["number", "time", "step", "kind", "detail"],
    )
    marked = checked(pair_history(history(5), ["loss"], title="Loss", events=events)).data[-1]
    assert list(marked.x) == [40, 20]
    assert list(marked.text) == ["Checkpoint saved: x", "Warning: too hot"]


def test_a_long_history_is_thinned_and_an_empty_one_says_so() -> None:
    assert len(checked(pair_history(history(5000), ["loss"], title="Loss")).data[0].x) <= 1000
    thinned = history(1000)
    thinned.attrs["stands_for"] = 5000
    assert "1,000 of 5,000 times seen<" in pair_history(thinned, ["loss"], title="Loss").layout.title.text
    empty = checked(pair_history(history(0), ["loss"], title="Loss"))
    assert "appears when this pair is first trained on" in empty.layout.annotations[0]["text"].replace("<br>", " ")


def test_a_virtual_step_is_split_at_nothing() -> None:
    changes = np.array([0.2, 0.1, -0.05, 0.0, np.nan])
    figure = checked(virtual_step(changes, 0.5))
    bars = figure.data[0]
    assert sum(bars.y) == 4
    title = figure.layout.title.text
    for message in ("2 helped", "1 hurt", "1 unmoved", "1 not finite"):
        assert message in title
    assert len(set(bars.marker.color)) == 2
    assert "this pair: +0.5" in figure.layout.annotations[0]["text"]
    assert checked(virtual_step(np.zeros(3), 0.0)).data[0].y.sum() == 3
    assert not checked(virtual_step(np.array([]), 0.1)).data


@pytest.mark.parametrize("dark", [False, True])
def test_the_layers_of_one_step_have_a_bar_for_each_side(dark: bool) -> None:
    frame = pd.DataFrame(
        {
            "step": 1,
            "layer": ["layers.0", "<b>head</b>"],
            "norm_chosen": [1.0, 0.5],
            "norm_rejected": [2.0, 0.1],
            "cosine": [-0.5, 0.5],
            "update_ratio": [1e-3, np.nan],
        }
    )
    figure = checked(layer_bars(frame, dark=dark))
    assert [list(bars.x) for bars in figure.data] == [[1.0, 0.5], [2.0, 0.1]]
    assert figure.data[0].marker.color != figure.data[1].marker.color
    assert "<b>" not in "".join(figure.data[0].y)
    assert figure.layout.xaxis.range[1] == pytest.approx(2.1)
    assert layer_bars(frame, largest=4.0).layout.xaxis.range[1] == pytest.approx(4.2), "two figures can have one scale"
    assert not checked(layer_bars(frame.iloc[:0], dark=dark)).data


def tokens(pilot: bool = True, reference: bool = True) -> pd.DataFrame:
    rows = []
    for side, sign in (("chosen", 1), ("rejected", -1)):
        logps = np.array([-1.0, -2.0, -3.0], np.float32)
        ref = logps - sign * np.array([0.5, 0.0, 1.0], np.float32)
        mask = np.array([True, False, True]) if pilot else None
        rows.append(("a", side, np.arange(3), logps, ref if reference else None, np.full(3, 0.1 * sign, np.float32), mask))
    return pd.DataFrame(rows, columns=["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"])


def test_what_is_painted() -> None:
    painted = paint(tokens(), "log_ratio")
    np.testing.assert_allclose(painted.values["chosen"], [0.5, 0, 1])
    np.testing.assert_allclose(painted.values["rejected"], [-0.5, 0, -1])
    assert 0.5 < painted.limit <= 1
    assert paint(tokens(), "credit").limit == pytest.approx(0.1)
    drawn = paint(tokens(), "pilot")
    assert drawn.drawn
    np.testing.assert_array_equal(drawn.values["chosen"], [1, 0, 1])
    assert paintable(tokens()) == list(KINDS)
    assert paintable(tokens(pilot=False, reference=False)) == ["credit"]
    assert paintable(tokens().iloc[:0]) == []
    with pytest.raises(ValueError, match="cannot be painted with 'pilot'; they hold log_ratio, credit"):
        paint(tokens(pilot=False), "pilot")


def test_an_edit_is_described_by_the_numbers_before_and_after():
    frame = pd.DataFrame(
        {"step": [2, 5, 9, 11], "version": [1, 1, 3, 4], "margin": [-0.5, -0.25, 0.5, 0.75], "loss": [1.0, 0.9, 0.5, 0.4]}
    )
    edits = edits_of(frame)
    assert edits["version"].tolist() == [3, 4]
    assert edits[["step_before", "step_after"]].to_numpy().tolist() == [[5, 9], [9, 11]]
    assert edits[["margin_before", "margin_after"]].to_numpy().tolist() == [[-0.25, 0.5], [0.5, 0.75]]
    assert edits_of(frame.iloc[:2]).empty
