"""The notebook cell that the Learn page offers draws the page's own picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from lab.objectives import make_objective
from lab.teaching import PairNumbers, Plane, cell_source, field_arrays, objective_source, read_point
from lab.teaching.cells import STEPS

OBJECTIVES = [
    make_objective("dpo", beta=0.3),
    make_objective("alpha_dpo", alpha=0.1, normalize="batch", reference="policy"),
    make_objective("spo", base={"name": "sgdpo", "r1": 0.75}),
]
PLANE = Plane(
    (-5.0, 6.0),
    tokens=(6, 9),
    batch=(PairNumbers(1.0, -2.0, (3, 4)), PairNumbers(0.5, 0.25)),
    seed=2,
    statistics="before the first step",
)


def drawn(source: str) -> tuple[dict[str, Any], list[go.Figure]]:
    figures: list[go.Figure] = []
    names: dict[str, Any] = {"display": figures.append}
    exec(compile(source, "cell", "exec"), names)
    return names, figures


@pytest.mark.parametrize(("plane", "rate"), [(PLANE, 2.5), (Plane(), None)])
def test_the_cell_draws_the_arrays_of_the_page(plane: Plane, rate: float | None) -> None:
    names, figures = drawn(cell_source(OBJECTIVES, plane, quantity="d_log_x1", point=(1.0, -2.0), rate=rate))
    assert names["objectives"] == OBJECTIVES
    assert names["plane"] == plane
    for objective, figure in zip(OBJECTIVES, figures, strict=True):
        arrays = field_arrays(objective, plane, rate=rate)
        heat = next(trace for trace in figure.data if trace.type == "heatmap")
        reach = arrays.attainable.T
        np.testing.assert_allclose(np.asarray(heat.z, float)[reach], arrays.layers["d_log_x1"].T[reach], rtol=1e-5, atol=1e-9)
        assert figure.layout.title.text.startswith(objective.name)
    path = names["path"]
    assert len(path.log_x1) == STEPS // 2 + 1
    reading = read_point(OBJECTIVES[-1], plane, (1.0, -2.0), rate=rate)
    assert (float(path.log_x1[1, 0]), float(path.log_x2[1, 0])) == pytest.approx(reading.next_point)


def test_the_colour_of_the_loss_says_what_is_held_fixed() -> None:
    _, (figure,) = drawn(cell_source([make_objective("alpha_dpo")], Plane()))
    assert any("margin" in (note.text or "") for note in figure.layout.annotations)


def test_only_what_differs_is_written() -> None:
    assert objective_source(make_objective("dpo")) == "lab.OBJECTIVES['dpo']()"
    assert objective_source(make_objective("sgdpo", r1=0.75)) == "lab.OBJECTIVES['sgdpo'](r1=0.75)"
    assert "plane = Plane()\n" in cell_source([make_objective("dpo")], Plane())
    with pytest.raises(ValueError, match="no quantity"):
        cell_source([make_objective("dpo")], Plane(), quantity="x")
    with pytest.raises(ValueError, match="no objective"):
        cell_source([], Plane())
