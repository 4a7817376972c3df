"""What the stories about DPO, the rejected side and SGDPO's pilots state, computed with the library.

A test of a step names every number in its text: one that no line computes, and that is no coordinate or setting, fails the test.
"""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from lab.glossary import FIELD_QUANTITIES
from lab.objectives import PairLogps, flow, make_objective, with_credit
from tests.app.story_facts import EVERYWHERE, Here, facts, objective, plane_of, terms_at

# Facts: from Bradley-Terry to DPO -------------------------------------------------------------------------------------------


def test_bradley_terry_1() -> None:
    with facts("bradley-terry", 1) as step:
        start = step.at("(0, 0)")
        step.states("0.05", start.push_chosen)
        step.states("0.05", start.push_rejected)
        step.states("0.693", start.loss)
        step.states("2", exp(start.loss))
        step.answers("To the right and down by the same amount")
        path = flow(objective(step.step), (0.0, 0.0), steps=1)
        assert path.log_x1[1] == -path.log_x2[1] > 0


def test_bradley_terry_2() -> None:
    with facts("bradley-terry", 2) as step:
        start, end = step.at("(0, 0)"), step.at("(4, 4)")
        step.states("55", exp(4))
        step.states("0.693", end.loss)
        step.states("0.5", exp(-end.loss))
        step.states("0", terms_at(step.step, objective(step.step), (4, 4))["logit"])
        step.answers("It stays the same")
        assert start.loss == pytest.approx(end.loss)
        parallel = [Here(step.step, objective(step.step), (x + 3, x)).loss for x in (-9, -1, 6)]
        assert parallel == pytest.approx([parallel[0]] * 3)


def test_bradley_terry_3() -> None:
    with facts("bradley-terry", 3) as step:
        corner, start = step.at("(10, −10)"), step.at("(0, 0)")
        step.states("0.127", corner.loss)
        step.states("−0.127", -corner.loss)
        step.states("0.88", exp(-corner.loss))
        step.answers("0.88")
        step.states("2", terms_at(step.step, objective(step.step), (10, -10))["logit"])
        step.states("20", 10 - -10)
        step.states("0.012", corner.push_chosen)
        step.states("0.05", start.push_chosen)
        step.states("0.1", objective(step.step).beta)
        assert round(exp(20) / 1e6) == 485  # in a wrong choice


def test_bradley_terry_4() -> None:
    with facts("bradley-terry", 4) as step:
        a, b = objective(step.step), objective(step.step, "B")
        step.states("0.1", a.beta)
        step.states("0.5", b.beta)
        start = step.at("(0, 0)", "B")
        step.states("0.25", start.push_chosen)
        assert "five times as hard as A" in step.text
        assert start.push_chosen == pytest.approx(5 * step.at("(0, 0)").push_chosen)
        one, other = step.at("(6, −6)"), step.at("(6, −6)", "B")
        step.answers("A")
        assert one.push_chosen > other.push_chosen
        step.states("0.023", one.push_chosen)
        step.states("0.001", other.push_chosen)
        step.states("6", terms_at(step.step, b, (6, -6))["logit"])
        step.states("1.2", terms_at(step.step, a, (6, -6))["logit"])
        step.states("12", 6 - -6)


def test_bradley_terry_5() -> None:
    with facts("bradley-terry", 5) as step:
        near, far = step.at("(−10, 10)"), step.at("(−20, 20)")
        step.states("0.088", near.push_chosen)
        step.states("0.098", far.push_chosen)
        step.answers("It grows a little")
        beta = objective(step.step).beta
        step.states("0.1", beta)
        step.states("1", (near.push_chosen / beta) + exp(-near.loss))  # the push is beta (1 - P)
        pushes = [Here(step.step, objective(step.step), (-x, x)).push_chosen for x in (10, 20, 40, 100)]
        assert pushes == sorted(pushes)
        assert 0.999 * beta < pushes[-1] <= beta


def test_bradley_terry_6() -> None:
    with facts("bradley-terry", 6) as step:
        step.answers("Nowhere")
        ratios = [Here(step.step, objective(step.step), point).pushes for point in EVERYWHERE]
        step.states("1", min(ratios))
        step.states("1", max(ratios))


# Facts: why the rejected side falls faster ----------------------------------------------------------------------------------


def test_rejected_side_1() -> None:
    with facts("rejected-side", 1) as step:
        step.states("1", step.at("(0, 0)").ratio)
        ratio = step.at("(0, −2)").ratio
        step.states("0.14", ratio)
        step.answers("0.14")
        assert ratio == pytest.approx(exp(-2))
        step.states("7.39", 1 / ratio)


