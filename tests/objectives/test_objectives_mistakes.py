"""Mistakes of other implementations, one test each, and wrong calls of an objective."""

import math
from dataclasses import replace

import pytest
import torch

from lab.objectives import OBJECTIVES, Objective, Outcome, PairLogps, make_objective, parameter, register, with_credit
from tests.objectives.helpers import credit_of, padded, pairs_of, random_pairs

SMOOTHED = [name for name, kind in OBJECTIVES.items() if "label_smoothing" in kind.model_fields]


def ratios(x1, x2, **more):
    """One pair of one-token answers with these log-ratios."""
    return pairs_of([{"chosen": [x1 - 1], "rejected": [x2 - 1], "ref_chosen": [-1.0], "ref_rejected": [-1.0], **more}])


def loss(name, p, **parameters):
    return credit_of(make_objective(name, **parameters), p).outcome.losses


def test_label_smoothing_is_not_ignored():
    p = ratios(3.0, -2.0)
    x = 0.1 * 5.0
    expected = 0.7 * math.log1p(math.exp(-x)) + 0.3 * math.log1p(math.exp(x))
    assert float(loss("dpo", p, label_smoothing=0.3)) == pytest.approx(expected, abs=1e-12)
    assert set(SMOOTHED) == {"dpo", "simpo", "sgdpo", "robust", "exo_pair"}
    for name in SMOOTHED:
        assert loss(name, p, label_smoothing=0.3) != loss(name, p, label_smoothing=0.1), name


@pytest.mark.parametrize(
    ("name", "more"), [("dpo", {}), ("sgdpo", {"r1": 0.7, "r2": 0.7}), ("simpo", {"gamma_beta_ratio": 0}), ("exo_pair", {})]
)
def test_with_half_the_labels_flipped_the_sides_are_equal(name, more):
    p = random_pairs(0, [(4, 4), (2, 2)])
    swapped = PairLogps(p.rejected, p.chosen, p.rejected_mask, p.chosen_mask, p.ref_rejected, p.ref_chosen)
    objective = make_objective(name, label_smoothing=0.5, **more)
    draws = objective.draw(p, torch.Generator().manual_seed(0))
    turned = {"pilot_chosen": draws["pilot_rejected"], "pilot_rejected": draws["pilot_chosen"]} if draws else {}
    (a, _), (b, _) = objective(p, {}, draws, training=True), objective(swapped, {}, turned, training=True)
    torch.testing.assert_close(a.losses, b.losses)


def test_kinks_have_derivative_0_on_the_flat_side():
    at_margin = ratios(10.0, 0.0)
    assert not credit_of(make_objective("hinge", beta=0.1), at_margin).chosen.any()
    start = ratios(0.0, 0.0)
    dpop, dpo = credit_of(make_objective("dpop", beta=0.1), start), credit_of(make_objective("dpo", beta=0.1), start)
    assert torch.equal(dpop.chosen, dpo.chosen)


def test_discopop_far_on_the_wrong_side():
    credited = credit_of(make_objective("discopop", beta=1.0, tau=0.05), ratios(-100.0, 0.0))
    assert float(credited.outcome.losses) == pytest.approx(100.0)
    assert float(credited.chosen) == pytest.approx(1.0)
    with pytest.raises(ValueError):
        make_objective("discopop", tau=2.0)


def test_orpo_at_probability_one():
    certain = ratios(1.0, -1.0)
    assert float(certain.chosen) == 0
    assert float(loss("orpo", certain)) == pytest.approx(0.0, abs=1e-12)
    near = credit_of(make_objective("orpo", weight=1.0), ratios(1.0 - 1e-9, -1.0))
    odds = math.exp(-2.0) / -math.expm1(-2.0)  # the gradient has a finite limit: 1 + the odds of the rejected answer
    assert float(near.chosen) == pytest.approx(1 + odds, rel=1e-6)


def test_exo_needs_smoothing():
    for wrong in (0.0, -0.1):
        with pytest.raises(ValueError):
            make_objective("exo_pair", label_smoothing=wrong)
    with pytest.raises(ValueError):
        make_objective("robust", label_smoothing=0.5)


def test_simpo_with_dpos_beta_warns():
    [sentence] = make_objective("simpo", beta=0.1).warnings()
    assert "beta = 0.1" in sentence
    assert "2 to 10" in sentence
    assert any("beta" in s for s in make_objective("alpha_dpo", beta=0.1).warnings())
    assert make_objective("simpo", beta=2.5).warnings() == []


