"""Registry of the exercises: `check` judges an answer and returns a verdict with its reason.

An exercise is a function from an answer to a verdict, in the module of its lesson:

    @exercise("03.1")
    def ratio(answer: Any) -> Verdict:
        '''Ratio of increase to decrease of DPO at a point.'''
        return number(answer, measured, wrong={...}, why="...")
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from lab.errors import LabError, did_you_mean

__all__ = ["EXERCISES", "Verdict", "check", "exercise", "load_all"]


@dataclass(frozen=True)
class Verdict:
    """Judgement of an answer to an exercise.

    Attributes:
        right: Whether the answer is correct.
        why: The reason, in a sentence or two.
        answered: False while the answer is still the placeholder None.
    """

    right: bool
    why: str
    answered: bool = True

    @property
    def title(self) -> str:
        """The verdict in a word or two."""
        return "Right." if self.right else "Not yet." if self.answered else "Not answered yet."

    def __repr__(self) -> str:
        return f"{self.title} {self.why}"

    def _repr_html_(self) -> str:
        colour = "#1a7f37" if self.right else "#b35900" if self.answered else "#6e7781"
        box = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; max-width: 60em"
        return f'<div style="{box}"><b style="color: {colour}">{self.title}</b> {escape(self.why)}</div>'


Judge = Callable[[Any], Verdict]

EXERCISES: dict[str, Judge] = {}
"""The exercises of the lessons imported so far, by id: "03.1" is the first exercise of lesson 03."""


def exercise(exercise_id: str) -> Callable[[Judge], Judge]:
    """Register the decorated function as the judge of an exercise; it is called with every answer but None.

    Args:
        exercise_id: Number of the lesson and of the exercise, as in "03.1"; the lesson's module is then `lesson03`.

    Raises:
        LabError: The id does not have the form "03.1".
    """
    if not re.fullmatch(r"\d\d\.\d+", exercise_id):
        raise LabError(f"{exercise_id!r} is no id of an exercise; write lesson and number, as in '03.1'.")

    def add(judge: Judge) -> Judge:
        EXERCISES[exercise_id] = judge
        return judge

    return add


def check(exercise_id: str, answer: Any) -> Verdict:
    """Judge the answer to an exercise.

    Args:
        exercise_id: Id of the exercise, as the lesson names it: "03.1".
        answer: The student's number, choice or function; None where there is no answer yet.

    Returns:
        The verdict. It displays itself in a notebook; `right` and `why` hold its parts.

    Raises:
        LabError: There is no such exercise.
    """
    if exercise_id not in EXERCISES:
        load_all()
    judge = EXERCISES.get(exercise_id)
    if judge is None:
        known = ", ".join(sorted(EXERCISES))
        raise LabError(f"There is no exercise {exercise_id!r}; choose one of {known}.{did_you_mean(exercise_id, EXERCISES)}")
    if answer is None:
        return Verdict(False, "Replace None with your answer and run the cell again.", answered=False)
    return judge(answer)


def load_all() -> None:
    """Import the modules of all lessons, which registers their exercises."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("lesson"):
            importlib.import_module(f"{__package__}.{module.name}")
