"""Conversion between pairs and the rows of a store."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from sqlalchemy import Select, select

from lab.pairs.pair import LONGEST_ID, Answer, Pair, PairsError, Prompt, is_id, json_type, to_json, validate

from .schema import pairs, texts, versions

_UNSAFE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")
_decode = json.JSONDecoder().decode
LARGEST = sys.float_info.max

PAIR_COLUMNS = (
    pairs.c.id,
    texts.c.prompt,
    texts.c.chosen,
    texts.c.rejected,
    versions.c.version,
    versions.c.dropped,
    pairs.c.meta,
    texts.c.tools,
    versions.c.weight,
    versions.c.degree,
    versions.c.tags,
    versions.c.note,
)
"""Columns of `read_pair`, in its order."""


def escape(text: str) -> str:
    """Return a text that every database can hold: NUL, SUB and lone surrogates as SUB and four hex digits; see `unescape`."""
    if not isinstance(text, str):
        raise PairsError(f"{str(text)[:40]!r} is {json_type(text)}; ids, names, authors and reasons are text.")
    if text.isascii() and "\x00" not in text and "\x1a" not in text:
        return text
    return _UNSAFE.sub(lambda match: f"\x1a{ord(match[0]):04x}", text)


def unescape(text: str) -> str:
    """Return the text that `escape` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "\x1a" in text else text


def encode(value: Any) -> str:
    """Return a JSON value as text for the database."""
    return escape(to_json(value))


def decode(text: str) -> Any:
    """Return the JSON value that `encode` was given."""
    text = unescape(text)
    return (
        scanstring(text, 1)[0] if text[0] == '"' else _decode(text)
    )  # the decoder's own function for texts, which most values are


def turn_texts(value: Prompt | Answer) -> Iterable[str]:
    """Yield the texts of a prompt or an answer that people read: every field of a message but its role."""
    if isinstance(value, str):
        yield value
        return
    for message in value:
        yield from (
            field if isinstance(field, str) else to_json(field) for key, field in message.items() if key != "role" and field
        )


def count_words(value: Prompt | Answer) -> int:
    """Count the words of a prompt or an answer, as separated by white space."""
    if isinstance(value, str):
        return len(value.split())
    return sum(len(text.split()) for text in turn_texts(value))


def check_pair(pair: Pair) -> None:
    """Raise PairsError, without the pair's id, unless texts, weight, degree, tags and note are valid."""
    validate(*pair.content, pair.tools)
    if isinstance(pair.weight, bool) or not isinstance(pair.weight, (int, float)) or not 0 <= pair.weight <= LARGEST:
        raise PairsError(f"weight is {_shown(pair.weight)}; give a number from 0 on.")
    degree = pair.degree
    if degree is not None and (isinstance(degree, bool) or not isinstance(degree, (int, float)) or not 0 < degree <= 1):
        raise PairsError(f"degree is {_shown(degree)}; give a number above 0 and at most 1, or None.")
    for tag in pair.tags:
        if not isinstance(tag, str) or not tag.strip():
            raise PairsError(f"a tag is {'empty' if isinstance(tag, str) else json_type(tag)}; give every tag a name.")
    if not isinstance(pair.note, str):
        raise PairsError(f"note is {json_type(pair.note)}; give text.")


def check_new_pair(pair: Pair) -> None:
    """Raise PairsError unless a pair can be added to a set: it is valid, and so are its id and its other columns."""
    if not isinstance(pair, Pair):
        raise PairsError(f"this is {json_type(pair)}; give a Pair, such as `pair_of(row)` makes.")
    check_pair(pair)
    if not is_id(pair.id):
        raise PairsError(f"its id is {str(pair.id)[:40]!r}; give 1 to {LONGEST_ID} printable characters.")
    if not isinstance(pair.meta, dict) or not all(isinstance(key, str) for key in pair.meta):
        raise PairsError("its meta is no dict of columns; give {name: value}.")


def _shown(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, (int, float)) and not isinstance(value, bool) else json_type(value)


