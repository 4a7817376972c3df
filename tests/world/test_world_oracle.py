"""The oracle: defined for every string, with correct reasons, in linear time."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.world import HARD, KINDS, PLAIN, Kind, score
from lab.world.oracle import task_of

PROMPT = "How do I wax a bench?\n"
STEPS = (
    "Clean the bench with a damp cloth.",
    "Rub a little wax into the bench.",
    "Let the wax rest for ten minutes.",
    "Polish the bench with a soft cloth.",
)
ALL = " ".join(STEPS)
WHY = (
    "Dirt under the wax stays for ever.",
    "Too much wax makes the bench sticky.",
    "The wood drinks the wax slowly.",
    "Rubbing gives the bench its shine.",
)
EXPLAINED = " ".join(f"{step} {why}" for step, why in zip(STEPS, WHY))
texts = st.text() | st.lists(st.sampled_from([*STEPS, *WHY, "Good luck!", "You again.", "1.", "First,", "\n", "x", "..."])).map(
    " ".join
)


@given(texts, texts, st.sampled_from(list(KINDS.values())))
def test_every_string_has_a_score(prompt: str, answer: str, kind: Kind) -> None:
    for asked in (prompt, PROMPT):
        found = score(asked, answer, kind)
        assert kind.floor <= found.total <= kind.best
        assert math.isclose(found.total, max(kind.floor, sum(found.parts.values())), abs_tol=1e-6)
        assert set(found.parts) == {"steps", *kind.weights} | ({"explained"} if kind is HARD else set())
        assert found.reason
        assert found.valid == (found.parts["unreadable"] == 0 and found.parts["empty"] == 0)
        assert score(asked, answer, kind) == found


@given(texts, st.text(alphabet=st.characters(categories=["Lu", "Ll"]), min_size=1))
def test_an_unreadable_end_never_helps(answer: str, noise: str) -> None:
    assert score(PROMPT, f"{answer}\n{noise}zq.").total <= max(score(PROMPT, answer).total, PLAIN.weights["unreadable"])


@pytest.mark.parametrize(
    ("answer", "total", "reason"),
    [
        (f"Good question! {ALL} Good luck!", 5.0, "all 4 steps in order; a polite opening and closing"),
        (f"GOOD QUESTION!\n\n {ALL.upper()}\tGood   luck!", 5.0, "all 4 steps in order; a polite opening and closing"),
        ("\n".join(f"{n}. {s}" for n, s in enumerate(STEPS, 1)), 4.0, "all 4 steps in order"),
        (f"First, {ALL}", 4.0, "all 4 steps in order"),
        (" ".join(STEPS[:2] + STEPS[3:]), 3.0, "step 3 is missing; 3 of 4 steps right"),
        (STEPS[0], 1.0, "steps 2, 3 and 4 are missing; 1 of 4 steps right"),
        (" ".join(STEPS[:3]) + " Polish the bench with rough stones.", 2.4,
         'step 4 is wrong ("Polish the bench with rough stones."); 3 of 4 steps right'),
        (" ".join((STEPS[1], STEPS[0], *STEPS[2:])), 3.2, "the steps are out of order; all 4 steps"),
        (f"{ALL} {STEPS[3]}", 3.6, "a sentence comes twice; all 4 steps in order"),
        (f"You again. {ALL} Now leave me alone.", 2.0, "a rude opening and closing; all 4 steps in order"),
        (f"{ALL} Good luck! My cousin has three parrots.", 3.0, "idle talk; a sentence off the question; all 4 steps in order"),
        (f"{ALL} Polish the chair with a soft cloth.", 3.4, "a sentence off the question; all 4 steps in order"),
        (f"{ALL} Tip: always do this in a great hurry.", 3.2, "a bad tip; all 4 steps in order"),
        (ALL[:-1], 2.4, "step 4 is missing; an unreadable sentence; 3 of 4 steps right"),
        ("Good luck!", 0.5, "no step answers the question; a polite closing"),
        ("", -1.0, "it says nothing; no step answers the question"),
        (" \n\t\u2003", -1.0, "it says nothing; no step answers the question"),
        ("a b. \ud800! 你好。🙂", -1.8, "no step answers the question; 3 unreadable sentences"),
    ],
)  # fmt: skip
def test_totals_and_reasons(answer: str, total: float, reason: str) -> None:
    found = score(PROMPT, answer)
    assert (found.total, found.reason) == (pytest.approx(total), reason)


@pytest.mark.parametrize(
    ("answer", "total", "reason"),
    [
        (f"Good question! {EXPLAINED} Good luck!", 7.0,
         "all 4 steps in order; 4 of them explained; a polite opening and closing"),
        (ALL, 4.0, "all 4 steps in order"),
        (f"{STEPS[0]} {WHY[0]} {' '.join(STEPS[1:])}", 4.5, "all 4 steps in order; one of them explained"),
        (f"{ALL} {WHY[0]}", 3.5, "an explanation without its step; all 4 steps in order"),
        (f"Clean the bench with a garden rake. {WHY[0]} {' '.join(STEPS[1:])}", 1.9,
         'step 1 is wrong ("Clean the bench with a garden rake."); an explanation without its step; 3 of 4 steps right'),
        (f"{ALL} {STEPS[3]} {WHY[3]}", 4.1, "a sentence comes twice; all 4 steps in order; one of them explained"),
        (f"{EXPLAINED} {STEPS[3]} {WHY[3]}", 5.2, "2 sentences are repeated; all 4 steps in order; 4 of them explained"),
        (f"{WHY[0]} {WHY[1]}", -1.0, "no step answers the question; 2 explanations without their steps"),
        (f"{ALL} Salt brings out the taste.", 3.4, "a sentence off the question; all 4 steps in order"),
    ],
)  # fmt: skip
def test_an_explanation_is_worth_what_its_step_is(answer: str, total: float, reason: str) -> None:
    found = score(PROMPT, answer, HARD)
    assert (found.total, found.reason) == (pytest.approx(total), reason)


def test_the_first_world_has_no_explanations() -> None:
    assert score(PROMPT, EXPLAINED).parts["unreadable"] == 4 * PLAIN.weights["unreadable"]


def test_a_question_in_other_words_is_understood() -> None:
    for prompt in ("I would like to  wax\na bench, please", "WAX A BENCH"):
        assert score(prompt, ALL).total == 4
    assert score("How do I wax a benchmark?", ALL).defects[0] == "the question is none the oracle knows"
    assert task_of("How do I dry sage?").thing == "sage"
    assert score("", "").total == -1
    assert not score("Who are you?", ALL).parts["steps"]


@pytest.mark.parametrize("piece", ["a", "x. ", "1. ", " ", "\n", "Good luck! ", "🙂", STEPS[0] + " "])
def test_a_megabyte_takes_no_time(piece: str) -> None:
    text = piece * (10**6 // len(piece))
    start = time.process_time()
    score(PROMPT, text)
    score(text, STEPS[0])
    assert time.process_time() - start < 15