def test_r_dpo_asks_less_of_a_longer_chosen_answer():
    longer = pairs_of([{"chosen": [-1.0] * 4, "rejected": [-1.0], "ref_chosen": [-1.0] * 4, "ref_rejected": [-1.0]}])
    assert float(loss("r_dpo", longer, alpha=0.1)) == pytest.approx(math.log1p(math.exp(-0.3)))


def test_sequence_sums_are_refused_where_tokens_are_expected():
    sums, mask = torch.tensor([-3.0, -4.0]), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="one row per pair"):
        PairLogps(sums, sums, mask, mask)
    tokens = padded([[-1.0, -2.0], [-4.0, 0.0]])
    with pytest.raises(ValueError, match="chosen_mask has shape"):
        PairLogps(sums[:, None].double(), tokens, tokens.bool(), tokens.bool())


def test_wpo_weight_has_a_known_value():
    p = ratios(0.5, -0.5, align_chosen=[-1.2], align_rejected=[-0.3])
    c = math.exp((-0.5 + 1.2) + (-1.5 + 0.3))
    assert float(loss("wpo", p, beta=1.0)) == pytest.approx(c * math.log1p(math.exp(-1.0)))
    with pytest.raises(ValueError, match="align_chosen"):
        make_objective("wpo")(replace(p, align_chosen=None), {}, {}, training=True)


def test_shapes_types_and_empty_answers_are_asserted():
    p = random_pairs(0)
    for change, message in (
        ({"chosen_mask": p.chosen_mask.long()}, "torch.bool"),
        ({"ref_chosen": p.ref_chosen[:, :-1]}, "ref_chosen has shape"),
        ({"ref_chosen": p.ref_chosen.sum(-1)}, "ref_chosen has shape"),
        ({"align_rejected": p.align_rejected[:1]}, "align_rejected has shape"),
        ({"chosen": p.chosen.bfloat16()}, "bfloat16"),
        (
            {name: getattr(p, name)[:2] for name in ("rejected", "rejected_mask", "ref_rejected", "align_rejected")},
            "3 chosen but 2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            replace(p, **change)
    empty = p.rejected_mask.clone()
    empty[1] = False
    with pytest.raises(ValueError, match="rejected answer in row 1"):
        make_objective("dpo")(replace(p, rejected_mask=empty), {}, {}, training=True)


def test_a_loss_that_broadcasts_is_caught_where_pairs_and_tokens_are_equally_many():
    """[B] + [B, T] goes through silently at B = T; the shape of what comes out does not."""

    class Careless(Objective):
        name = "careless"

        def compute(self, p, state, draws, *, training):
            return Outcome(p.h + p.ratio_chosen), state

    with pytest.raises(ValueError, match=r"careless: loss has shape \(4, 4\)"):
        Careless()(random_pairs(0, [(4, 4)] * 4), {}, {}, training=True)


def test_an_unknown_objective_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"choose one of alpha_dpo, .*sgdpo"):
        make_objective("dop")


def test_a_new_objective_takes_a_few_lines(request):
    """Define an objective as in a notebook, register, call and differentiate it; defining it again replaces it."""
    request.addfinalizer(lambda: OBJECTIVES.pop("squared", None))

    @register
    class Squared(Objective):
        name = "squared"
        beta: float = parameter(0.5, "Half the target.", symbol="β", gt=0)

        def compute(self, p, state, draws, *, training):
            return Outcome((p.h - self.beta) ** 2, {"logit": p.h}), state

    p = random_pairs(0)
    objective = make_objective("squared", beta=2.0)
    credited = with_credit(objective, p, objective.initial_state(), {}, training=True)
    torch.testing.assert_close(credited.outcome.terms["weight_chosen"], -2 * (p.h - 2.0))
    schema = Squared.model_json_schema()["properties"]["beta"]
    assert schema["exclusiveMinimum"] == 0
    assert schema["symbol"] == "β"
    assert schema["description"] == "Half the target."
    assert make_objective("spo", base="squared").base == Squared()

    @register
    class Again(Objective):
        name = "squared"

        def compute(self, p, state, draws, *, training):
            return Outcome(p.h**4), state

    assert OBJECTIVES["squared"] is Again
    with pytest.raises(ValueError, match="give a name of letters"):
        register(type("Nameless", (Objective,), {}))
