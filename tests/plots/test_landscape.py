"""Losses as landscapes: the fields and cuts of every objective, and what is drawn where a number does not exist."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from lab.objectives import OBJECTIVES, FieldData, field, flow, make_objective
from lab.plots.landscapes.landscape import QUANTITIES, descent_rate, field_figure
from lab.plots.landscapes.slices import cut, slices_figure

AXIS = torch.linspace(-4, 4, 5)


def checked(figure: go.Figure, *, validate: bool = True) -> dict[str, Any]:
    """The figure's parts, once Plotly has validated them; no series holds an infinity, which no axis can show."""
    plain = {"data": [trace._props for trace in figure.data], "layout": figure.layout.to_plotly_json()}
    plain["layout"].pop("template")
    if validate:
        go.Figure(figure.to_plotly_json() | {"layout": plain["layout"]})
    for trace in plain["data"]:
        for key in ("x", "y", "z"):
            if key in trace:
                assert not np.isinf(np.asarray(trace[key], float)).any()
    return plain


def made(value: Any, d1: Any, d2: Any, attainable: Any = True) -> FieldData:
    """A field with given numbers on a square grid."""
    loss, one, other = (torch.as_tensor(t, dtype=torch.float64) for t in (value, d1, d2))
    N = len(loss)
    axis = torch.linspace(-1, 1, N, dtype=torch.float64)
    return FieldData(axis, axis, loss, one, other, torch.as_tensor(attainable).expand(N, N))


def heat_of(plain: dict[str, Any]) -> dict[str, Any]:
    return next(trace for trace in plain["data"] if trace["type"] == "heatmap")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_its_pictures(name: str, dark: bool) -> None:
    objective = make_objective(name)
    data = field(objective, AXIS, AXIS)
    rate = descent_rate(data, steps=4)
    path = flow(objective, [(0.0, 0.0), (-2.0, 3.0)], steps=4, rate=rate)
    for quantity in QUANTITIES:
        plain = checked(field_figure(data, title=name, quantity=quantity, paths=[path], rate=rate, dark=dark))
        assert heat_of(plain)["z"].shape == (5, 5)
        assert QUANTITIES[quantity].symbol in heat_of(plain)["hovertemplate"]
        assert plain["layout"]["xaxis"]["title"]["text"] == "log X₁ [nats]"
    for quantity in ("loss", "push", "log_space_ratio"):
        lines = checked(slices_figure([cut(name, data)], quantity=quantity, dark=dark))["data"]
        assert len(lines) == (2 if quantity == "push" else 1)


def test_the_first_axis_is_the_horizontal_one() -> None:
    data = field(make_objective("dpop"), AXIS, torch.linspace(-1, 2, 4))
    heat = heat_of(checked(field_figure(data, title="t")))
    assert heat["z"].shape == (4, 5)
    assert heat["z"][1, 3] == pytest.approx(float(data.value[3, 1]))


def test_dpo_ratio_is_x2_over_x1_on_a_scale_centred_at_one() -> None:
    data = field(make_objective("dpo"), AXIS, AXIS)
    heat = heat_of(checked(field_figure(data, title="t", quantity="ratio")))
    h = AXIS[:, None] - AXIS[None, :]
    expected = np.clip((-h / math.log(10)).numpy(), -4, 4).T
    np.testing.assert_allclose(heat["z"], expected, atol=1e-6)
    assert heat["zmin"] == -heat["zmax"]
    ticks = dict(zip(heat["colorbar"]["ticktext"], heat["colorbar"]["tickvals"]))
    assert ticks["1"] == 0


def test_rounding_noise_around_one_is_no_picture() -> None:
    noisy = 1 + 1e-15 * torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = checked(field_figure(made(noisy, noisy, 2 - noisy), title="t", quantity="log_space_ratio"))
    assert (heat_of(plain)["z"] == 0).all()
    assert not any(trace["type"] == "contour" for trace in plain["data"])


