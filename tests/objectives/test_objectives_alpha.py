"""AlphaDPO: SimPO at alpha = 0, normalisation and state."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lab.objectives import AlphaDPO, SimPO, make_objective
from lab.objectives.batch_moments import moments
from tests.objectives.helpers import credit_of, random_pairs

NORMALIZE = ("ema", "batch", "dataset", "none")


@pytest.mark.parametrize("normalize", NORMALIZE)
@given(seed=st.integers(0, 10**6), wide=st.booleans())
def test_alpha_0_is_simpo_bit_for_bit(normalize, seed, wide):
    p = random_pairs(seed, dtype=torch.float64 if wide else torch.float32)
    a = credit_of(AlphaDPO(beta=2.5, gamma_beta_ratio=0.55, alpha=0.0, normalize=normalize), p)
    b = credit_of(SimPO(beta=2.5, gamma_beta_ratio=0.55), p)
    assert torch.equal(a.outcome.losses, b.outcome.losses)
    assert torch.equal(a.chosen, b.chosen)
    assert torch.equal(a.rejected, b.rejected)
    assert torch.equal(a.outcome.terms["reward_chosen"], b.outcome.terms["reward_chosen"])


@pytest.mark.parametrize(
    ("given_", "unused"),
    [
        ({"normalize": "none", "ema_decay": 0.9}, "ema_decay"),
        ({"normalize": "none", "eps": 1e-8}, "eps"),
        ({"normalize": "batch", "ema_variant": "official"}, "ema_variant"),
        ({"normalize": "dataset", "ema_decay": 0.5}, "ema_decay"),
        ({"ema_variant": "official", "eps": 1e-6}, "eps"),
    ],
)
def test_an_option_that_is_not_used_is_an_error(given_, unused):
    for build in (AlphaDPO, lambda **k: make_objective("alpha_dpo", **k), AlphaDPO().replace):
        with pytest.raises(ValueError, match=f"does not use {unused}"):
            build(**given_)
    assert unused not in AlphaDPO(**{k: v for k, v in given_.items() if k != unused}).spec()


def test_replacing_a_setting_leaves_behind_what_it_turns_off():
    objective = AlphaDPO(ema_decay=0.5).replace(normalize="none")
    assert objective == AlphaDPO(normalize="none")
    assert objective.replace(beta=3.0).beta == 3.0


def test_moving_average_against_the_plain_recursion():
    batches = [random_pairs(seed) for seed in range(6)]
    for variant in ("official", "corrected"):
        objective = AlphaDPO(ema_variant=variant, ema_decay=0.8)
        state, m, s = objective.initial_state(), 0.0, 0.0
        for count, p in enumerate(batches, 1):
            outcome, state = objective(p, state, {}, training=True)
            gap = (p.avg_w - p.avg_l) - (p.R_w / p.n_w - p.R_l / p.n_l)
            m, s = 0.8 * m + 0.2 * gap.mean(), 0.8 * s + 0.2 * gap.std()
            correction = 1 - 0.8**count if variant == "corrected" else 1.0
            torch.testing.assert_close(outcome.terms["z"], (gap - m / correction) / (s / correction), rtol=1e-6, atol=1e-6)
            assert int(state["count"]) == count
        assert {key: value.dtype for key, value in state.items()} == {
            "mean": torch.float64,
            "std": torch.float64,
            "count": torch.int64,
        }


def test_the_official_moving_average_starts_ten_times_too_large():
    p = random_pairs(3, [(8, 8)] * 16)
    spread = {v: float(credit_of(AlphaDPO(ema_variant=v), p).outcome.terms["z"].std()) for v in ("official", "corrected")}
    assert spread["official"] == pytest.approx(10 * spread["corrected"], rel=1e-6)


def test_state_may_hold_plain_numbers():
    p = random_pairs(0)
    plain = {"mean": 0.1, "std": 0.3, "count": 4}
    tensors = {key: torch.tensor(value, dtype=torch.float64 if key != "count" else torch.int64) for key, value in plain.items()}
    objective = AlphaDPO()
    (a, state_a), (b, state_b) = (objective(p, s, {}, training=True) for s in (plain, tensors))
    assert torch.equal(a.losses, b.losses)
    assert all(torch.equal(state_a[key], state_b[key]) for key in state_a)
    with pytest.raises(ValueError, match="'std' in its state"):
        objective(p, {"mean": 0.1}, {}, training=True)


def test_evaluation_uses_what_was_remembered():
    objective = AlphaDPO()
    state = {"mean": 0.09, "std": 0.2, "count": 30}
    one = random_pairs(0, [(3, 4)])
    outcome, after = objective(one, state, {}, training=False)
    assert after is state
    assert outcome.terms["z"].abs() > 0  # one pair alone has a z in evaluation
    outcome, after = objective(one, state, {}, training=True)
    assert outcome.terms["z"] == 0
    assert float(after["mean"]) == 0.09
    assert int(after["count"]) == 30


@pytest.mark.parametrize("variant", ["official", "corrected"])
def test_z_is_0_where_std_is_0(variant):
    p = random_pairs(0, spread=0.0)
    credited = credit_of(AlphaDPO(ema_variant=variant), p)
    assert not credited.outcome.terms["z"].any()
    assert torch.equal(credited.outcome.losses, credit_of(SimPO(beta=10.0, gamma_beta_ratio=0.4), p).outcome.losses)


def test_dataset_statistics():
    objective = AlphaDPO(normalize="dataset", reference="policy")
    p = random_pairs(0, [(3, 2)] * 7)
    state = objective.dataset_state(p.map(lambda x, i=i: x[i : i + 2]) for i in range(0, 7, 2))
    gap = p.avg_w - p.avg_l
    assert float(state["mean"]) == pytest.approx(float(gap.mean()))
    assert float(state["std"]) == pytest.approx(float(gap.std()))
    assert not objective.needs_reference
    with pytest.raises(ValueError, match="no batch"):
        objective.dataset_state([])
    assert AlphaDPO().dataset_state(iter([])) == AlphaDPO().initial_state()


def test_without_the_stop_gradient_the_margin_moves_with_the_policy():
    p = random_pairs(0)
    held, free = (credit_of(AlphaDPO(normalize="none", alpha=0.3, stop_gradient=s), p) for s in (True, False))
    assert torch.equal(held.outcome.losses, free.outcome.losses)
    torch.testing.assert_close(free.chosen, 0.7 * held.chosen)


def test_target_margin_is_in_units_of_the_logit():
    p = random_pairs(0)
    objective = AlphaDPO(normalize="batch")
    terms = credit_of(objective, p).outcome.terms
    torch.testing.assert_close(terms["logit"] + terms["target_margin"], terms["reward_chosen"] - terms["reward_rejected"])


def test_presets_are_the_papers_table():
    table = {t: (*p.parameters.values(), p.learning_rate) for t, p in AlphaDPO.presets.items()}
    assert table == {
        "Mistral-7B-Instruct": (2.5, 0.15, 0.05, 6e-7),
        "Llama-3-8B-Instruct": (2.5, 0.6, 0.2, 1e-6),
        "Llama-3-8B-Instruct v0.2": (10.0, 0.4, 0.2, 1e-6),
        "Gemma-2-9B-it": (10.0, 0.4, 0.05, 8e-7),
    }


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_moments(values):
    x = torch.tensor(values, dtype=torch.float64)
    found = moments(x)
    assert float(found.mean) == pytest.approx(float(x.mean()), abs=1e-9)
    assert float(found.std) == pytest.approx(float(x.std()) if len(values) > 1 else 0.0, abs=1e-9)
    assert int(found.count) == len(values)