def test_rejected_side_2() -> None:
    with facts("rejected-side", 2) as step:
        step.answers("Into the orange part")
        dpo = objective(step.step)
        path = flow(dpo, step.point("(0, 0)"), steps=50, rate=5.0)
        ratios = [Here(step.step, dpo, point).ratio for point in zip(path.log_x1[:, 0].tolist(), path.log_x2[:, 0].tolist())]
        step.states("1", ratios[0])
        assert ratios == sorted(ratios, reverse=True)
        step.states("0.0025", step.at("(3, −3)").ratio)
        assert "below 1 (orange)" in FIELD_QUANTITIES["ratio"].meaning
        assert "above 1 (blue)" in FIELD_QUANTITIES["ratio"].meaning


def test_rejected_side_3() -> None:
    with facts("rejected-side", 3) as step:
        here = step.at("(3, −3)")
        step.states("0.0025", here.ratio)
        step.states("0.035", here.push_chosen)
        step.states("0.035", here.push_rejected)
        step.states("403", 1 / here.ratio)
        step.answers("Both move by the same amount")
        path = flow(objective(step.step), (3.0, -3.0), steps=1)
        assert float(path.log_x1[1] - 3) == pytest.approx(float(-3 - path.log_x2[1])) != 0


def test_rejected_side_4() -> None:
    with facts("rejected-side", 4) as step:
        before, after = step.at("(0, −4)"), step.at("(−4, −10)")
        step.states("0.513", before.loss)
        step.states("0.437", after.loss)
        step.answers("It falls")
        beta = objective(step.step).beta
        step.states("4", terms_at(step.step, objective(step.step), (0, -4))["logit"] / beta)
        step.states("6", terms_at(step.step, objective(step.step), (-4, -10))["logit"] / beta)
        step.states("0.018", exp(-4))


def test_rejected_side_5() -> None:
    with facts("rejected-side", 5) as step:
        plain, protected = step.at("(−4, −10)"), step.at("(−4, −10)", "B")
        step.states("1.620", protected.loss)
        step.states("0.437", plain.loss)
        step.states("0.481", protected.push_chosen)
        step.states("0.080", protected.push_rejected)
        assert "six times as fast" in step.text
        assert protected.push_chosen == pytest.approx(6 * protected.push_rejected)
        step.answers("Where log X₁ is 0 or more")
        for point in EVERYWHERE:
            one, other = (Here(step.step, objective(step.step, slot), point).loss for slot in "AB")
            assert (other == pytest.approx(one)) == (point[0] >= 0)
        step.given("0")
        assert "DPO-Positive" in objective(step.step, "B").title


# Facts: the effect of the pilots --------------------------------------------------------------------------------------------


def test_pilot_1() -> None:
    with facts("pilot", 1) as step:
        dpo, sgdpo = step.at("(0, 0)"), step.at("(0, 0)", "B")
        step.states("0.693", dpo.loss)
        step.states("0.693", sgdpo.loss)
        step.states("0.025", sgdpo.push_chosen)
        step.states("0.025", sgdpo.push_rejected)
        step.states("0.05", dpo.push_chosen)
        step.answers("B pushes both answers half as hard")
        terms = terms_at(step.step, objective(step.step, "B"), (2, -3))
        halves = [-log(1 / (1 + exp(-terms[f"logit_{side}"]))) for side in ("chosen", "rejected")]
        assert terms["loss"] == pytest.approx(sum(halves) / 2)


def test_pilot_2() -> None:
    with facts("pilot", 2) as step:
        sgdpo, point = objective(step.step), step.point("(0, −8)")
        terms = terms_at(step.step, sgdpo, point)
        step.states("−7", terms["pilot_rejected"])
        step.answers("−7")
        step.states("0.7", terms["logit_chosen"])
        assert plane_of(step.step).tokens == (8, 8)
        step.given("8")
        step.states("0.9", sgdpo.r2)
        step.states("7.2", 8 * sgdpo.r2)
        step.states("7", terms["pilot_rejected"] / (point[1] / 8))
        step.states("−1", point[1] / 8)


