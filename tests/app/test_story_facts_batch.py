"""What the stories about margins, the stop-gradient and SPO's degrees state, computed with the library.

A test of a step names every number in its text: one that no line computes, and that is no coordinate or setting, fails the test.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import exp

import pytest
import torch

from app.state.learn.learn_address import read_state
from lab.objectives import AlphaDPO, flow
from lab.pairs import removed_spans
from lab.pairs.degrade import DECISION, degrade
from lab.pairs.rake import STOP_WORDS, key_phrases
from lab.teaching import PairNumbers, pair_logps
from tests.app.story_facts import (
    EVERYWHERE,
    STORIES,
    Here,
    facts,
    moved,
    objective,
    pairs_of,
    plane_of,
    statistics,
    table,
    terms_at,
)

# Facts: from SimPO to α-DPO's margin ----------------------------------------------------------------------------------------


def test_margin_1() -> None:
    with facts("margin", 1) as step:
        simpo = objective(step.step)
        assert not simpo.needs_reference
        step.states("1.313", step.at("(0, 0)").loss)
        without = Here(step.step, simpo.replace(gamma_beta_ratio=0.0), (0, 0)).loss
        step.states("0.693", without)
        step.answers("0.693")
        step.states("2", exp(without))
        step.states("0.5", simpo.gamma_beta_ratio)
        ahead = step.point("(4, 0)")
        pairs = pair_logps([PairNumbers(*ahead)])
        step.states("0.5", float(pairs.avg_w - pairs.avg_l))
        step.states("0.693", Here(step.step, simpo, ahead).loss)


def test_margin_2() -> None:
    with facts("margin", 2) as step:
        simpo, rows = objective(step.step), pairs_of(step.step)
        before, after = table(simpo, rows), table(simpo, moved(rows, 2, 12))
        step.answers("Only row 2, and its target margin stays 4")
        step.states("4", rows[1].log_x1)
        assert before["target_margin"] == after["target_margin"] == pytest.approx([4.0] * 6)
        changed = [pair for pair in range(1, 7) if any(before[name][pair - 1] != after[name][pair - 1] for name in before)]
        assert changed == [2]
        step.states("1", before["logit"][1])
        step.states("11", after["logit"][1])
        step.states("0.313", before["loss"][1])
        step.states("0", after["loss"][1])
        step.given("2", "12")


def test_margin_3() -> None:
    with facts("margin", 3) as step:
        alpha_dpo, rows = objective(step.step), pairs_of(step.step)
        gaps = table(alpha_dpo, rows)["gap"]
        step.states("0.25", gaps[0])
        step.states("0.50", gaps[1])
        step.answers("Pair 2")
        shorter = [replace(rows[0], tokens=rows[1].tokens), *rows[1:]]
        step.states("0.75", table(alpha_dpo, shorter)["gap"][0])
        for number, value in (
            ("6", rows[0].log_x1),
            ("24", rows[0].tokens[0]),
            ("4", rows[1].log_x1),
            ("8", rows[1].tokens[0]),
            ("0", rows[0].log_x2),
        ):
            step.states(number, value)
        assert rows[1].log_x2 == 0
        step.given("1", "2")
        pairs = pair_logps(rows)
        assert gaps == pytest.approx((pairs.X1 / pairs.n_w - pairs.X2 / pairs.n_l).tolist())


def test_margin_4() -> None:
    with facts("margin", 4) as step:
        simpo, alpha_dpo, rows = objective(step.step), objective(step.step, "B"), pairs_of(step.step)
        zero = table(alpha_dpo, rows)
        step.states("0", alpha_dpo.alpha)
        assert table(simpo, rows)["loss"] == zero["loss"]
        step.states("0.2", 0.2)
        raised = table(alpha_dpo.replace(alpha=0.2), rows)
        step.states("4", zero["target_margin"][1])
        for pair in (2, 3):
            step.states(str(pair), pair)
            step.states("5.88", raised["target_margin"][pair - 1])
            assert raised["gap"][pair - 1] == max(raised["gap"])
        step.states("5", raised["gap"].index(min(raised["gap"])) + 1)
        step.states("0.62", raised["target_margin"][4])
        step.answers("Those of pairs whose gap is above the mean")
        mean = sum(raised["gap"]) / 6
        for gap, before, after in zip(raised["gap"], zero["target_margin"], raised["target_margin"]):
            assert (after > before) == (gap > mean)
        assert alpha_dpo.beta * 0.2 == 2  # in a wrong choice


def test_margin_5() -> None:
    with facts("margin", 5) as step:
        rows = pairs_of(step.step)
        simpo, alpha_dpo = (table(objective(step.step, slot), rows) for slot in "AB")
        for pair in (2, 4):
            step.states(str(pair), pair)
            step.states("0.313", simpo["loss"][pair - 1])
            step.states("0.336", simpo["weight_chosen"][pair - 1])
        step.states("0", alpha_dpo["gap"][3])
        assert (rows[3].log_x1, rows[3].log_x2) == (0, 0)
        assert rows[3].ref[0] > rows[3].ref[1]
        step.states("0.883", alpha_dpo["weight_chosen"][1])
        step.states("0.133", alpha_dpo["weight_chosen"][3])
        step.answers("Pair 2")
        assert alpha_dpo["logit"][1] < 0, "pair 2 has not reached its margin"
        mean = sum(alpha_dpo["gap"]) / 6
        for gap, before, after in zip(alpha_dpo["gap"], simpo["weight_chosen"], alpha_dpo["weight_chosen"]):
            assert (after > before) == (gap > mean)


def test_margin_6() -> None:
    with facts("margin", 6) as step:
        alpha_dpo, rows = objective(step.step), pairs_of(step.step)
        before, after = table(alpha_dpo, rows), table(alpha_dpo, moved(rows, 2, 12))
        step.states("0.50", before["gap"][1])
        step.states("0.50", before["gap"][2])
        step.states("5.88", before["target_margin"][2])
        step.states("4.46", after["target_margin"][2])
        step.answers("It falls to 4.46")
        assert round(after["target_margin"][1], 2) == 7.61  # in a wrong choice
        step.states("0.94", before["z"][2])
        step.states("0.23", after["z"][2])
        first, second = (torch.tensor(column["gap"]) for column in (before, after))
        assert second.mean() > first.mean()
        assert second.std() > first.std()
        step.states("4", rows[1].log_x1)
        step.given("2", "3", "12")
        # After an earlier batch, the moving averages dampen what one pair does.
        state = alpha_dpo(pair_logps(rows), alpha_dpo.initial_state(), {}, training=True)[1]
        later = alpha_dpo(pair_logps(moved(rows, 2, 12)), state, {}, training=True)[0].terms["target_margin"]
        assert after["target_margin"][2] < float(later[2]) < before["target_margin"][2]


# Facts: what the stop-gradient prevents -------------------------------------------------------------------------------------


def test_stop_gradient_1() -> None:
    with facts("stop-gradient", 1) as step:
        step.states("9.00", step.at("(2, −2)").loss)
        step.answers("Only in the pushes")
        assert max(abs(value) for pair in pairs_of(step.step) for value in (pair.log_x1, pair.log_x2)) < 1
        for point in EVERYWHERE:
            one, other = (Here(step.step, objective(step.step, slot), point) for slot in "AB")
            assert other.loss == pytest.approx(one.loss)
            assert other.push_chosen != pytest.approx(one.push_chosen)


def test_stop_gradient_2() -> None:
    with facts("stop-gradient", 2) as step:
        kept, free = step.at("(0, 0)"), step.at("(0, 0)", "B")
        step.states("1.23", kept.push_chosen)
        step.states("−1.23", free.push_chosen)
        step.answers("To the left and up")
        assert free.push_rejected < 0 < kept.push_rejected
        alpha_dpo = objective(step.step, "B")
        assert isinstance(alpha_dpo, AlphaDPO)
        std = float(torch.tensor(table(alpha_dpo, pairs_of(step.step))["gap"]).std())
        step.states("2", alpha_dpo.alpha / std)
        margin, d = (
            [value(terms_at(step.step, alpha_dpo, point)) for point in ((0.0, 0.0), (4.0, 0.0))]
            for value in (lambda t: t["target_margin"], lambda t: t["logit"] + t["target_margin"])
        )
        assert margin[1] - margin[0] == pytest.approx(2 * (d[1] - d[0]))


def test_stop_gradient_3() -> None:
    with facts("stop-gradient", 3) as step:
        start = step.point("(0, 0)")
        kept, free = (
            flow(
                objective(step.step, slot),
                start,
                steps=10,
                rate=float(step.step.state["rate"]),
                state=statistics(step.step, objective(step.step, slot)),
            )
            for slot in "AB"
        )
        assert "Press Step ten times" in step.text
        step.states("4.02", float(kept.value[0]))
        step.states("4.02", float(free.value[0]))
        step.states("6.2", float(kept.log_x1[10]))
        step.states("−6.2", float(kept.log_x2[10]))
        step.states("19.59", float(kept.value[10]))
        step.states("−2.6", float(free.log_x1[10]))
        step.states("2.6", float(free.log_x2[10]))
        step.states("0.085", float(free.value[10]))
        step.answers("A's loss rises and B's loss falls")


def test_stop_gradient_4() -> None:
    with facts("stop-gradient", 4) as step:
        free, point = objective(step.step), read_state(step.step.state)[0].point
        gaps = torch.tensor(table(free, pairs_of(step.step))["gap"])
        step.states("0", float(gaps.mean()))
        step.states("0.1", float(gaps.std()))
        step.states("0.2", free.alpha)
        step.answers("0.1, the std of the gap")
        pushes = {alpha: Here(step.step, free.replace(alpha=alpha), point).push_chosen for alpha in (0.2, 0.12, 0.1, 0.08, 0.05)}
        assert pushes[0.2] < pushes[0.12] < 0 < pushes[0.08]
        step.states("0", pushes[0.1])
        step.states("0.05", 0.05)
        step.states("0.59", pushes[0.05])
        held = Here(step.step, free.replace(alpha=0.05, stop_gradient=True), point).push_chosen
        assert pushes[0.05] == pytest.approx(held / 2)
        step.states("1", pushes[0.05] / held + 0.05 / float(gaps.std()))  # the factor is 1 - alpha/std
        published = "length-controlled win rate 2.7 instead of 58.7"
        assert published in " ".join((AlphaDPO.__doc__ or "").split())
        step.given("2.7", "58.7")
        assert free.gamma_beta_ratio / free.beta == pytest.approx(0.04)  # in a wrong choice


def test_stop_gradient_5() -> None:
    with facts("stop-gradient", 5) as step:
        step.states("0.0155", step.at("(6, −2)").push_chosen)
        step.states("0.0310", step.at("(6, −2)", "B").push_chosen)
        step.states("0.0310", step.at("(6, −2)", "C").push_chosen)
        step.answers("B and C")
        step.given("1")
        for point in EVERYWHERE:
            a, b, c = (Here(step.step, objective(step.step, slot), point) for slot in "ABC")
            assert (b.loss, b.push_chosen, b.push_rejected) == pytest.approx((c.loss, c.push_chosen, c.push_rejected))
            assert 2 * a.push_chosen == pytest.approx(c.push_chosen)


def test_stop_gradient_6() -> None:
    with facts("stop-gradient", 6) as step:
        kept, free = step.at("(0, 0)"), step.at("(0, 0)", "B")
        step.states("0.025", kept.push_chosen)
        step.states("0.025", kept.push_rejected)
        step.states("0.0375", free.push_chosen)
        step.states("0.0469", free.push_rejected)
        step.answers("The rejected answer")
        sgdpo = objective(step.step)
        step.states("0.6", sgdpo.r1)
        step.states("0.9", sgdpo.r2)
        terms = terms_at(step.step, sgdpo, (8, -8))
        step.states("4", terms["pilot_chosen"])
        step.states("7", -terms["pilot_rejected"])
        assert plane_of(step.step).tokens == (8, 8)
        step.given("8")


# Facts: SPO's degrees -------------------------------------------------------------------------------------------------------


def removed(text: str, degrees: int) -> list[list[str]]:
    """Phrases that each degree lacks, in the order of the text."""
    return [[text[start:end] for start, end in spans] for spans in removed_spans(text, degrees)]


def scores(text: str) -> dict[str, float]:
    return {phrase.text: phrase.score for phrase in key_phrases(text)}


def test_degrees_1() -> None:
    with facts("degrees", 1) as step:
        text, degrees = step.step.state["text"], int(step.step.state["degrees"])
        step.states("8", len(scores(text)))
        gone = removed(text, degrees)
        step.states("0", len(gone[0]))
        step.states("1", 1)
        step.states("3", len(gone[1]))
        assert gone[1] == ["Fresh bread needs warm water", "fresh bread rest", "warm clay oven"]
        for phrase, score in (("Fresh bread needs warm water", "22"), ("fresh bread rest", "11"), ("warm clay oven", "10")):
            assert f"{phrase} ({score})" in step.text
            step.states(score, scores(text)[phrase])
        step.answers("warm clay oven")
        for phrase, score in (("dry yeast", "4"), ("patience", "1")):
            assert f"{phrase} ({score})" in step.text
            step.states(score, scores(text)[phrase])
            assert phrase in gone[2]
            assert phrase not in gone[1]
        step.states("2", 2)
        assert "degree k of N removes the share" in DECISION


def test_degrees_2() -> None:
    with facts("degrees", 2) as step:
        text = step.step.state["text"]
        step.states("3", int(step.step.state["degrees"]) - 1)
        left = re.findall(r"\w+", degrade(text, 4)[3].lower())
        step.answers("Function words such as and, the, by, and punctuation")
        assert {*left} <= STOP_WORDS
        assert {"and", "the", "by"} <= {*left}
        assert len({word for phrase in removed(text, 4)[3] for word in phrase.lower().split()} & {"needs", "knead", "rest"}) == 3


def test_degrees_3() -> None:
    with facts("degrees", 3) as step:
        text = step.step.state["text"]
        counts = [len(phrases) for phrases in removed(text, 4)]
        assert counts == [0, 3, 5, 8]
        step.given("1", "3", "4", "5")
        step.states("8", len(removed(text, 2)[1]))
        step.answers("All 8 phrases")
        step.states("2", len(removed(text, 2)))
        assert "share k/(N-1)" in DECISION


def test_degrees_4() -> None:
    with facts("degrees", 4) as step:
        text = step.step.state["text"]
        step.states("9", scores(text)["grey kitten sleeps"])
        step.states("1", scores(text)["garden"])
        longer = step.step.question.partition(": ")[2].partition(" What")[0]
        step.states("16", scores(longer)["small grey kitten sleeps"])
        step.answers("16")
        step.states("4", 16**0.5)


def test_degrees_5() -> None:
    with facts("degrees", 5) as step:
        text = step.step.state["text"]
        assert [*scores(text)] == ["kitten sleeps", "garden"]
        step.states("4", int(step.step.state["degrees"]))
        assert degrade(text, 4) == []
        step.answers("From 3")
        step.states("3", max(number for number in range(2, 9) if degrade(text, number)))
        assert removed(text, 3)[1:] == [["kitten sleeps"], ["kitten sleeps", "garden"]]
        step.states("1", 1)
        step.states("2", len(removed(text, 3)[2]))


def test_degrees_6() -> None:
    with facts("degrees", 6) as step:
        dpo, spo = step.at("(6, −2)"), step.at("(6, −2)", "B")
        step.states("0.031", dpo.push_chosen)
        step.states("0.031", spo.push_chosen)
        step.answers("They are the same")
        step.states("0", spo.loss - dpo.loss)
        for point in EVERYWHERE:
            a, b = (Here(step.step, objective(step.step, slot), point) for slot in "AB")
            assert (b.loss, b.push_chosen, b.push_rejected) == pytest.approx((a.loss, a.push_chosen, a.push_rejected))
        step.states("6", STORIES["degrees"].lesson)
