"""Split token ids into pieces of readable text; a character that is spread over several tokens is one piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BROKEN = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4
"""Maximum tokens of a character: the bytes of the longest UTF-8 character."""
BEFORE = 3
"""Tokens of context for decoding: some tokenizers write a space between two tokens, but none at the beginning of a text."""


@dataclass(frozen=True)
class Piece:
    """A piece of text and its tokens.

    text:        The text, or the name of a special token.
    first, last: Indices of its first and last token in the answer; different where a character is spread over tokens.
    special:     Whether it is a special token, such as end-of-sequence.
    """

    text: str
    first: int
    last: int
    special: bool = False


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """Split an answer's tokens into pieces of text, in order; every token is in exactly one piece.

    Byte-level tokenizers spread an emoji over up to four tokens, none of which is a character; these are one piece.
    """
    special = {int(number) for number in tokenizer.all_special_ids}
    ids = [int(number) for number in ids]
    result: list[Piece] = []
    start = 0
    while start < len(ids):
        if ids[start] in special:
            result.append(Piece(str(tokenizer.convert_ids_to_tokens(ids[start])), start, start, True))
            start += 1
            continue
        last, text = start, _text(tokenizer, ids, start, start)
        while text.endswith(BROKEN) and last + 1 < len(ids) and last - start + 1 < LONGEST and ids[last + 1] not in special:
            longer = _text(tokenizer, ids, start, last + 1)
            if longer.startswith(text) and not longer.endswith(BROKEN):  # the next token starts a new character
                break
            last, text = last + 1, longer
        if text.count(BROKEN) > 1:  # not a character: each byte is a piece
            last, text = start, BROKEN
        result.append(Piece(text or str(tokenizer.convert_ids_to_tokens(ids[start])), start, last))
        start = last + 1
    return result


def _text(tokenizer: Any, ids: Sequence[int], first: int, last: int) -> str:
    """The text that the tokens from `first` to `last` add to those before them."""
    before = ids[max(0, first - BEFORE) : first]
    head, whole = (_decoded(tokenizer, part) for part in (before, [*before, *ids[first : last + 1]]))
    return whole[len(head) :] if whole.startswith(head) else _decoded(tokenizer, ids[first : last + 1])


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""