def test_pilot_3() -> None:
    with facts("pilot", 3) as step:
        step.states("1", objective(step.step, "B").r1)
        step.states("1", objective(step.step, "B").r2)
        assert plane_of(step.step).tokens == (8, 8)
        step.given("8")
        dpo, sgdpo = step.at("(6, −2)"), step.at("(6, −2)", "B")
        step.states("0.371", dpo.loss)
        step.states("0.0155", sgdpo.push_chosen)
        step.states("0.0155", sgdpo.push_rejected)
        step.states("0.0310", dpo.push_chosen)
        step.answers("The same loss and half the pushes")
        for point in EVERYWHERE:
            one, other = (Here(step.step, objective(step.step, slot), point) for slot in "AB")
            assert other.loss == pytest.approx(one.loss)
            assert (2 * other.push_chosen, 2 * other.push_rejected) == pytest.approx((one.push_chosen, one.push_rejected))


def test_pilot_4() -> None:
    with facts("pilot", 4) as step:
        small = objective(step.step)
        point, large = step.point("(6, −2)"), small.replace(r1=1.0)
        before, after = Here(step.step, small, point), Here(step.step, large, point)
        step.states("0.6", small.r1)
        step.states("1", large.r1)
        step.states("0.0158", before.push_chosen)
        step.states("0.0189", before.push_rejected)
        step.states("0.0155", after.push_rejected)
        assert after.push_chosen == before.push_chosen
        step.answers("That on the rejected answer")
        step.states("3", terms_at(step.step, small, point)["pilot_chosen"])
        step.states("6", terms_at(step.step, large, point)["pilot_chosen"])
        # Theorem 2; log X₂ is negative here, so a shorter rejected pilot is a larger Y₂.
        pushes = [Here(step.step, small.replace(r1=r1), point).push_rejected for r1 in (0.2, 0.4, 0.6, 0.8, 1.0)]
        assert pushes == sorted(pushes, reverse=True)
        pushes = [Here(step.step, small.replace(r2=r2), point).push_chosen for r2 in (1.0, 0.8, 0.6, 0.4, 0.2)]
        assert pushes == sorted(pushes)
        step.states("2", 2)


def test_pilot_5() -> None:
    with facts("pilot", 5) as step:
        sgdpo = objective(step.step)
        right, left = step.at("(6, −6)"), step.at("(−4, −8)")
        step.states("0.85", right.pushes)
        step.states("1.20", left.pushes)
        step.answers("The rejected answer at (6, −6), the chosen answer at (−4, −8)")
        assert sgdpo.r2 > sgdpo.r1  # in a wrong choice
        for point in EVERYWHERE:
            terms, here = terms_at(step.step, sgdpo, point), Here(step.step, sgdpo, point)
            surplus = terms["pilot_chosen"] + terms["pilot_rejected"] - sum(point)
            assert surplus == pytest.approx(0, abs=1e-9) or (here.pushes > 1) == (surplus > 0)
            assert Here(step.step, make_objective("dpo"), point).pushes == pytest.approx(1)
            assert (terms["pilot_chosen"] > point[0]) == (point[0] < 0)
        assert terms_at(step.step, sgdpo, (-8, 0))["pilot_chosen"] == -4, "4 of 8 tokens"
        weaker = [Here(step.step, sgdpo.replace(r1=r1), (-4, -8)).push_rejected for r1 in (0.6, 1.0)]
        assert weaker[0] < weaker[1]
        step.given("4", "8")
        step.given("1", "3")


def test_pilot_6() -> None:
    with facts("pilot", 6) as step:
        sgdpo, seeds = objective(step.step), torch.Generator().manual_seed(0)
        random = [torch.randn(1, 12, generator=seeds, dtype=torch.float64) for _ in range(2)]
        ref, mask = torch.full((1, 12), -2.0, dtype=torch.float64), torch.ones(1, 12, dtype=torch.bool)
        pairs = PairLogps(
            chosen=ref + random[0], rejected=ref + random[1], chosen_mask=mask, rejected_mask=mask, ref_chosen=ref, ref_rejected=ref
        )
        draws = [sgdpo.draw(pairs, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
        one, other = (with_credit(sgdpo, pairs, {}, draw, training=True).outcome.terms for draw in draws)
        for name in ("pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected"):
            assert not torch.isclose(one[name], other[name])
        for name in ("log_ratio_chosen", "log_ratio_rejected"):
            assert one[name] == other[name]
        for side, sign in (("chosen", -1), ("rejected", -1)):
            weight = sgdpo.beta / 2 * torch.sigmoid(sign * one[f"logit_{side}"])
            assert float(one[f"weight_{side}"]) == pytest.approx(float(weight))
        step.answers("log Y₁, log Y₂ and the weights of both answers")
        step.given("2", "1,000")
