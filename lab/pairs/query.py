"""A query on a pair set: what to search, filter and sort by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .pair import PairsError, json_type

State = Literal["current", "edited", "dropped", "all"]
"""Not dropped; not dropped and different from the import; dropped; every pair."""

SORTS = ("position", "recent", "prompt_words", "chosen_words", "rejected_words", "length_difference", "weight", "degree")
"""Orders of a pair set, beside the names of its numbers; `length_difference` is chosen minus rejected, in words."""


@dataclass(frozen=True)
class NumberRange:
    """Pairs whose number `name` lies from `low` to `high`, both included; None is no bound. Pairs without it are left out."""

    name: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            try:
                usable = bound is None or (not isinstance(bound, str) and float(bound) == float(bound))
            except (TypeError, ValueError, OverflowError):
                usable = False
            if not usable:
                raise PairsError(f"A range of {self.name} ends at {str(bound)[:40]!r}; give numbers, or None for no bound.")


@dataclass(frozen=True)
class PairQuery:
    """Which pairs of a set, in which order.

    Attributes:
        text: Text, in any case, in a prompt or an answer; or the id of a pair.
        state: "current" (not dropped), "edited", "dropped" or "all".
        tags: The pair has every one of these tags.
        without_tags: The pair has none of these tags.
        finding: Name of a check that found something in the pair; "any" for every check.
        numbers: Ranges of numbers, all of which hold: those of SORTS except "position" and "recent", and every name of
            `PairStore.number_names` (terms of runs such as "first/rewards/margins").
        sort: One of SORTS, or the name of a number; pairs without it come last.
        descending: Whether the largest come first. "recent" always begins with the latest edit.
    """

    text: str = ""
    state: State = "current"
    tags: tuple[str, ...] = ()
    without_tags: tuple[str, ...] = ()
    finding: str | None = None
    numbers: tuple[NumberRange, ...] = ()
    sort: str = "position"
    descending: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise PairsError(f"The text to search is {json_type(self.text)}; give text.")
        for name in ("tags", "without_tags", "numbers"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise PairsError(f"{name} of a query is {json_type(getattr(self, name))}; give a tuple, such as ('checked',).")