def test_a_ratio_that_is_infinite_or_undefined_is_said() -> None:
    d1, d2 = torch.ones(3, 3), torch.ones(3, 3)
    d2[0, 0] = 0  # inf
    d1[1, 1] = d2[1, 1] = 0  # 0/0
    d1[2, 2] = 0  # 0
    heat = heat_of(checked(field_figure(made(torch.zeros(3, 3), d1, d2), title="t", quantity="log_space_ratio")))
    assert heat["text"][0, 0] == "∞"
    assert heat["text"][1, 1] == "undefined"
    assert heat["text"][2, 2] == "0"
    assert heat["z"][0, 0] == 4
    assert np.isnan(heat["z"][1, 1])
    assert heat["z"][2, 2] == -4
    line = checked(slices_figure([cut("a", made(torch.zeros(3, 3), d1, d2))], quantity="log_space_ratio"))["data"][0]
    assert np.isnan(line["y"][1])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_empty(value: float) -> None:
    table = torch.full((3, 3), value)
    data = made(table, table, table)
    for quantity in QUANTITIES:
        plain = checked(field_figure(data, title="t", quantity=quantity))
        assert not any(trace.get("marker", {}).get("symbol") == "arrow" for trace in plain["data"])
    for quantity in ("loss", "push", "log_space_ratio"):
        assert all(
            np.isnan(t["y"]).all() for t in checked(slices_figure([cut("a", data)], quantity=quantity, relative=True))["data"]
        )
    assert descent_rate(data, steps=5) == 1.0


def test_points_out_of_reach_are_hatched_and_said() -> None:
    data = field(make_objective("orpo"), AXIS, AXIS, tokens=(2, 2), ref=(-1.0, -1.0))
    plain = checked(field_figure(data, title="t"))
    hatching = next(t for t in plain["data"] if t.get("marker", {}).get("symbol") == "line-ne-open")
    assert len(hatching["x"]) == int((~data.attainable).sum()) > 0
    assert "Hatched" in plain["layout"]["annotations"][0]["text"]
    assert "Hatched" not in field_figure(field(make_objective("orpo"), AXIS, AXIS), title="t").layout.annotations[0].text


def test_out_of_reach_sets_no_colour_no_step_and_no_curve() -> None:
    objective, axis = make_objective("orpo"), torch.linspace(-4, 4, 17)
    near, beyond = (field(objective, axis, axis, tokens=(2, 2), ref=(r, r)) for r in (-2.5, -1.0))
    assert near.attainable.all()
    for data in (near, beyond):
        heat = heat_of(checked(field_figure(data, title="t", quantity="d_log_x1")))
        assert heat["zmax"] == pytest.approx(float(data.d_log_x1[data.attainable].abs().max()), rel=1e-5)
    assert np.isnan(cut("orpo", beyond).loss[-1])
    assert np.isfinite(cut("orpo", near).loss).all()
    path = flow(make_objective("dpo"), [(1.0, 0.0)], steps=60, rate=3.0)
    line, _ = checked(field_figure(beyond, title="t", paths=[path]))["data"][-2:]
    assert np.nanmax(line["x"]) <= 2 < path.log_x1.max()


def test_arrows_have_one_length_and_go_downhill() -> None:
    data = field(make_objective("sgdpo"), AXIS, AXIS)
    arrows = next(t for t in checked(field_figure(data, title="t"))["data"] if t.get("marker", {}).get("symbol") == "arrow")
    x, y = arrows["x"].reshape(-1, 3).astype(float), arrows["y"].reshape(-1, 3).astype(float)
    right, up = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]
    np.testing.assert_allclose(np.hypot(right, up), np.hypot(right, up)[0], rtol=1e-4)
    np.testing.assert_allclose(np.arctan2(up, right), np.arctan2(-data.d_log_x2, -data.d_log_x1).ravel(), atol=1e-4)


