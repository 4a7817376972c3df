"""Token ids as the pieces of text that people read, with the characters that several tokens share kept whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BROKEN = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4
"""Bytes of the longest character of UTF-8: more tokens of a byte each never make one character."""
BEFORE = 3
"""Tokens that a piece is decoded behind: some tokenizers write a space between two pieces, but none at a beginning."""


@dataclass(frozen=True)
class Piece:
    """A stretch of text and the tokens that make it.

    first, last: places of its tokens in the answer, both included; several where a character is spread over tokens.
    special: an end of sequence or the like, which is no text.
    """

    text: str
    first: int
    last: int
    special: bool = False


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """The text of an answer, piece by piece; every token is in exactly one of them, in order.

    Byte-level tokenizers spread an emoji over up to four tokens, none of which is a character; they come as one piece.
    """
    special = {int(number) for number in tokenizer.all_special_ids}
    ids = [int(number) for number in ids]
    found: list[Piece] = []
    start = 0
    while start < len(ids):
        if ids[start] in special:
            found.append(Piece(str(tokenizer.convert_ids_to_tokens(ids[start])), start, start, True))
            start += 1
            continue
        last, text = start, _text(tokenizer, ids, start, start)
        while text.endswith(BROKEN) and last + 1 < len(ids) and last - start + 1 < LONGEST and ids[last + 1] not in special:
            longer = _text(tokenizer, ids, start, last + 1)
            if longer.startswith(text) and not longer.endswith(BROKEN):  # what follows begins anew: there was no more to come
                break
            last, text = last + 1, longer
        if text.count(BROKEN) > 1:  # no character at all: each byte stands for itself
            last, text = start, BROKEN
        found.append(Piece(text or str(tokenizer.convert_ids_to_tokens(ids[start])), start, last))
        start = last + 1
    return found


def _text(tokenizer: Any, ids: Sequence[int], first: int, last: int) -> str:
    """The text that the tokens from `first` to `last` add behind those before them."""
    before = ids[max(0, first - BEFORE) : first]
    head, whole = (_decoded(tokenizer, part) for part in (before, [*before, *ids[first : last + 1]]))
    return whole[len(head) :] if whole.startswith(head) else _decoded(tokenizer, ids[first : last + 1])


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)) if ids else ""
