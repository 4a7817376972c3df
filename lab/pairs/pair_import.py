"""Convert rows in TRL's preference formats to pairs.

A row has an explicit prompt {"prompt", "chosen", "rejected"} or an implicit one {"chosen", "rejected"}, the common beginning of
both; texts are plain or conversational (lists of {"role", "content"}). The rules are those of TRL's `maybe_extract_prompt`, except
that an implicit plain prompt never ends inside a word.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from .pair import FIELDS, Message, Pair, PairsError, Prompt, check_messages, content_id, json_type, validate, with_unique_ids
from .rows import Table, open_table


def read_pairs(source: Any, *, split: str = "train") -> list[Pair]:
    """Read all pairs of a path, hub id, data set or rows, with ids that depend on the content only.

    Raises PairsError for invalid rows; it names the first one and counts the others.
    """
    return pairs_of(open_table(source, split))


def pairs_from_rows(rows: Iterable[Any]) -> list[Pair]:
    """Read pairs from rows in memory (dicts, or pairs, which start again as version 1); see `read_pairs`."""
    return pairs_of(Table("pairs", "these pairs", "row", enumerate(rows, 1)))


def pairs_of(table: Table) -> list[Pair]:
    """Read all pairs of a table; see `read_pairs`."""
    pairs: list[Pair] = []
    first, wrong = "", 0
    for number, row in table.rows:
        try:
            if isinstance(row, PairsError):
                raise row
            pairs.append(pair_of(row))
        except PairsError as error:
            wrong += 1
            first = first or f"{table.source}, {table.unit} {number}: {error}"
    if wrong:
        others = f" ({wrong - 1} more {table.unit}{'s are' if wrong > 2 else ' is'} wrong.)" if wrong > 1 else ""
        raise PairsError(first + others)
    if not pairs:
        raise PairsError(f"{table.source} contains no pairs; it must contain at least one.")
    return list(with_unique_ids(pairs))


def pair_of(row: Any) -> Pair:
    """Convert one row (or pair) to a pair of version 1; columns other than prompt, chosen and rejected go to `meta`.

    `meta` keeps JSON values: null, NaN and infinity count as absent, values of other types are left out. Raises PairsError, in a
    sentence that does not name the row's place.
    """
    if isinstance(row, Pair):
        row = {**row.meta, **dict(zip(FIELDS, row.content))}
    if not isinstance(row, Mapping):
        raise PairsError(f"this is {json_type(row)}; give an object with prompt, chosen and rejected.")
    for name in ("chosen", "rejected"):
        if row.get(name) is None:
            fields = ", ".join(str(key) for key in row if row[key] is not None) or "nothing"
            raise PairsError(f"the field {name!r} is missing (found: {fields}); give prompt, chosen and rejected.")
    chosen, rejected = (_without_nulls(row[name]) for name in ("chosen", "rejected"))
    prompt = _without_nulls(row.get("prompt"))
    if type(chosen) is not type(rejected):
        raise PairsError(f"chosen is {json_type(chosen)} but rejected is {json_type(rejected)}; give both in the same form.")
    # Some data sets repeat the prompt as plain text beside two full conversations; as in TRL, the conversations count.
    if prompt is None or (isinstance(prompt, str) and isinstance(chosen, list)):
        prompt, chosen, rejected = _extract_prompt(chosen, rejected)
    elif isinstance(chosen, list) and isinstance(prompt, list):
        chosen, rejected = (_strip_prompt(prompt, side) for side in (chosen, rejected))
    if isinstance(chosen, list):
        chosen, rejected = _only_answer(chosen, "chosen"), _only_answer(rejected, "rejected")
    validate(prompt, chosen, rejected)
    meta = {str(key): plain for key, value in row.items() if key not in FIELDS and (plain := _plain(value)) is not None}
    return Pair(content_id(prompt, chosen, rejected), prompt, chosen, rejected, meta=meta)


def _without_nulls(value: Any) -> Any:
    """Messages without the null keys that a Parquet column fills in."""
    if not isinstance(value, list):
        return value
    return [{k: v for k, v in item.items() if v is not None} if isinstance(item, Mapping) else item for item in value]


def _strip_prompt(prompt: Any, side: list[Message]) -> list[Message]:
    return side[len(prompt) :] if side[: len(prompt)] == prompt else side


def _only_answer(messages: list[Any], name: str) -> str:
    check_messages(messages, name)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in messages) or "nothing"
        raise PairsError(f"after the prompt {name} must be exactly one assistant message, but it is: {roles}.")
    return str(messages[0]["content"])


def _extract_prompt(chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
    """Split off the common beginning: (prompt, rest of chosen, rest of rejected)."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side in ("", []):
            raise PairsError(f"{name} is empty; give an answer, or leave the pair out.")
    if chosen == rejected:
        raise PairsError("chosen and rejected are identical, so they show no preference; change one, or leave the pair out.")
    if isinstance(chosen, str):
        cut = _plain_cut(chosen, rejected)
    elif isinstance(chosen, list):
        cut = _common(chosen, rejected)
    else:
        raise PairsError(f"chosen is {json_type(chosen)}; give text or a list of messages.")
    if cut <= 0:
        raise PairsError("there is no prompt: chosen and rejected have no common beginning; give a prompt field.")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _common(chosen: Any, rejected: Any) -> int:
    """Length of the common prefix."""
    shorter = min(len(chosen), len(rejected))
    return next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter)


def _plain_cut(chosen: str, rejected: str) -> int:
    """Length of the common prompt of two texts.

    It ends where they first differ, moved back to the start of that word and before one space, which (as in TRL) belongs to
    the answer. Where one text is a prefix of the other, its last word goes to the answer, so that no answer is empty.
    """
    cut = _common(chosen, rejected)
    if cut == min(len(chosen), len(rejected)):
        while cut and not chosen[cut - 1].isalnum():
            cut -= 1
        cut = max(cut - 1, 0)
    if any(_in_word(side[cut]) for side in (chosen, rejected)):
        while cut and _in_word(chosen[cut - 1]):
            cut -= 1
    return cut - 1 if cut > 1 and chosen[cut - 1] == " " else cut


def _in_word(character: str) -> bool:
    """True for letters, digits and marks, except wide (Chinese, Japanese, ...) ones, where a prompt may end anywhere."""
    part_of_word = character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
    return part_of_word and unicodedata.east_asian_width(character) not in "WF"


def _plain(value: Any) -> Any:
    """The value as a JSON value; None where JSON has no such value."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain for k, v in value.items() if (plain := _plain(v)) is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None
