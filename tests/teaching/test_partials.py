"""The derivatives of the Learn page are those of autograd through the embedded world's model."""

from __future__ import annotations

import pytest
import torch

from lab.objectives import make_objective
from lab.teaching import compare_partials, tokens_of_world, world_pairs

DIFFERENCES = ["d_log_x1_difference", "d_log_x2_difference"]


@pytest.mark.parametrize(("name", "parameters"), [("dpo", {}), ("alpha_dpo", {"alpha": 0.2})])
def test_they_equal_autograd_through_the_model_on_20_pairs(name: str, parameters: dict[str, float]) -> None:
    table = compare_partials(make_objective(name, **parameters))
    assert len(table) == 20
    assert table[DIFFERENCES].abs().max(axis=None) < 1e-6
    assert table["residual"].max() < 1e-5
    # The points differ from each other and from the beginning, so that equal numbers mean something.
    assert table["d_log_x1_page"].max() - table["d_log_x1_page"].min() > 1e-3
    assert table[["log_x1", "log_x2"]].abs().min(axis=None) > 0


def test_the_pilots_of_real_tokens_are_not_those_of_even_ones() -> None:
    objective = make_objective("sgdpo")
    even, real = (compare_partials(objective, evenly=evenly) for evenly in (True, False))
    assert real[DIFFERENCES].abs().max(axis=None) < 1e-6
    assert even[DIFFERENCES].abs().max(axis=None) > 1e-5


def test_a_loss_that_weighs_tokens_differently_has_a_residual() -> None:
    table = compare_partials(make_objective("sgdpo", detach_pilot=False), evenly=False)
    assert table["residual"].min() > 1e-3


def test_a_pair_of_the_world_has_texts_and_a_reference() -> None:
    tokens = tokens_of_world(1)
    world = world_pairs()
    assert len(tokens.chosen) == tokens.logps.chosen.shape[1] == len(world.pairs[1].answers[0])
    assert float(tokens.logps.X1.abs()) > 1e-3
    with torch.no_grad():
        whole = world.logps()
    torch.testing.assert_close(tokens.logps.X2[0], whole.X2[1])
    with pytest.raises(ValueError, match="no pair 20"):
        tokens_of_world(20)
    with pytest.raises(ValueError, match="give 1 to"):
        world_pairs(pairs=10**6)