def test_a_path_starts_in_a_ring_and_ends_where_descent_breaks() -> None:
    data, path = field(make_objective("dpo"), AXIS, AXIS), flow(make_objective("dpo"), [(0.0, 0.0), (1.0, 1.0)], steps=4)
    path.value[2:, 1] = math.nan
    line, rings = checked(field_figure(data, title="t", paths=[path]))["data"][-2:]
    assert list(rings["x"]) == [0, 1]
    first, second = line["x"].reshape(2, 6)
    assert np.isfinite(first).sum() == 5
    assert np.isfinite(second).sum() == 2
    assert np.flatnonzero(line["marker"]["size"]).tolist() == [4, 7]


def test_a_cut_follows_the_margin_or_one_side() -> None:
    dpo = make_objective("dpo", beta=0.5)
    whole = cut("dpo", field(dpo, AXIS, 2 * AXIS))
    assert whole.along[0] == "log X₁ − log X₂"
    np.testing.assert_allclose(whole.along[1], 3 * AXIS.numpy(), atol=1e-6)
    np.testing.assert_allclose(whole.loss, np.log1p(np.exp(-0.5 * whole.along[1])), atol=1e-9)
    one = cut("dpo", field(dpo, AXIS, torch.tensor([1.5])))
    assert one.along[0] == "log X₁"
    assert one.where == "at log X₂ = 1.5"
    np.testing.assert_allclose(one.loss, np.log1p(np.exp(-0.5 * (AXIS.numpy() - 1.5))), atol=1e-6)
    assert cut("dpo", field(dpo, torch.tensor([0.0]), AXIS)).along[0] == "log X₂"
    with pytest.raises(ValueError, match="5 x 3; a cut needs"):
        cut("dpo", field(dpo, AXIS, AXIS[:3]))


def test_relative_curves_keep_the_ratio_of_the_sides() -> None:
    data = field(make_objective("dpop", lam=50.0), AXIS, AXIS)
    up, down = (t["y"] for t in checked(slices_figure([cut("a", data)], quantity="push"))["data"])
    relative = [t["y"] for t in checked(slices_figure([cut("a", data)], quantity="push", relative=True))["data"]]
    np.testing.assert_allclose(relative[0] * down, relative[1] * up, rtol=1e-4)
    assert max(np.abs(relative[0]).max(), np.abs(relative[1]).max()) == pytest.approx(1)


def test_names_are_no_markup_and_unknown_quantities_are_refused() -> None:
    data = field(make_objective("dpo"), AXIS, AXIS)
    assert slices_figure([cut("<b>x</b>", data)]).data[0].name == "&lt;b&gt;x&lt;/b&gt;"
    assert "<b>x" not in field_figure(data, title="<b>x</b>").layout.title.text
    with pytest.raises(ValueError, match="no quantity 'los'"):
        field_figure(data, title="t", quantity="los")
    with pytest.raises(ValueError, match="choose loss, push or"):
        slices_figure([], quantity="ratio")
    assert "once an objective is chosen" in slices_figure([]).layout.annotations[0].text.replace("<br>", " ")


@settings(max_examples=30, deadline=None)
@given(
    numbers=some.lists(some.floats(allow_nan=True, allow_infinity=True), min_size=27, max_size=27),
    quantity=some.sampled_from(sorted(QUANTITIES)),
)
def test_no_numbers_break_a_picture(numbers: list[float], quantity: str) -> None:
    value, d1, d2 = torch.tensor(numbers, dtype=torch.float64).view(3, 3, 3)
    data = made(value, d1, d2)
    with np.errstate(over="ignore", invalid="ignore"):
        checked(field_figure(data, title="t", quantity=quantity), validate=False)
        for one in ("loss", "push", "log_space_ratio"):
            checked(slices_figure([cut("a", data)], quantity=one, relative=True), validate=False)
    assert descent_rate(data, steps=10) > 0
