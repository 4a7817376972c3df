"""Every exercise accepts a right answer and rejects answers of known misconceptions, with the reason."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from lab.errors import LabError
from lab.teaching.exercises import Verdict, check
from lab.teaching.exercises.judging import function, number
from lab.teaching.exercises.registry import EXERCISES, exercise, load_all


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# The right answers are typed here as a student would type them: independent of the library that the checks ask.
RIGHT = {
    "02.1": sigmoid(0.1 * (-3 + 8)),
    "02.2": "b",
    "02.3": lambda log_x1, log_x2, beta: beta * sigmoid(-beta * (log_x1 - log_x2)),
    "03.1": math.exp(-3),
    "03.2": "c",
    "03.3": (-2, -8),
    "04.1": lambda log_x2, log_y1, beta: beta / 2 * math.exp(beta * log_x2) / (math.exp(beta * log_y1) + math.exp(beta * log_x2)),
    "04.2": 7,
    "04.3": "b",
}

WRONG = {
    "02.1": [
        (sigmoid(5), "β = 1"),
        (sigmoid(-0.3), "chosen answer alone"),
        (sigmoid(-1.1), "were added"),
        (sigmoid(-0.5), "opposite order"),
        (0.5, "turns it into a probability"),
        (0.9, "preference_probability"),
        ("0.62", "not a number"),
    ],
    "02.2": [("a", "only the difference"), ("c", "so did the chosen one"), ("d", "none of the choices")],
    "02.3": [
        (lambda log_x1, log_x2, beta: -beta * sigmoid(-beta * (log_x1 - log_x2)), "sign is reversed"),
        (lambda log_x1, log_x2, beta: beta * sigmoid(beta * (log_x1 - log_x2)), "right order"),
        (lambda log_x1, log_x2, beta: sigmoid(-beta * (log_x1 - log_x2)), "β in front is missing"),
        (lambda log_x1, log_x2, beta: beta * sigmoid(-beta * (log_x1 - log_x2)) / math.exp(log_x1), "by X1 itself"),
        (lambda log_x1, log_x2, beta: -math.log(sigmoid(beta * (log_x1 - log_x2))), "This is the loss"),
        (lambda log_x1, log_x2, beta: beta * sigmoid(log_x2 - log_x1), "autograd"),
        (lambda log_x1, log_x2, beta: 1 / 0, "raised ZeroDivisionError"),
        (lambda log_x1, log_x2, beta: None, "did not return a number"),
        (0.05, "not a function"),
    ],
    "03.1": [
        (1.0, "in nats"),
        (math.exp(3), "X1/X2"),
        (-3, "logarithm of the ratio"),
        (math.exp(-1), "X1·X2"),
        (-2, "divides the log"),
    ],
    "03.2": [("a", "less likely"), ("b", "cannot be concluded")],
    "03.3": [
        ((2, -2), "not less likely"),
        ((-2, -2), "equally far"),
        ((-2, 1), "loss rose"),
        (-2, "two numbers"),
        ((-math.inf, -60), "finite"),
    ],
    "04.1": [
        (lambda log_x2, log_y1, beta: beta * sigmoid(beta * (log_x2 - log_y1)), "one half is missing"),
        (lambda log_x2, log_y1, beta: beta / 2 * sigmoid(beta * (log_x2 - log_y1)) / math.exp(log_x2), "by X2 itself"),
        (lambda log_x2, log_y1, beta: beta * sigmoid(beta * (log_x2 - log_y1)) / math.exp(log_x2), "magnitude in Theorem 1"),
        (lambda log_x2, log_y1, beta: -beta * sigmoid(beta * (log_x2 - log_y1)) / math.exp(log_x2), "as it stands"),
        (lambda log_x2, log_y1, beta: -beta / 2 * sigmoid(beta * (log_x2 - log_y1)), "sign is reversed"),
        (lambda log_x2, log_y1, beta: beta / 2 * sigmoid(beta * (log_y1 - log_x2)), "exchanged"),
    ],
    "04.2": [(12, "own 20 tokens"), (7.8, "whole"), (8, "rounded up"), (11, "with r2"), (5, "shorter answer")],
    "04.3": [("a", "one side only"), ("c", "same value"), ("d", "full answers")],
}


def test_every_exercise_of_these_lessons_is_tried():
    load_all()
    assert {name for name in EXERCISES if name[:2] in ("02", "03", "04")} == RIGHT.keys() == WRONG.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_accepted(name):
    verdict = check(name, RIGHT[name])
    assert verdict.right
    assert repr(verdict).startswith("Right. ")


@pytest.mark.parametrize(("name", "answer", "reason"), [(name, *wrong) for name, answers in WRONG.items() for wrong in answers])
def test_a_wrong_answer_is_rejected_with_the_reason(name, answer, reason):
    verdict = check(name, answer)
    assert not verdict.right
    assert verdict.answered
    assert reason in verdict.why
    assert repr(verdict).startswith("Not yet. ")


@pytest.mark.parametrize("name", RIGHT)
def test_the_placeholder_is_not_answered_yet(name):
    verdict = check(name, None)
    assert not verdict.right
    assert not verdict.answered
    assert repr(verdict).startswith("Not answered yet. ")


def test_every_reason_is_made_of_sentences():
    verdicts = [check(name, answer) for name, answers in WRONG.items() for answer, _ in answers]
    verdicts += [check(name, answer) for name, answer in RIGHT.items()]
    for verdict in verdicts:
        assert re.match(r"[A-Z\d'(-]", verdict.why)
        assert verdict.why.endswith(".") or "ZeroDivision" in verdict.why


def test_numbers_of_other_libraries_count():
    assert number(np.float32(0.25), 0.25, why="").right
    assert number(torch.tensor([0.25]), 0.25, why="").right
    for wrong in (True, math.nan, torch.ones(2), [0.25]):
        assert not number(wrong, 0.25, why="").right


def test_a_function_is_judged_at_every_point():
    verdict = function(abs, lambda x: x, [{"x": 1.0}, {"x": -1.0}], why="")
    assert "TypeError" in verdict.why  # abs takes no keywords
    verdict = function(lambda x: abs(x), lambda x: x, [{"x": 1.0}, {"x": -1.0}], why="")
    assert verdict.why == "At x = -1 your function returns 1, autograd -1."


def test_what_a_student_wrote_is_data():
    html = check("02.2", "<img src=x>")._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html


def test_mistakes_in_an_id_are_explained():
    with pytest.raises(LabError, match=r"no exercise '02\.9'; choose one of 02\.1, 02\.2"):
        check("02.9", 1)
    with pytest.raises(LabError, match="write lesson and number"):
        exercise("first")


def test_a_verdict_says_why():
    assert repr(Verdict(True, "It is so.")) == "Right. It is so."
