"""SGDPO: the paper's three theorems by autograd, the facts of its step 0, and how the pilot is drawn."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.objectives import SGDPO, PairLogps, make_objective
from tests.objectives.helpers import credit_of, pairs_of, random_pairs

point = st.floats(-6, 6)
betas = st.floats(0.05, 3)


def partials(beta, x1, x2, y1, y2):
    """d l_pilot/dX1 and d l_pilot/dX2, where l_pilot = -2 L is what the paper maximises; arguments are logarithms."""
    pairs = [{"chosen": [y1, x1 - y1], "rejected": [y2, x2 - y2], "ref_chosen": [0.0, 0.0], "ref_rejected": [0.0, 0.0]}]
    p = pairs_of(pairs)
    p = replace(p, chosen=p.chosen.requires_grad_(), rejected=p.rejected.requires_grad_())
    first = torch.tensor([[True, False]])
    outcome, _ = SGDPO(beta=beta)(p, {}, {"pilot_chosen": first, "pilot_rejected": first}, training=True)
    d1, d2 = torch.autograd.grad(-2 * outcome.losses.sum(), (p.chosen, p.rejected))
    assert torch.allclose(d1[0, 0], d1[0, 1])  # pilot tokens are pushed like all others: the pilot itself is held constant
    return float(d1[0, 1]) / math.exp(x1), float(d2[0, 1]) / math.exp(x2)


@given(beta=betas, x1=point, x2=point, y1=point, y2=point)
def test_theorem_1_the_partials(beta, x1, x2, y1, y2):
    d1, d2 = partials(beta, x1, x2, y1, y2)
    X1, X2, Y1, Y2 = (math.exp(v) for v in (x1, x2, y1, y2))
    assert d1 == pytest.approx(beta * Y2**beta / (X1 * (X1**beta + Y2**beta)), rel=1e-9)
    assert d2 == pytest.approx(-beta * X2 ** (beta - 1) / (Y1**beta + X2**beta), rel=1e-9)


@given(beta=betas, x1=point, x2=point, y1=point, y2=point, more=st.floats(0.01, 2))
def test_theorem_2_a_larger_pilot_helps_the_chosen_and_spares_the_rejected(beta, x1, x2, y1, y2, more):
    d1, d2 = partials(beta, x1, x2, y1, y2)
    assert partials(beta, x1, x2, y1, y2 + more)[0] > d1
    assert abs(partials(beta, x1, x2, y1 + more, y2)[1]) < abs(d2)


@given(beta=betas, x1=point, x2=point, a=st.floats(-2, 2), b=st.floats(-2, 2), more=st.floats(0.01, 1))
def test_theorem_3_the_ratio_of_increase_to_decrease(beta, x1, x2, a, b, more):
    """With Y1 = a X1, Y2 = b X2 the ratio is (X2/X1) f(u), u = (X1/X2)^beta, and f increases in u iff a b > 1."""

    def f(x1):
        d1, d2 = partials(beta, x1, x2, a + x1, b + x2)
        return abs(d1 / d2) * math.exp(x1 - x2)

    A, B, u = math.exp(a), math.exp(b), math.exp(beta * (x1 - x2))
    assert f(x1) == pytest.approx(B**beta * (A**beta * u + 1) / (u + B**beta), rel=1e-8)
    if abs(beta * (a + b)) > 0.05:
        assert (f(x1 + more) > f(x1)) == (a + b > 0)


def test_theorem_3_at_the_whole_answer_is_dpo():
    d1, d2 = partials(0.1, 1.0, -2.0, 1.0, -2.0)
    assert abs(d1 / d2) == pytest.approx(math.exp(-2.0 - 1.0))


@given(seed=st.integers(0, 10**6))
def test_at_step_0_half_of_dpos_gradient(seed):
    p = random_pairs(seed, spread=0.0)
    ours, dpo = credit_of(SGDPO(), p), credit_of(make_objective("dpo"), p)
    torch.testing.assert_close(2 * ours.chosen, dpo.chosen)
    torch.testing.assert_close(2 * ours.rejected, dpo.rejected)


@given(seed=st.integers(0, 10**6), smoothing=st.floats(0, 0.5), pilot=st.sampled_from("ds"))
def test_with_the_whole_answer_as_pilot_dpos_value_and_half_its_gradient(seed, smoothing, pilot):
    p = random_pairs(seed, [(3, 3), (5, 5)])
    ours = credit_of(SGDPO(r1=1.0, r2=1.0, label_smoothing=smoothing, pilot=pilot), p)
    dpo = credit_of(make_objective("dpo", label_smoothing=smoothing), p)
    torch.testing.assert_close(ours.outcome.losses, dpo.outcome.losses)
    torch.testing.assert_close(ours.outcome.terms["logit"], dpo.outcome.terms["logit"])
    torch.testing.assert_close(2 * ours.chosen, dpo.chosen)


@given(seed=st.integers(0, 10**6))
def test_pair_weights_are_two_numbers(seed):
    p = random_pairs(seed)
    credited = credit_of(SGDPO(beta=0.5), p)
    terms = credited.outcome.terms
    torch.testing.assert_close(terms["weight_chosen"], 0.25 * torch.sigmoid(-terms["logit_chosen"]))
    torch.testing.assert_close(terms["weight_rejected"], 0.25 * torch.sigmoid(-terms["logit_rejected"]))


lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5)


@settings(max_examples=50)
@given(lengths=lengths, r1=st.floats(0.05, 1), r2=st.floats(0.05, 1), pilot=st.sampled_from("ds"), seed=st.integers(0, 2**31))
def test_pilot_sizes(lengths, r1, r2, pilot, seed):
    p = random_pairs(0, lengths)
    draws = SGDPO(r1=r1, r2=r2, pilot=pilot).draw(p, torch.Generator().manual_seed(seed))
    for (n_w, n_l), chosen, rejected in zip(lengths, draws["pilot_chosen"], draws["pilot_rejected"]):
        shorter = min(n_w, n_l)
        assert chosen.sum() == max(int(r1 * shorter), 1)
        assert rejected.sum() == max(int(r2 * shorter), 1)
        assert not chosen[n_w:].any()
        assert not rejected[n_l:].any()
        if pilot == "s":
            small, large = sorted((set(chosen.nonzero().flatten().tolist()), set(rejected.nonzero().flatten().tolist())), key=len)
            assert small <= large
            assert max(large) < shorter


def test_every_position_is_drawn_equally_often_and_the_sides_are_independent():
    values = [torch.zeros(20_000, n) for n in (10, 5)]
    p = PairLogps(*values, *(torch.ones_like(v, dtype=torch.bool) for v in values))
    draws = SGDPO(r1=0.6, r2=0.4).draw(p, torch.Generator().manual_seed(0))
    chosen, rejected = draws["pilot_chosen"].double(), draws["pilot_rejected"].double()
    assert (chosen.mean(0) - 3 / 10).abs().max() < 0.015
    assert (rejected.mean(0) - 2 / 5).abs().max() < 0.015
    together = (chosen[:, :5, None] * rejected[:, None, :]).mean(0)
    assert (together - 3 / 10 * 2 / 5).abs().max() < 0.015
    # Pairs of neighbours: a subset without replacement, neither contiguous nor spread.
    assert abs((chosen[:, 0] * chosen[:, 1]).mean() - 3 / 10 * 2 / 9) < 0.01


def test_draws_come_from_the_generator_and_from_nothing_else():
    p = random_pairs(0, [(30, 30)] * 4)
    objective = SGDPO()
    a, b = (torch.Generator().manual_seed(s) for s in (1, 1))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = objective.draw(p, a)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first["pilot_chosen"], objective.draw(p, b)["pilot_chosen"])
    assert not torch.equal(first["pilot_chosen"], objective.draw(p, a)["pilot_chosen"])  # fresh at every step


def test_padding_changes_neither_the_draw_nor_the_next_one():
    p = random_pairs(0, [(30, 20), (7, 9)])
    wide = p.map(lambda x: torch.nn.functional.pad(x, (0, 13)))
    a, b = (torch.Generator().manual_seed(3) for _ in "ab")
    for _ in range(2):
        near, far = SGDPO().draw(p, a), SGDPO().draw(wide, b)
        for name, mask in near.items():
            assert torch.equal(far[name][:, : mask.shape[1]], mask)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({}, "pilot_chosen"),
        ({"pilot_chosen": torch.ones(3, 5, dtype=torch.bool)}, r"shape \(3, 5\)"),
        ({"pilot_chosen": torch.ones(3, 4)}, "float32"),
    ],
)
def test_missing_or_misshapen_draws_are_refused(draws, message):
    with pytest.raises(ValueError, match=message):
        SGDPO()(random_pairs(0), {}, draws, training=True)


def test_pilot_terms_and_masks():
    p = random_pairs(0)
    objective = SGDPO()
    draws = objective.draw(p, torch.Generator().manual_seed(0))
    outcome, _ = objective(p, {}, draws, training=True)
    expected = (p.ratio_chosen * draws["pilot_chosen"]).sum(-1)
    torch.testing.assert_close(outcome.terms["pilot_chosen"], expected)
    assert torch.equal(outcome.token_terms["pilot_rejected"], draws["pilot_rejected"])
