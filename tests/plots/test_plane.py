"""The scatter of all pairs over the objective's field."""

from __future__ import annotations

from html import unescape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.objectives import OBJECTIVES, field, make_objective
from lab.plots import plane, plane_ranges
from lab.plots.landscapes.landscape import HELD_MARGIN
from lab.plots.run.plane import ALL, MOST_POINTS, OUTERMOST

HOSTILE = "<b>x</b><a href='http://example.invalid'>"


def pairs(count: int, step: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "pair": [f"{HOSTILE}{i:05d}" for i in range(count)],
            "step": step - np.arange(count) % 3,
            "log_ratio_chosen": rng.normal(1, 2, count).astype(np.float32),
            "log_ratio_rejected": rng.normal(-3, 2, count).astype(np.float32),
        }
    )


def points(figure: go.Figure) -> dict[str, go.Scattergl]:
    return {trace.name: trace for trace in figure.data if trace.type == "scattergl"}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_has_its_field_beneath_the_pairs(name: str) -> None:
    frame = pairs(30)
    axes = (torch.linspace(*span, 7) for span in plane_ranges(frame))
    objective = make_objective(name)
    state = objective.initial_state() if not objective.needs_dataset else None
    figure = plane(frame, field(objective, *axes, state=state), batch=7)
    plain = figure.to_plotly_json()
    go.Figure(plain)  # as Plotly validates it
    assert {ALL, "pairs in the batch of step 7"} == set(points(figure))
    assert any(trace.type == "heatmap" for trace in figure.data)


def in_legend(figure: go.Figure) -> list[str]:
    return [trace.name for trace in figure.data if trace.showlegend]


def test_the_legend_names_every_symbol_once() -> None:
    frame = pairs(30)
    data = field(make_objective("alpha_dpo"), *(torch.linspace(*span, 25) for span in plane_ranges(frame)), ref=(-0.2, -0.2))
    assert not data.attainable.all()
    names = in_legend(plane(frame, data, batch=7))
    assert names == [
        "thin lines: equal loss",
        "out of reach: a token probability above 1",
        "dotted: margin 0, log X₁ = log X₂",
        "arrows: direction of −∇L, all of the same length",
        ALL,
        "pairs in the batch of step 7",
    ]
    assert in_legend(plane(frame, batch=7)) == names[-2:], "no name without its symbol"
    assert in_legend(plane(frame)) == [ALL]


def test_the_plane_says_which_part_its_colour_holds_fixed() -> None:
    frame = pairs(30)
    data = field(make_objective("alpha_dpo"), *(torch.linspace(*span, 7) for span in plane_ranges(frame)))

    def notes(held: str) -> list[str]:
        return [unescape(note.text.replace("<br>", " ")) for note in plane(frame, data, held=held).layout.annotations]

    assert notes("margin") == [HELD_MARGIN]
    assert notes("") == []


def test_points_carry_their_pair_and_explain_themselves() -> None:
    frame = pairs(30)
    drawn = points(plane(frame, batch=7))
    assert [cell[0] for trace in drawn.values() for cell in trace.customdata] == [
        *frame["pair"][frame["step"] != 7],
        *frame["pair"][frame["step"] == 7],
    ]
    for trace in drawn.values():
        hover = trace.hovertemplate.replace("<br>", " ")
        assert "log π(y_w|x) − log ref(y_w|x)" in hover
        assert "nats" in hover
        assert all("<" not in cell[2] for cell in trace.customdata)  # what the label shows


def test_the_area_of_a_point_grows_with_the_weight_of_its_pair() -> None:
    frame = pairs(4, step=7).assign(weight=[1.0, 4.0, 0.0, 1000.0])
    drawn = points(plane(frame))[ALL]
    np.testing.assert_allclose((np.asarray(drawn.marker.size) / 5) ** 2, [1, 4, 0.2, 10], rtol=1e-5)
    words = ["", ", weight 4 in its set", ", weight 0 in its set", ", weight 1000 in its set"]
    assert [detail[3] for detail in drawn.customdata] == words
    assert "%{customdata[3]}" in drawn.hovertemplate


def test_more_pairs_than_a_screen_needs_are_thinned_alike_at_every_refresh() -> None:
    frame = pairs(3 * MOST_POINTS)
    moved = frame.assign(log_ratio_chosen=frame["log_ratio_chosen"] + 1)
    one, other = (plane(f) for f in (frame, moved))
    shown = [[cell[0] for cell in points(figure)[ALL].customdata] for figure in (one, other)]
    assert shown[0] == shown[1]
    assert MOST_POINTS <= len(shown[0]) <= MOST_POINTS + 4 * OUTERMOST
    assert f"{len(shown[0]):,} of {3 * MOST_POINTS:,} pairs" in one.layout.title.text


def test_of_too_many_pairs_those_that_stand_apart_and_those_of_the_batch_are_drawn() -> None:
    frame = pairs(3 * MOST_POINTS)
    frame.loc[4321, "log_ratio_chosen"], frame.loc[8000, "log_ratio_rejected"] = 500.0, -500.0
    frame["step"] = 1
    frame.loc[[7, 70, 701], "step"] = 2
    drawn = points(plane(frame, batch=2))
    assert {500.0} <= set(drawn[ALL].x)
    assert {-500.0} <= set(drawn[ALL].y)
    assert len(drawn["pairs in the batch of step 2"].x) == 3


def test_what_is_not_finite_is_left_out() -> None:
    frame = pairs(9)
    frame.loc[[1, 4], "log_ratio_chosen"] = [np.nan, np.inf]
    assert sum(len(trace.x) for trace in points(plane(frame)).values()) == 7


def test_without_log_ratios_it_says_so() -> None:
    for frame in (pairs(5).drop(columns="log_ratio_chosen"), pairs(0)):
        figure = plane(frame)
        assert not figure.data
        assert "without a reference" in figure.layout.annotations[0].text.replace("<br>", " ")


@given(st.lists(st.floats(-500, 500), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_axes_hold_every_point_and_the_origin(values: list[float]) -> None:
    frame = pd.DataFrame({"log_ratio_chosen": values, "log_ratio_rejected": values[::-1]})
    for low, high in plane_ranges(frame):
        assert low < min(*values, 0) + 1e-9
        assert high > max(*values, 0) - 1e-9
        assert high - low < 4 * max(np.ptp([*values, 0.0]), 1e-3)
