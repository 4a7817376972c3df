"""Several answers of a row with scores or ranks: the pairs that they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

from lab.pairs.importing.messages import as_python
from lab.pairs.importing.values import as_number
from lab.pairs.pair import PairsError

from .paths import is_given
from .winners import LISTS

TEXTS = ("response", "answer", "text", "content", "completion", "output")
ORDERS = ("overall_score", "score", "rating", "reward", "rank")
LONGEST_KEPT = 100
"""Characters of a text beside an answer, such as its model's name, up to which it is kept with the pair."""


class Answer(NamedTuple):
    """An answer with its score (higher is better; ranks are negative), and what stands beside it."""

    text: Any
    score: float
    more: dict[str, Any]


def guess_ranking(named: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return (column of the answers, what they are ordered by): a key of each answer, or a column with a list beside it."""
    for name in LISTS:
        column = named.get(name, "")
        values = [value for row in rows if is_given(value := as_python(row.get(column)))]
        if not column or not values or not all(isinstance(value, list) for value in values):
            continue
        item = values[0][0]
        if isinstance(item, Mapping) and any(key in item for key in TEXTS):
            if order := next((key for key in ORDERS if key in item), ""):
                return column, order
        elif isinstance(item, (str, list)):
            lists = (named[f"{order}s"] for order in ORDERS if f"{order}s" in named)
            if order := next(lists, ""):
                return column, order
    return None


def ranked_rows(row: Mapping[str, Any], column: str, order: str, pairing: str, counts: Counter[str]) -> list[dict[str, Any]]:
    """Return rows with chosen and rejected from a row with several answers, and their scores if they are no ranks.

    Args:
        row: The row.
        column: Column of the answers.
        order: What they are ordered by; names with "rank" count from the best.
        pairing: "best_worst" for one pair, "all" for every two answers that differ in their score.
        counts: Where to count what was done.

    Raises:
        PairsError: There are no two answers of which one is better.
    """
    answers = sorted(_answers(row, column, order, counts), key=lambda answer: -answer.score)
    pairs = list(combinations(answers, 2)) if pairing == "all" else [(answers[0], answers[-1])] if len(answers) > 1 else []
    pairs = [(better, worse) for better, worse in pairs if better.score > worse.score]
    if pairing == "all" and (identical := [pair for pair in pairs if pair[0].text == pair[1].text]):
        counts[f"pairs of identical answers of {column} left out"] += len(identical)
        pairs = [pair for pair in pairs if pair not in identical]
    if not pairs:
        problem = f"all have the same {order}" if len(answers) > 1 else f"fewer than two have a value of {order}"
        raise PairsError(f"no answer in {column} is better than another ({problem}); leave the row out.")
    counts[f"answers of {column} ordered by {order}: {'every two' if pairing == 'all' else 'best against worst'}"] += 1
    others = {key: value for key, value in row.items() if key not in (column, order)}
    return [others | _sides(better, worse, scored="rank" not in order.lower()) for better, worse in pairs]


def _sides(better: Answer, worse: Answer, scored: bool) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for name, answer in (("chosen", better), ("rejected", worse)):
        sides |= {f"{name}_{key}": value for key, value in answer.more.items()}
        sides |= {name: answer.text} | ({f"score_{name}": answer.score} if scored else {})
    return sides


def _answers(row: Mapping[str, Any], column: str, order: str, counts: Counter[str]) -> list[Answer]:
    items, beside = as_python(row.get(column)), as_python(row.get(order))
    if not isinstance(items, list) or (isinstance(beside, list) and len(beside) != len(items)):
        raise PairsError(f"{column} is no list of answers with a {order} each; write it as a list, or leave the row out.")
    sign = -1 if "rank" in order.lower() else 1
    answers = []
    for number, item in enumerate(items):
        fields = item if isinstance(item, dict) else {"text": item}
        key = next((key for key in TEXTS if key in fields), "")
        score = as_number(beside[number] if isinstance(beside, list) else fields.get(order))
        if not key or score is None:
            counts[f"answers without {order} passed over"] += 1
            continue
        more = {name: value for name, value in fields.items() if name not in (key, order) and _is_short(value)}
        answers.append(Answer(fields[key], sign * score, more))
    return answers


def _is_short(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and 0 < len(value) <= LONGEST_KEPT)
