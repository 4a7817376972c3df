"""Steps of the world's model: a run's own numbers, back bit for bit, and two objectives that begin alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lab
from lab.objectives import Objective, make_objective
from lab.policy import Policy
from lab.teaching.steps.model_steps import ModelSteps
from lab.training.data.encoded_pairs import encode_pair
from lab.training.setup.prepare import load_configured
from lab.training.step import pair_logps
from lab.world import World, WorldSpec, ensure

RATE, SEED = 1e-3, 3


@pytest.fixture(scope="module")
def world(shared_cache: Path) -> World:
    return ensure(WorldSpec.tiny(), cache=shared_cache)


def opened(world: World, objective: str | Objective = "dpo", **settings) -> ModelSteps:
    chosen = make_objective(objective) if isinstance(objective, str) else objective
    return ModelSteps(chosen, **{"batch_size": 4, "learning_rate": RATE, "seed": SEED, "world": world} | settings)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def assert_equal_records(one, other) -> None:
    for part in ("terms", "terms_after", "layers", "others"):
        pd.testing.assert_frame_equal(getattr(one, part), getattr(other, part), check_exact=True)
    for row, again in zip(one.tokens.itertuples(), other.tokens.itertuples(), strict=True):
        for column in ("ids", "logps", "ref_logps", "credit", "logps_after"):
            np.testing.assert_array_equal(getattr(row, column), getattr(again, column))
    assert (one.number, one.grad_norm, one.moved) == (other.number, other.grad_norm, other.moved)


@pytest.mark.parametrize("name", ["dpo", "sgdpo", "alpha_dpo", "spo"])
def test_back_restores_weights_and_optimizer_bit_for_bit(name, world):
    steps = opened(world, name)
    weights = [steps.weights]
    records = []
    for _ in range(3):
        records.append(steps.step())
        weights.append(steps.weights)
    assert not same(weights[0], weights[1])
    assert not same(weights[2], weights[3])
    assert steps.back() is records[1]
    assert same(steps.weights, weights[2])
    assert steps.back() is records[0]
    assert same(steps.weights, weights[1])
    # With other moments, another statistic or another draw these would differ.
    assert_equal_records(steps.step(), records[1])
    assert same(steps.weights, weights[2])
    assert_equal_records(steps.step(), records[2])
    assert same(steps.weights, weights[3])
    steps.reset()
    assert steps.number == 0
    assert steps.current is None
    assert same(steps.weights, weights[0])
    assert_equal_records(steps.step(), records[0])


def test_only_so_many_steps_are_kept(world):
    steps = opened(world, kept=2)
    with pytest.raises(ValueError, match="no step has been taken"):
        steps.back()
    first = steps.weights
    for _ in range(3):
        steps.step()
    steps.back()
    record = steps.back()
    assert record is not None
    assert record.number == steps.number == 1, "the record of the step that is left is still there"
    assert not steps.can_go_back
    with pytest.raises(ValueError, match="older steps are not kept"):
        steps.back()
    steps.reset()
    assert same(steps.weights, first)


def test_two_objectives_begin_with_the_same_weights_and_see_the_same_batches(world):
    one, other = opened(world, "dpo"), opened(world, "sgdpo")
    assert same(one.weights, other.weights)
    for _ in range(2):
        first, second = one.step(), other.step()
        assert [pair.id for pair in first.pairs] == [pair.id for pair in second.pairs]
        if first.number == 1:
            for column in ("ids", "logps", "ref_logps"):
                for a, b in zip(first.tokens[column], second.tokens[column], strict=True):
                    np.testing.assert_array_equal(a, b)
    assert first.pairs != one._records[0].pairs, "the next batch has other pairs"
    assert not same(one.weights, other.weights)


def test_the_first_step_is_that_of_a_run(world, tmp_path):
    """Train one step on the world's pairs; compare its recorded numbers and its weights."""
    rate = 1e-4  # AdamW's first step has this size, whatever the gradient, so that a rounding error near 0 counts in full
    settings = {"batch_size": 4, "learning_rate": rate, "seed": SEED, "schedule": "constant", "warmup_ratio": 0.0}
    settings |= {"evaluate": False, "steps": 1, "device": "cpu"}
    run = lab.train("dpo", world.pairs_path, world.model_dir, run_dir=tmp_path / "run", background=False, **settings)
    assert run.state == "finished", run.error
    steps = opened(world, learning_rate=rate)
    record = steps.step()
    recorded = run.reader.pairs.batch(1).set_index("pair")
    assert list(record.terms["pair"]) == [pair.id for pair in record.pairs]
    for term in record.terms.columns.drop("pair"):
        expected = recorded.loc[record.terms["pair"], term]
        near = 1e-5 if term.startswith("log_ratio") else 1e-6  # differences of sums of about 100 nats in float32
        np.testing.assert_allclose(record.terms[term], expected, rtol=1e-6, atol=near, err_msg=term)
    layers = run.layers()
    for column in ("norm_chosen", "norm_rejected", "cosine", "update_ratio"):
        np.testing.assert_allclose(record.layers[column], layers[column], rtol=1e-4, err_msg=column)
    trained = load_configured(run.config, str(run.checkpoints()[-1]))
    for name, value in trained.parameters().items():
        torch.testing.assert_close(steps.weights[name], value.detach(), rtol=0, atol=1e-6)


