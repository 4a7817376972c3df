"""Every case of the golden file: values, gradients and state, in float64 and float32."""

from collections.abc import Sequence

import pytest
import torch

from lab.objectives import OBJECTIVES, make_objective, with_credit
from tests.objectives.helpers import GOLDEN, pairs_of


def assert_close(found: Sequence[float], expected: Sequence[float], tolerance: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert abs(a - b) <= tolerance * max(1.0, abs(b)), (a, b)


def test_the_file_names_every_objective_but_spo():
    assert {case["objective"] for case in GOLDEN} == set(OBJECTIVES) - {"spo"}
    assert len(GOLDEN) == 127


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)], ids=["float64", "float32"])
@pytest.mark.parametrize("case", GOLDEN, ids=[case["id"] for case in GOLDEN])
def test_golden(case, dtype, tolerance):
    objective = make_objective(case["objective"], **case["params"])
    p = pairs_of(case["pairs"], dtype)
    draws = {}
    for name, mask in (("pilot_chosen", p.chosen_mask), ("pilot_rejected", p.rejected_mask)):
        if name in case["pairs"][0]:
            draws[name] = torch.zeros_like(mask)
            for row, pair in enumerate(case["pairs"]):
                draws[name][row, pair[name]] = True
    state = case.get("state", objective.initial_state())
    credited = with_credit(objective, p, state, draws, training=True)
    assert_close(credited.outcome.losses.tolist(), case["loss"], tolerance)
    for side, credit in (("chosen", credited.chosen), ("rejected", credited.rejected)):
        for row, expected in enumerate(case[f"grad_{side}"]):
            gradient = -credit[row] / len(p)
            assert_close(gradient[: len(expected)].tolist(), expected, tolerance)
            assert not gradient[len(expected) :].any()
    if "state_after" in case:
        assert set(credited.state) == set(case["state_after"])
        for key, expected in case["state_after"].items():
            assert_close([float(credited.state[key])], [expected], tolerance)
