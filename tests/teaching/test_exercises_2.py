"""The exercises of lessons 05, 06 and 09: right answers are accepted, misconceptions are rejected with their reason."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

import lab
from lab.objectives import DPO
from tests.teaching.judging import assert_right, assert_unanswered, assert_wrong


class HalfPush(lab.Objective):
    """DPO's value, half of its push on the rejected answer."""

    name: ClassVar[str] = "half_push"
    beta: float = 0.1
    share: float = 0.5

    def compute(self, p: Any, state: Any, draws: Any, *, training: bool) -> Any:
        log_x2 = self.share * p.X2 + (1 - self.share) * p.X2.detach()
        return lab.Outcome(-torch.nn.functional.logsigmoid(self.beta * (p.X1 - log_x2))), state


class NoPush(HalfPush):
    """Everything of the rejected answer detached."""

    share: float = 0.0


class ScaledX2(HalfPush):
    """A factor on log X2 itself."""

    def compute(self, p: Any, state: Any, draws: Any, *, training: bool) -> Any:
        return lab.Outcome(-torch.nn.functional.logsigmoid(self.beta * (p.X1 - 0.5 * p.X2))), state


class Broken(HalfPush):
    """Code that raises."""

    def compute(self, p: Any, state: Any, draws: Any, *, training: bool) -> Any:
        raise KeyError("x1")


RIGHT = [
    ("05.1", 1.625),
    ("05.2", 0.05),
    ("05.3", {"alpha": 0.0, "beta": 2.0, "gamma_beta_ratio": 0.5}),
    ("05.3", {"alpha": 0, "beta": 2, "gamma_beta_ratio": 0.5, "normalize": "none"}),
    ("06.1", 5),
    ("06.2", "c"),
    ("06.3", [0.0, -2.0, -1.0, -3.0]),
    ("06.3", (5, 6, 1, 0)),
    ("09.1", 8.0),
    ("09.2", HalfPush),
    ("09.2", HalfPush(beta=0.3)),
    ("09.3", "b"),
]

WRONG = [
    ("05.1", 0.65, "β"),
    ("05.1", 1.55, "Eq. 12"),
    ("05.1", 1.875, "z-score"),
    ("05.1", 1.5, "SimPO"),
    ("05.1", 2.5 * (0.6 + 0.05 * 1.224745), "n − 1"),
    ("05.1", 7.0, "first"),
    ("05.2", 0.125, "sign"),
    ("05.2", 0.6, "constant"),
    ("05.2", 0.0, "runs away"),
    ("05.3", {"gamma_beta_ratio": 0.0}, "γ is SimPO's own margin"),
    ("05.3", {"reference": "policy", "beta": 2.0, "gamma_beta_ratio": 0.5}, "reference"),
    ("05.3", {"normalize": "none", "beta": 2.0, "gamma_beta_ratio": 0.5}, "normalisation"),
    ("05.3", {"alpha": 0.0}, "beta and gamma_beta_ratio differ"),
    ("05.3", {"alpha": 0.0, "beta": 2.0, "gamma_beta_ratio": 0.5, "length_normalize": False}, "averages"),
    ("05.3", {"gamma": 0.0}, "no parameter 'gamma'"),
    ("05.3", 0.0, "dictionary"),
    ("06.1", 2, "no count"),
    ("06.1", 4, "not down"),
    ("06.1", 3.5, "three removals"),
    ("06.1", 14 / 3, "round"),
    ("06.2", "a", "L_align"),
    ("06.2", "b", "does not change"),
    ("06.2", "d", "added"),
    ("06.3", [0, -1, -2, -2.1], "How far"),
    ("06.3", [0, 1, 2, 3], "rise"),
    ("06.3", [1, 1, 1, 1], "equal"),
    ("06.3", -0.8, "4 numbers"),
    ("06.3", [0, -3, -2, -1], "swap"),
    ("09.1", 2.0, "nats"),
    ("09.1", 0.5, "divide"),
    ("09.1", 0.125, "upside down"),
    ("09.2", DPO, "1.00"),
    ("09.2", ScaledX2, "changes the value"),
    ("09.2", NoPush, "not pushed at all"),
    ("09.2", Broken, "KeyError"),
    ("09.2", 0.5, "no objective"),
    ("09.3", "a", "h = 0"),
    ("09.3", "c", "ratio"),
    ("09.3", "d", "compute"),
]


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_a_right_answer_is_accepted(exercise: str, answer: Any) -> None:
    assert_right(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer", "reason"), WRONG)
def test_a_wrong_answer_is_rejected_with_its_reason(exercise: str, answer: Any, reason: str) -> None:
    assert_wrong(exercise, answer, reason)


@pytest.mark.parametrize("exercise", sorted({exercise for exercise, _ in RIGHT}))
def test_a_placeholder_is_not_answered_yet(exercise: str) -> None:
    assert_unanswered(exercise)


def test_every_exercise_has_two_wrong_answers() -> None:
    assert all(sum(exercise == other for other, _, _ in WRONG) >= 2 for exercise, _ in RIGHT)
