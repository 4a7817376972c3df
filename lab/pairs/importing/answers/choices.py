"""Guesses that could as well be another reading of the data: a person has to choose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lab.pairs.importing.columns import ColumnMapping
from lab.pairs.pair import PairsError

from .paths import is_given, normal
from .ranking import TEXTS
from .winners import LISTS, check_labels, guess_winner, two_answers

QUESTIONS = ("question", "query", "instruction", "problem")
CONTEXTS = ("context", "contexts", "passage", "document", "background")


def check_choices(mapping: ColumnMapping, rows: Iterable[Any], given: Collection[str] = ()) -> None:
    """Raise PairsError, in a sentence that says what to choose, where a guess would be one of several readings.

    Args:
        mapping: The mapping, guessed but for some entries.
        rows: Some rows.
        given: Entries of the mapping that a person has given.
    """
    rows = [row for row in rows if isinstance(row, Mapping)]
    named = {normal(str(key)): str(key) for row in rows for key in row}
    _check_names(mapping, rows, given)
    if mapping.winner:
        check_labels(rows, (mapping.chosen, mapping.rejected), mapping.winner)
    if not {"winner", "chosen", "rejected", "ranked"} & set(given):
        _check_answers(mapping, named, rows)
    if "prompt" not in given:
        _check_prompt(mapping, named, rows)


def _check_names(mapping: ColumnMapping, rows: list[Mapping[str, Any]], given: Collection[str]) -> None:
    columns = dict.fromkeys(str(key) for row in rows for key in row)
    for entry in ("prompt", "chosen", "rejected"):
        used = mapping.prompt if entry == "prompt" else (getattr(mapping, entry),)
        for column in used if entry not in given else ():
            alike = [other for other in columns if normal(other) == normal(column)]
            if len(alike) > 1:
                shown = " and ".join(map(repr, alike))
                raise PairsError(
                    f"The columns {shown} have the same name but for case, spaces and hyphens; say which one is the {entry} "
                    f"(mapping, --map {entry}=COLUMN), or rename the others."
                )


def _check_answers(mapping: ColumnMapping, named: Mapping[str, str], rows: list[Mapping[str, Any]]) -> None:
    if mapping.ranked or mapping.winner:
        return
    two = two_answers(named, rows)
    if two == (mapping.chosen, mapping.rejected):
        columns = [" + ".join(each) for each in guess_winner(named, two, lambda column: _holds(rows, column))]
        if columns:
            raise PairsError(
                f"{' and '.join(columns)} could each say which of {two[0]} and {two[1]} is better; say which one is meant "
                f"(mapping, --map winner={columns[0]})."
            )
        raise PairsError(
            f"No column says which of {two[0]} and {two[1]} is better; name it (mapping, --map winner=COLUMN), or say which is the "
            f"better one (--map chosen={two[0]} --map rejected={two[1]})."
        )
    if mapping.chosen in named.values() or mapping.rejected in named.values():
        return
    if several := next((named[name] for name in LISTS if name in named and _holds_list(rows, named[name])), ""):
        raise PairsError(
            f"{several} holds several answers, but nothing to order them by; name a list of scores or ranks "
            f"(--map ranked={several} --map rank_by=COLUMN)."
        )
    if single := next((named[name] for name in TEXTS if name in named), ""):
        raise PairsError(
            f"There is one answer a row, in {single}, and no other to compare it with; join the rows of the same prompt to "
            "rows with prompt, chosen and rejected."
        )


def _check_prompt(mapping: ColumnMapping, named: Mapping[str, str], rows: list[Mapping[str, Any]]) -> None:
    if [normal(column) for column in mapping.prompt][:1] and normal(mapping.prompt[0]) in QUESTIONS:
        context = next((named[name] for name in CONTEXTS if name in named and _holds(rows, named[name])), "")
        if context and context not in mapping.used():
            question = "+".join(mapping.prompt)
            raise PairsError(
                f"{context} stands beside {mapping.prompt[0]} and would not be read; say whether it belongs to the prompt "
                f"(mapping, --map prompt={context}+{question}) or not (--map prompt={question})."
            )
    if not mapping.prompt and mapping.winner:
        for name, column in named.items():
            value = next((row[column] for row in rows if is_given(row.get(column))), None)
            if isinstance(value, Mapping) and name not in LISTS:
                texts = [key for key, text in value.items() if isinstance(text, str) and text.strip()]
                if texts:
                    paths = ", ".join(f"{column}.{key}" for key in texts)
                    raise PairsError(
                        f"There is no prompt column, but {column} holds {', '.join(texts)}; say which is the prompt (mapping, "
                        f"--map prompt=PATH, several as a+b, with the paths {paths})."
                    )


def _holds(rows: list[Mapping[str, Any]], column: str) -> bool:
    return any(is_given(row.get(column)) for row in rows)


def _holds_list(rows: list[Mapping[str, Any]], column: str) -> bool:
    return any(isinstance(row.get(column), (list, tuple)) and len(row[column]) > 1 for row in rows)
