"""Many draws for one pair: each is the objective's own, and the distribution has the right mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.objectives import OBJECTIVES, PairLogps, make_objective, with_credit
from lab.teaching import PairNumbers, current_draw, has_draws, pair_logps, pilot_distribution


def uneven(n_w: int = 10, n_l: int = 7) -> PairLogps:
    """Two pairs whose tokens differ, the second one shorter than the padding."""
    rng = torch.Generator().manual_seed(5)
    chosen, rejected, ref_chosen, ref_rejected = (
        -torch.rand(2, n, generator=rng, dtype=torch.float64) for n in (n_w, n_l, n_w, n_l)
    )
    mask_w, mask_l = (torch.arange(n) < torch.tensor([[n], [n - 2]]) for n in (n_w, n_l))
    return PairLogps(
        *(torch.where(m, v, 0.0) for v, m in ((chosen, mask_w), (rejected, mask_l))), mask_w, mask_l, ref_chosen, ref_rejected
    )


def test_every_row_is_a_draw_of_the_objective() -> None:
    objective, logps = make_objective("sgdpo", r1=0.5, r2=0.8), uneven()
    table = pilot_distribution(objective, logps, 1, draws=40, seed=3)
    assert table.columns[:4].tolist() == ["pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected"]
    pair = logps.map(lambda value: value[1:2])
    ratios, seen = pair.ratio_chosen[0], set()
    for number in range(8):
        repeated = pair.map(lambda value: value.expand(40, *value.shape[1:]))
        draws = objective.draw(repeated, torch.Generator().manual_seed(3))
        own = {name: value[number : number + 1] for name, value in draws.items()}
        terms = with_credit(objective, pair, {}, own, training=False).outcome.terms
        for name in table.columns:
            assert table[name][number] == pytest.approx(float(terms[name][0])), name
        assert int(own["pilot_chosen"].sum()) == 2  # int(0.5 * min(8, 5))
        assert table["pilot_chosen"][number] == pytest.approx(float(ratios[own["pilot_chosen"][0]].sum()))
        seen.add(round(float(table["pilot_chosen"][number]), 9))
    assert len(seen) > 1


def test_the_mean_of_a_pilot_is_its_share_of_the_log_ratio() -> None:
    objective, logps = make_objective("sgdpo"), uneven(10, 10)
    table = pilot_distribution(objective, logps, 0, draws=4000)
    error = table["pilot_chosen"].std() / np.sqrt(len(table))
    assert table["pilot_chosen"].mean() == pytest.approx(0.6 * float(logps.X1[0]), abs=5 * error)
    assert len(pilot_distribution(objective, logps)) == 1000


def test_whole_pilots_do_not_vary() -> None:
    objective, logps = make_objective("sgdpo", r1=1.0, r2=1.0), uneven(6, 6)
    table = pilot_distribution(objective, logps, 0, draws=50)
    assert table.columns.tolist() == ["pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected"]
    np.testing.assert_allclose(table["pilot_chosen"], float(logps.X1[0]))
    np.testing.assert_allclose(table["pilot_rejected"], float(logps.X2[0]))


def test_the_present_draw_has_its_masks_and_terms() -> None:
    objective, logps = make_objective("sgdpo"), uneven()
    draw = current_draw(objective, logps, 1, seed=4)
    assert {name: len(mask) for name, mask in draw.masks.items()} == {"pilot_chosen": 8, "pilot_rejected": 5}
    assert sum(draw.masks["pilot_chosen"]) == 3
    ratios = logps.ratio_chosen[1, :8]
    assert draw.terms["pilot_chosen"] == pytest.approx(float(ratios[torch.tensor(draw.masks["pilot_chosen"])].sum()))
    assert draw.masks == current_draw(objective, logps, 1, seed=4).masks
    assert any(draw.masks != current_draw(objective, logps, 1, seed=seed).masks for seed in range(5, 9))


def test_spo_draws_what_its_base_draws() -> None:
    objective = make_objective("spo", base="sgdpo")
    logps = pair_logps([PairNumbers(1.0, -1.0)])
    assert {"pilot_chosen", "weight_chosen"} <= set(pilot_distribution(objective, logps, draws=5).columns)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_without_draws_is_refused(name: str) -> None:
    objective = make_objective(name)
    assert has_draws(objective) == (name == "sgdpo")
    if not has_draws(objective):
        with pytest.raises(ValueError, match="draws nothing at random"):
            pilot_distribution(objective, uneven())


def test_what_has_no_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="no row 2"):
        current_draw(make_objective("sgdpo"), uneven(), 2)
    with pytest.raises(ValueError, match="0 draws"):
        pilot_distribution(make_objective("sgdpo"), uneven(), draws=0)