def test_helped_and_hurt_equal_a_recomputation(world):
    """Compute the held-out margins anew, with the model before and after the second step, one pair at a time."""
    steps = opened(world, others=10)
    steps.step()
    reference, policy = (load_configured(steps._context.config, str(world.model_dir)) for _ in range(2))

    def margins(weights: dict[str, torch.Tensor]) -> dict[str, float]:
        with torch.no_grad():
            for name, parameter in policy.parameters().items():
                parameter.copy_(weights[name])
        return {pair.id: margin(steps.objective, policy, reference, pair) for pair in steps.others}

    before = margins(steps.weights)
    record = steps.step()
    after = margins(steps.weights)
    assert len(record.others) == len(before) == 10
    for row in record.others.itertuples():
        assert row.margin_before == pytest.approx(before[row.pair], abs=1e-5)
        assert row.margin_after == pytest.approx(after[row.pair], abs=1e-5)
        assert row.margin_change == pytest.approx(after[row.pair] - before[row.pair], abs=2e-5)
    assert record.others["margin_change"].is_monotonic_decreasing
    assert set(record.helped["pair"]) | set(record.hurt["pair"]) == before.keys()
    assert record.hurt["margin_change"].is_monotonic_increasing
    trained = {pair.prompt for pair in steps._start.pairs}
    assert not trained & {pair.prompt for pair in steps.others}, "no training pair has the prompt of a held-out one"


def margin(objective: Objective, policy: Policy, reference: Policy, pair) -> float:
    encoded = [encode_pair(pair, policy.encoder())]
    with torch.no_grad():
        fixed = pair_logps(reference, objective, encoded, None)
        logps = pair_logps(policy, objective, encoded, lambda c: None)
    sums = [(getattr(logps, side) - getattr(fixed, side)).sum().item() for side in ("chosen", "rejected")]
    return objective.beta * (sums[0] - sums[1])


def test_a_step_raises_the_margin_of_its_own_batch_and_records_both_sides_of_it(world):
    record = opened(world).step()
    before, after = record.mean("loss")
    assert before == pytest.approx(np.log(2), abs=1e-5)
    assert after < before
    table = record.pair_table()
    assert list(table.columns[:4]) == ["loss", "loss_after", "margin", "margin_after"]
    assert (table["margin_after"] - table["margin"]).mean() > 0
    assert {*record.terms.columns} - {"pair"} <= {*table.columns}
    gain = (record.terms_after["log_ratio_chosen"] - record.terms_after["log_ratio_rejected"]).mean()
    assert gain > 0
    tokens = record.tokens[(record.tokens["row"] == 1) & (record.tokens["side"] == "rejected")].iloc[0]
    assert tokens.pair == record.pairs[1].id
    assert tokens.logps.sum() == pytest.approx(record.terms["logps_rejected"][1], abs=1e-3)
    assert tokens.logps_after.sum() == pytest.approx(record.terms_after["logps_rejected"][1], abs=1e-3)
    # The two sides add up to the whole gradient, whose parts by layer are orthogonal.
    g_c, g_r, cosine = (record.layers[column].to_numpy() for column in ("norm_chosen", "norm_rejected", "cosine"))
    assert np.sqrt((g_c**2 + g_r**2 + 2 * g_c * g_r * cosine).sum()) == pytest.approx(record.grad_norm, rel=1e-4)
    assert record.moved > 0


def test_what_the_gradient_holds_fixed_is_computed_anew_after_the_step(world):
    """With alpha-DPO the loss can rise while the gap, which its gradient raises, grows; the page says so."""
    pilots = opened(world, "sgdpo").step()
    assert (pilots.terms["pilot_chosen"] != pilots.terms_after["pilot_chosen"]).all()
    steps = opened(world, "alpha_dpo", batch_size=8)
    steps.step()
    record = steps.step()
    assert (record.terms["target_margin"] != record.terms_after["target_margin"]).all()
    assert record.mean("loss")[1] > record.mean("loss")[0]
    assert record.mean("gap")[1] > record.mean("gap")[0], "at a fixed margin a larger gap is a smaller loss"


def test_the_learning_rate_can_be_changed_and_0_moves_nothing(world):
    steps = opened(world)
    before = steps.weights
    steps.learning_rate = 0.0
    record = steps.step()
    assert same(steps.weights, before)
    assert record.moved == 0
    assert (record.others["margin_change"] == 0).all()
    assert record.mean("loss")[0] == record.mean("loss")[1]
    steps.learning_rate = float("nan")
    with pytest.raises(ValueError, match="learning_rate"):
        steps.step()
    assert steps.number == 1


def test_a_step_that_is_not_finite_is_not_taken(world):
    steps = opened(world)
    steps.step()
    before = steps.weights
    steps._context.policy.parameters()["model.norm.weight"].data.fill_(float("nan"))
    broken = steps.weights
    with pytest.raises(ValueError, match=r"Step 2 was not taken.*learning rate"):
        steps.step()
    assert steps.number == 1
    assert torch.equal(broken["model.embed_tokens.weight"], steps.weights["model.embed_tokens.weight"])
    steps.back()
    assert steps.weights["model.norm.weight"].isfinite().all()
    assert not same(before, steps.weights)


def test_statistics_over_the_data_set_are_renewed_as_in_a_run(world):
    """64 pairs in batches of 32: the third step begins an epoch, and until then every pair's z is 0."""
    steps = opened(world, make_objective("alpha_dpo", normalize="dataset"), batch_size=32)
    assert (steps.step().terms["z"] == 0).all()
    assert (steps.step().terms["z"] == 0).all()
    third = steps.step()
    assert third.terms["z"].std() > 0.1
    steps.back()
    assert_equal_records(steps.step(), third)
