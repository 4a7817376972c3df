"""The check for characters that nobody sees: control characters, direction overrides, zero-width and replacement characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from lab.pairs.pair import Prompt

from .finding import Finding
from .registry import Corpus, check_named
from .texts import PairTexts

_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffd\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSEEN = re.compile(rf"{_SUSPECT.pattern}|[\u2028\u2029]|\r(?!\n)")
"""Characters that a page would not show: suspects, line and paragraph separators, and carriage returns that end no line."""
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_DIRECTION_MARKS = "\u200e\u200f\u2066\u2067\u2068\u2069\u061c"
"""Ordinary in text that contains right-to-left letters."""
_JOINERS = "\u200c\u200d"
_FLAG = "\U0001f3f4"


@check_named(
    "control_characters",
    "Invisible characters",
    "A text contains control, direction or zero-width characters, or marks of lost ones, which nobody sees and the model learns.",
)
def control_characters(corpus: Corpus) -> Iterator[Finding]:
    """Find control, direction, zero-width and replacement characters, except where a script or an emoji needs them."""
    for texts in corpus.pairs:
        named = [(name, sorted(set(suspects(text)))) for name, text in _texts(texts) if _SUSPECT.search(text)]
        named = [(name, characters) for name, characters in named if characters]
        if not named:
            continue
        parts = [f"{name} contains {', '.join(map(describe, characters[:3]))}" for name, characters in named]
        lost = any("\ufffd" in characters for _, characters in named)
        proposal = None if lost else _cleaned(texts, [name for name, _ in named])
        sentence = f"{' and '.join(parts)}."
        if proposal:
            yield Finding(texts.pair.id, "control_characters", sentence, remedy="edit", proposal=proposal)
        else:
            yield Finding(texts.pair.id, "control_characters", sentence, remedy="drop")


def suspects(text: str) -> list[str]:
    """Return the suspect characters of a text, in order, without those that its script or an emoji needs."""
    if not _SUSPECT.search(text):
        return []
    right_to_left = _RIGHT_TO_LEFT.search(text.replace("\ufeff", "")) is not None
    return [match.group() for match in _SUSPECT.finditer(text) if not _needed(text, match.start(), right_to_left)]


def without_invisible(text: str) -> str:
    """Return a text without its suspect characters."""
    if not _SUSPECT.search(text):
        return text
    right_to_left = _RIGHT_TO_LEFT.search(text.replace("\ufeff", "")) is not None
    return _SUSPECT.sub(lambda match: match.group() if _needed(text, match.start(), right_to_left) else "", text)


def reveal_invisible(text: str) -> str:
    """Return a text with its suspect characters, separators and lone carriage returns as code points: "a⟨U+200B⟩b"."""
    if not _UNSEEN.search(text):
        return text
    right_to_left = _RIGHT_TO_LEFT.search(text.replace("\ufeff", "")) is not None

    def shown(match: re.Match[str]) -> str:
        seen = match.group() == "\ufffd" or _needed(text, match.start(), right_to_left)
        return match.group() if seen else f"⟨U+{ord(match.group()):04X}⟩"

    return _UNSEEN.sub(shown, text)


def describe(character: str) -> str:
    """Return a character's code point and name: "U+202E (right-to-left override)"."""
    controls = {"\0": "NUL", "\x1b": "escape", "\x7f": "delete"}
    name = controls.get(character) or unicodedata.name(character, "").lower()
    if not name:
        name = "half a surrogate pair" if "\ud800" <= character <= "\udfff" else "control character"
    return f"U+{ord(character):04X} ({name})"


def _needed(text: str, at: int, right_to_left: bool) -> bool:
    character = text[at]
    if character in _DIRECTION_MARKS:
        return right_to_left
    if character in _JOINERS:  # join emoji, and shape letters of Persian and of Indic scripts
        neighbours = text[max(at - 2, 0) : at], text[at + 1 : at + 2]
        return all(any(ord(c) > 0x05FF and c not in _JOINERS for c in side) for side in neighbours)
    return "\U000e0020" <= character <= "\U000e007f" and _FLAG in text[max(at - 7, 0) : at]


def _texts(texts: PairTexts) -> Iterator[tuple[str, str]]:
    yield "prompt", texts.prompt
    yield from texts.answers()


def _cleaned(texts: PairTexts, names: list[str]) -> dict[str, Any] | None:
    """Return the texts without the suspect characters, by field; None where a field is no text or nothing would be left."""
    proposal: dict[str, Any] = {}
    for name in names:
        value: Prompt = getattr(texts.pair, name)
        if isinstance(value, str):
            cleaned: Any = without_invisible(value)
            empty = not cleaned.strip()
        else:
            cleaned = [{k: without_invisible(v) if isinstance(v, str) else v for k, v in turn.items()} for turn in value]
            empty = False
        if empty:
            return None
        proposal[name] = cleaned
    after = {side: proposal.get(side, getattr(texts.pair, side)) for side in ("chosen", "rejected")}
    return None if after["chosen"] == after["rejected"] else proposal