def tidy_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags sorted, without repetition and surrounding white space."""
    if isinstance(tags, str):
        raise PairsError(f"tags is text ({tags[:30]!a}); give a list of tags.")
    if not isinstance(tags, Iterable):
        raise PairsError(f"tags is {json_type(tags)}; give a list of tags.")
    given = list(tags)
    for tag in given:
        if not isinstance(tag, str):
            raise PairsError(f"a tag is {json_type(tag)}; give every tag a name.")
    return tuple(sorted({tag.strip() for tag in given}))


@dataclass(frozen=True)
class Stored:
    """A pair as it is stored: its current version and where its rows are.

    Attributes:
        pair: The current version.
        position: Number of the pair in the order of the set.
        texts: Number of its texts.
        origin: Version whose content it repeats after an undo or redo, otherwise its own.
    """

    pair: Pair
    position: int
    texts: int
    origin: int


def texts_row(number: int, pair: Pair) -> tuple[Any, ...]:
    """Return the row of a pair's texts in `texts`."""
    tools = None if pair.tools is None else _encoded(pair, "tools")
    return number, encode(pair.prompt), encode(pair.chosen), encode(pair.rejected), tools


def _encoded(pair: Pair, name: str) -> str:
    try:
        return encode(getattr(pair, name))
    except (TypeError, ValueError, RecursionError) as error:
        raise PairsError(f"The {name} of pair {pair.id} is not JSON ({error}); leave such values out.") from None


def version_row(position: int, pair: Pair, texts_number: int, origin: int) -> tuple[Any, ...]:
    """Return the row of a pair in `versions`."""
    tags, note = encode(pair.tags) if pair.tags else "[]", escape(pair.note)
    return position, pair.version, origin, texts_number, int(pair.dropped), float(pair.weight), pair.degree, tags, note


def word_counts(pair: Pair) -> tuple[int, int, int, int]:
    """Return the words of prompt, chosen and rejected, and the difference of the answers."""
    prompt, chosen, rejected = count_words(pair.prompt), count_words(pair.chosen), count_words(pair.rejected)
    return prompt, chosen, rejected, chosen - rejected


def pair_row(position: int, pair: Pair, texts_number: int, added: int, imported: bool) -> tuple[Any, ...]:
    """Return the row of a new pair in `pairs`."""
    marks = (int(pair.dropped), 0, float(pair.weight), pair.degree)
    meta = _encoded(pair, "meta") if pair.meta else "{}"
    return position, escape(pair.id), 1, texts_number, added, int(imported), added, *marks, *word_counts(pair), meta


def read_pair(row: Sequence[Any]) -> Pair:
    """Convert a row of PAIR_COLUMNS."""
    id, prompt, chosen, rejected, version, dropped, meta, tools, weight, degree, tags, note = row[:12]
    return Pair(
        unescape(id),
        decode(prompt),
        decode(chosen),
        decode(rejected),
        version,
        bool(dropped),
        {} if meta == "{}" else decode(meta),
        None if tools is None else decode(tools),
        weight,
        degree,
        () if tags == "[]" else tuple(decode(tags)),
        unescape(note),
    )


def read_stored(row: Sequence[Any]) -> Stored:
    """Convert a row of `stored_pairs`."""
    return Stored(read_pair(row), *row[12:15])


@cache
def stored_pairs() -> Select[Any]:
    """Return the query of all pairs in their current version, dropped or not, in no order."""
    columns = (*PAIR_COLUMNS, pairs.c.position, versions.c.texts, versions.c.origin)
    current = (versions.c.position == pairs.c.position) & (versions.c.version == pairs.c.version)
    return select(*columns).join_from(pairs, versions, current).join(texts, texts.c.number == versions.c.texts)


@cache
def pair_versions() -> Select[Any]:
    """Return the query of all versions of all pairs, in no order."""
    columns = (*PAIR_COLUMNS, pairs.c.position, versions.c.texts, versions.c.origin)
    every = versions.c.position == pairs.c.position
    return select(*columns).join_from(pairs, versions, every).join(texts, texts.c.number == versions.c.texts)


def as_new(pair: Pair) -> Pair:
    """Return a pair as the first version of a new set."""
    return replace(pair, version=1, tags=tidy_tags(pair.tags)) if pair.version != 1 or pair.tags else pair
