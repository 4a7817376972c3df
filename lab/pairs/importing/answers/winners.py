"""Two answers side by side, and the column or the scores that say which of them is better."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.pairs.importing.values import as_number
from lab.pairs.pair import PairsError

from .paths import is_given, normal, value_at

STEMS = (
    "response",
    "answer",
    "completion",
    "output",
    "summary",
    "text",
    "human_ref",
    "conversation",
    "generation",
    "orig_response",
)
ENDINGS = (("0", "1"), ("1", "2"), ("a", "b"))
LISTS = ("summaries", "responses", "answers", "completions", "candidates", "generations", "outputs")
WINNERS = (
    "winner",
    "better_response_id",
    "safer_response_id",
    "better_response",
    "preferred_response",
    "preferred_answer",
    "preference",
    "preferred",
    "preference_label",
    "overall_preference",
    "preference_strength",
    "human_preference",
    "orig_preference",
    "label",
    "labels",
    "choice",
    "verdict",
)
SIGNED = ("overall_preference", "preference_strength")
"""Columns from -3 to 3 (HelpSteer): below 0 the first answer is better, above 0 the second."""
ONE_FOR_THE_FIRST = ("human_ref_a", "labels")
"""First answer and label of SHP, where 1 means A and 0 means B."""
SCORES = ("winner_model", "score", "rating", "reward", "overall_score")
TIE = re.compile(r"tie|draw|equal|same|both|neither|none")
LABEL = re.compile(
    r"[^\w-]*(?:(?:the\s)?(?:response|answer|completion|output|summary|text|conversation|generation|candidate|option|choice|model"
    r"|assistant|system|human_ref|orig_response)[_\s]?)?([012ab])\W*"
)
"""A label: the ending of an answer, alone or after a word for an answer. Other words, or a minus, may mean the opposite."""
MODELS = ("model", "model_name", "generator", "source")
"""Stems of columns that name who wrote an answer, by which a label may name it."""


def two_answers(named: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the columns (or paths) of two answers that differ by 0 and 1, 1 and 2, or a and b; None where there are none.

    Args:
        named: Names of the columns as `normal` writes them -> names as they are.
        rows: Some rows.
    """
    for stem in STEMS:
        for first, second in ENDINGS:
            for mark in ("_", ""):
                names = f"{stem}{mark}{first}", f"{stem}{mark}{second}"
                if all(name in named for name in names):
                    return named[names[0]], named[names[1]]
    for name in LISTS:
        values: list[Any] = [value for row in rows if is_given(value := row.get(named.get(name, "")))]
        if values and all(isinstance(value, (list, tuple)) and len(value) == 2 for value in values) and _candidates(named):
            item = values[0][0]
            key = next(
                (f".{key}" for key in ("text", "content", "answer", "response") if isinstance(item, Mapping) and key in item), ""
            )
            return f"{named[name]}.0{key}", f"{named[name]}.1{key}"
    return None


def guess_winner(named: Mapping[str, str], answers: tuple[str, str], holds: Callable[[str], bool]) -> list[tuple[str, ...]]:
    """Return the columns that can say which of two answers is better; the two of scores only where no other does."""
    candidates: list[tuple[str, ...]] = [(column,) for column in _candidates(named) if holds(column)]
    if candidates:
        return candidates
    first, second = (_ending(answer) for answer in answers)
    pairs = [(f"{name}_{first}", f"{name}_{second}") for name in SCORES]
    scored: list[tuple[str, ...]] = [(named[one], named[other]) for one, other in pairs if one in named and other in named]
    return scored[:1]


def _candidates(named: Mapping[str, str]) -> list[str]:
    return [named[name] for name in WINNERS if name in named]


def _ending(answer: str) -> str:
    """The part of an answer's column by which it differs from the other's."""
    path = re.search(r"\.(\d)(?:\.|$)", answer)
    return path[1] if path else normal(answer)[-1]


def second_is_better(row: Mapping[str, Any], answers: tuple[str, str], winner: tuple[str, ...]) -> bool:
    """Return whether the second of two answers is the better one. Raises PairsError for a tie, or a value that names neither."""
    values = [value_at(row, column) for column in winner]
    if len(winner) == 2:
        scores = [as_number(value) for value in values]
        if None in scores:
            raise PairsError(
                f"{' or '.join(winner)} holds no number, so neither answer is better; give both, or leave the row out."
            )
        if scores[0] == scores[1]:
            raise PairsError(f"{winner[0]} and {winner[1]} are equal: neither answer is better; leave the row out.")
        return bool(scores[1] > scores[0])  # type: ignore[operator]
    (column,), (value,) = winner, values
    number = as_number(value)
    if normal(column) in SIGNED and number is not None:
        if number == 0:
            raise PairsError(f"{column} is 0: neither answer is better; leave the row out.")
        return number > 0
    if (normal(answers[0]), normal(column)) == ONE_FOR_THE_FIRST and number in (0, 1):
        return number == 0
    label = _label(value)
    if label is not None and normal(label) in (normal(answer) for answer in answers):
        return normal(label) == normal(answers[1])
    if not label or TIE.search(label):
        shown = f"{label!a}" if label else "empty"
        raise PairsError(f"{column} is {shown}: neither answer is better; leave the row out.")
    endings = [_ending(answer) for answer in answers]
    if (authors := _authors(row, endings)) and label in authors and authors[0] != authors[1]:
        return label == authors[1]
    match = LABEL.fullmatch(label)
    if match is None or match[1] not in endings:
        raise PairsError(
            f"{column} is {label[:40]!a}, which names neither {answers[0]} nor {answers[1]}; write {endings[0]} or {endings[1]}."
        )
    return match[1] == endings[1]


def _authors(row: Mapping[str, Any], endings: list[str]) -> list[str] | None:
    """The names of the models that wrote the two answers; None where no columns name them."""
    named = {normal(str(key)): value for key, value in row.items()}
    for stem in MODELS:
        names = [named.get(f"{stem}_{ending}") for ending in endings]
        if all(isinstance(name, str) and name.strip() for name in names):
            return [str(name).strip().lower() for name in names]
    return None


def _label(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    number = as_number(value)
    return str(int(number)) if number is not None and number == int(number) else str(value).strip().lower()


def check_labels(rows: Iterable[Mapping[str, Any]], answers: tuple[str, str], winner: tuple[str, ...]) -> None:
    """Raise PairsError where labels of some rows count from another number than the answers, so that 1 could mean either."""
    if len(winner) != 1 or normal(winner[0]) in SIGNED or (normal(answers[0]), normal(winner[0])) == ONE_FOR_THE_FIRST:
        return
    labels = {str(label) for row in rows if (label := _label(value_at(row, winner[0]))) in ("0", "1", "2")}
    endings = {_ending(answer) for answer in answers}
    if not labels <= endings:
        raise PairsError(
            f"{winner[0]} holds {' and '.join(sorted(labels))}, but the answers are {answers[0]} and {answers[1]}, so it is not "
            f"sure which one is meant; write {' or '.join(sorted(endings))} into {winner[0]}."
        )
