"""The small batch: its terms are the objective's own, and one pair changes another's only where the objective couples them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.objectives import OBJECTIVES, make_objective, with_credit
from lab.teaching import USUAL_BATCH, PairNumbers, batch_table, couples_pairs, influence, influence_note, pair_logps
from lab.teaching.small_batch import COMPARED


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_a_table(name: str) -> None:
    objective = make_objective(name)
    table = batch_table(objective, USUAL_BATCH)
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert table["log_ratio_chosen"].tolist() == pytest.approx([p.log_x1 for p in USUAL_BATCH])
    assert table["tokens_rejected"].tolist() == [p.tokens[1] for p in USUAL_BATCH]
    assert {"loss", "weight_chosen", "weight_rejected", "margin"} <= set(table.columns)
    assert not table.isna().all().any()


def test_the_terms_are_those_of_the_first_training_step() -> None:
    objective = make_objective("alpha_dpo", alpha=0.2)
    batch = pair_logps(USUAL_BATCH)
    outcome = with_credit(objective, batch, objective.initial_state(), {}, training=True).outcome
    table = batch_table(objective, USUAL_BATCH)
    for term in ("loss", "logit", "target_margin", "gap", "z", "weight_chosen", "weight_rejected"):
        np.testing.assert_array_equal(table[term], outcome.terms[term])
    gaps = table["gap"]
    np.testing.assert_allclose(table["z"], (gaps - gaps.mean()) / gaps.std(), rtol=1e-6)
    np.testing.assert_allclose(table["target_margin"], 10 * (0.4 + 0.2 * table["z"]))
    before = batch_table(objective, USUAL_BATCH, statistics="before the first step")
    assert (before["z"] == 0).all()


def test_alpha_zero_is_simpo() -> None:
    table = batch_table(make_objective("alpha_dpo", alpha=0.0), USUAL_BATCH)
    simpo = batch_table(make_objective("simpo", beta=10.0, gamma_beta_ratio=0.4), USUAL_BATCH)
    np.testing.assert_allclose(table["loss"], simpo["loss"])
    np.testing.assert_allclose(table["weight_chosen"], simpo["weight_chosen"])


def test_a_seed_gives_one_draw() -> None:
    objective = make_objective("sgdpo")
    one, again, other = (batch_table(objective, USUAL_BATCH, seed=seed) for seed in (0, 0, 1))
    assert one.equals(again)
    # All tokens of a side are alike, so that only their number counts, which no draw changes.
    np.testing.assert_allclose(one["pilot_chosen"], other["pilot_chosen"])


@pytest.mark.parametrize("statistics", ["this batch", "before the first step"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_note_tells_whether_another_pair_can_change(name: str, statistics) -> None:
    objective = make_objective(name)
    changes = influence(objective, USUAL_BATCH, 1, "chosen", 9.0, statistics=statistics)
    others = changes.drop(index=2).filter(like="_difference")
    assert bool((others != 0).any(axis=None)) == (influence_note(objective, statistics) == ""), others
    assert (influence_note(objective, statistics) == "") == couples_pairs(objective, statistics)
    assert changes.loc[2, "margin_difference"] != 0


def test_before_and_after_are_two_tables() -> None:
    objective = make_objective("alpha_dpo", alpha=0.2)
    moved = [*USUAL_BATCH[:2], PairNumbers(-2.0, -2.5, (6, 10)), *USUAL_BATCH[3:]]
    changes = influence(objective, USUAL_BATCH, 2, "rejected", 3.5)
    before, after = batch_table(objective, USUAL_BATCH), batch_table(objective, moved)
    for term in COMPARED:
        np.testing.assert_array_equal(changes[f"{term}_before"], before[term])
        np.testing.assert_array_equal(changes[f"{term}_after"], after[term])
        np.testing.assert_allclose(changes[f"{term}_difference"], after[term] - before[term])
    assert (changes["target_margin_difference"] != 0).all()


def test_nobody_moves_a_pair_that_is_not_there() -> None:
    objective = make_objective("dpo")
    with pytest.raises(ValueError, match="no row 6; give 0 to 5"):
        influence(objective, USUAL_BATCH, 6, "chosen", 1.0)
    with pytest.raises(ValueError, match="no side 'left'"):
        influence(objective, USUAL_BATCH, 0, "left", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give a log-ratio between"):
        influence(objective, USUAL_BATCH, 0, "chosen", 1e6)


def test_the_statistics_of_a_data_set_are_those_of_the_batch() -> None:
    objective = make_objective("alpha_dpo", normalize="dataset")
    table = batch_table(objective, USUAL_BATCH)
    assert float(torch.tensor(table["z"].to_numpy()).mean()) == pytest.approx(0, abs=1e-9)
    assert influence_note(objective) == ""
