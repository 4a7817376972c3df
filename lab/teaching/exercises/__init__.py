"""Exercises of the lessons and the checks of their answers, one module per lesson.

    from lab.teaching.exercises import check
    check("03.1", 0.5)

A lesson's module is imported with its first check. It declares its exercises with `@exercise`.
"""

from .registry import Verdict, check

__all__ = ["Verdict", "check"]
