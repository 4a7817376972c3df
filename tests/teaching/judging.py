"""Assertions about the checks of the exercises, shared by their tests."""

from __future__ import annotations

from typing import Any

from lab.teaching.exercises import check


def assert_right(exercise: str, answer: Any) -> None:
    """The check accepts the answer and says why."""
    verdict = check(exercise, answer)
    assert verdict.right, verdict
    assert verdict.why


def assert_wrong(exercise: str, answer: Any, reason: str) -> None:
    """The check rejects the answer for this reason."""
    verdict = check(exercise, answer)
    assert not verdict.right
    assert verdict.answered
    assert reason in verdict.why


def assert_unanswered(exercise: str) -> None:
    """The check takes a placeholder for no answer yet."""
    verdict = check(exercise, None)
    assert not verdict.right
    assert not verdict.answered
