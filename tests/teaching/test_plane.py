"""Objectives over the plane: arrays, exact numbers at a point, curves, descent, and the statistics that they use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lab.glossary import FIELD_QUANTITIES
from lab.objectives import OBJECTIVES, field, make_objective
from lab.plots.landscapes.landscape import descent_rate
from lab.teaching import PairNumbers, Plane, along, descent, field_arrays, landscape, pair_logps, read_point
from lab.teaching import plane as planes

SMALL = Plane(log_x1=(-4, 4), log_x2=(-3, 5), tokens=(5, 7), ref=(-1.5, -2.0), seed=3)


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "FINE", 9)
    monkeypatch.setattr(planes, "COARSE", 5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_arrays_agree_with_exact_numbers_at_their_points(name: str) -> None:
    objective = make_objective(name)
    arrays = field_arrays(objective, SMALL)
    assert arrays.layers.keys() == FIELD_QUANTITIES.keys()
    N, M = len(arrays.log_x1), len(arrays.log_x2)
    assert N == M == (planes.COARSE if objective.couples(training=False) else planes.FINE)
    for i, j in ((0, M - 1), (N // 3, M // 4), (N - 1, 0)):
        reading = read_point(objective, SMALL, (float(arrays.log_x1[i]), float(arrays.log_x2[j])))
        numbers = {
            "loss": reading.loss,
            "ratio": reading.ratio,
            "log_space_ratio": reading.log_space_ratio,
            "d_log_x1": -reading.push_chosen,
            "d_log_x2": reading.push_rejected,
        }
        for quantity, value in numbers.items():
            np.testing.assert_allclose(arrays.layers[quantity][i, j], value, rtol=1e-4, atol=1e-6, err_msg=quantity)
        following = (arrays.next_log_x1[i, j], arrays.next_log_x2[i, j])
        np.testing.assert_allclose(following, reading.next_point, rtol=1e-4, atol=1e-4)
        assert arrays.rate == reading.rate
        assert bool(arrays.attainable[i, j]) == reading.attainable
        assert reading.terms["loss"] == reading.loss == float(reading.outcome.losses[0])
        again, _ = objective(reading.logps, reading.state, reading.draws, training=False)
        assert float(again.losses[0]) == reading.loss


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo"])
def test_the_pushes_are_the_slopes_of_the_loss(name: str) -> None:
    objective, step = make_objective(name), 1e-5
    here = read_point(objective, SMALL, (0.7, -1.1))
    right, left = (read_point(objective, SMALL, (0.7 + d, -1.1)).loss for d in (step, -step))
    up, down = (read_point(objective, SMALL, (0.7, -1.1 + d)).loss for d in (step, -step))
    assert here.push_chosen == pytest.approx(-(right - left) / (2 * step), rel=1e-6)
    assert here.push_rejected == pytest.approx((up - down) / (2 * step), rel=1e-6)


def test_dpo_has_the_papers_ratio_and_equal_pushes() -> None:
    reading = read_point(make_objective("dpo"), Plane(), (1.0, -2.0))
    assert reading.ratio == pytest.approx(math.exp(-3.0))
    assert reading.log_space_ratio == pytest.approx(1.0)
    assert reading.push_chosen == pytest.approx(0.1 / (1 + math.exp(0.3)))
    assert len(reading.credit_chosen) == 8
    assert reading.credit_chosen[0] == pytest.approx(reading.push_chosen)
    further = read_point(make_objective("dpo"), Plane(), (90.0, -200.0), rate=2.0)
    assert not further.attainable
    assert further.rate == 2.0


def test_arrays_are_kept_and_cannot_be_changed() -> None:
    objective = make_objective("sgdpo")
    arrays = field_arrays(objective, SMALL)
    assert field_arrays(make_objective("sgdpo"), Plane(**vars(SMALL))) is arrays
    with pytest.raises(ValueError, match="read-only"):
        arrays.layers["loss"][0, 0] = 1
    assert arrays.layers["loss"].dtype == np.float32
    assert arrays.next_log_x1.dtype == arrays.log_x1.dtype == np.float64


def test_the_step_has_the_given_or_an_automatic_size(few_points: None) -> None:
    objective, plane = make_objective("dpo"), Plane(seed=11)
    arrays = field_arrays(objective, plane)
    assert arrays.rate == descent_rate(landscape(objective, plane).data, steps=planes.STEPS)
    other = field_arrays(objective, plane, rate=4.0)
    expected = other.log_x1[:, None] - 4.0 * other.layers["d_log_x1"]
    np.testing.assert_allclose(other.next_log_x1, expected, atol=1e-5)
    for rate in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive number"):
            field_arrays(objective, plane, rate=rate)


def test_cuts_lie_on_the_landscape() -> None:
    plane, objective = Plane(tokens=(4, 6), seed=5), make_objective("sgdpo", r1=0.75)
    whole = landscape(objective, plane)
    line = along(objective, plane, "log X₁", 0.0)
    middle = whole.data.log_x2.abs().argmin()
    assert line.value[0, 0] == pytest.approx(float(whole.data.value[0, middle]))
    assert line.value[-1, 0] == pytest.approx(float(whole.data.value[-1, middle]))


def test_descent_begins_at_the_point_and_takes_the_steps_of_the_reading(few_points: None) -> None:
    objective, plane = make_objective("sgdpo"), Plane(seed=12)
    path = descent(objective, plane, (1.0, 2.0), steps=5)
    assert (float(path.log_x1[0, 0]), float(path.log_x2[0, 0])) == (1.0, 2.0)
    reading = read_point(objective, plane, (1.0, 2.0))
    assert (float(path.log_x1[1, 0]), float(path.log_x2[1, 0])) == pytest.approx(reading.next_point)
    assert (path.value[-1] < path.value[0]).all()


def test_moving_statistics_are_those_of_the_small_batch(few_points: None) -> None:
    objective = make_objective("alpha_dpo", alpha=0.2)
    batch = (PairNumbers(1.0, -1.0), PairNumbers(-3.0, 2.0))
    after = landscape(objective, Plane(batch=batch))
    before = landscape(objective, Plane(batch=batch, statistics="before the first step"))
    gaps = torch.tensor([2.0, -5.0]).double() / 8
    assert float(after.state["mean"]) / 0.1 == pytest.approx(float(gaps.mean()))
    assert float(after.state["std"]) / 0.1 == pytest.approx(float(gaps.std()))
    assert float(before.state["std"]) == 0
    simpo = make_objective("simpo", beta=10.0, gamma_beta_ratio=0.4)
    axis = after.data.log_x1
    torch.testing.assert_close(before.data.value, field(simpo, axis, axis).value)
    assert not torch.allclose(after.data.value, before.data.value)
    dataset = make_objective("alpha_dpo", normalize="dataset")
    state = dataset.dataset_state([pair_logps(batch)])
    assert landscape(dataset, Plane(batch=batch, statistics="before the first step")).state == state
    landscape(make_objective("spo", base={"name": "alpha_dpo"}), Plane())
    own = {"mean": torch.tensor(0.3).double(), "std": torch.tensor(0.2).double(), "count": torch.tensor(9)}
    given = field_arrays(objective, Plane(), state=own)
    reading = read_point(objective, Plane(), (float(given.log_x1[2]), float(given.log_x2[3])), state=own)
    np.testing.assert_allclose(given.layers["loss"][2, 3], reading.loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"log_x1": (3, -3)}, "ends above its beginning"),
        ({"log_x2": (math.nan, 1)}, "ends above its beginning"),
        ({"log_x2": (-1e9, 1)}, "within 500"),
        ({"tokens": (0, 4)}, "from 1 to 512"),
        ({"ref": (-1, 2)}, "from -20 to 0"),
        ({"batch": ()}, "0 pairs"),
        ({"batch": (PairNumbers(0, 0),) * 13}, "13 pairs"),
        ({"statistics": "none"}, "no statistics 'none'"),
    ],
)
def test_a_plane_beyond_the_limits_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plane(**wrong)  # type: ignore[arg-type]
