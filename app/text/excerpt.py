"""Short excerpts of long texts, with the places of a searched text in them."""

from __future__ import annotations

BEFORE = 12
"""Characters shown before the first hit, where a text is cut at its beginning."""

Spans = list[tuple[int, int]]


def one_line(text: str) -> str:
    """Return a text on one line, unpaired surrogates as question marks."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def hits(text: str, search: str) -> Spans:
    """Return (first, last + 1) of every place where `search` occurs in `text`, in any case; empty for an empty search."""
    needle = search.casefold()
    if not needle:
        return []
    # A folded text may be longer than the text ("ß" becomes "ss"), so each folded character remembers where it comes from.
    folded, origin = [], []
    for place, character in enumerate(text):
        for part in character.casefold():
            folded.append(part)
            origin.append(place)
    whole, spans, start = "".join(folded), [], 0
    while (start := whole.find(needle, start)) >= 0:
        spans.append((origin[start], origin[start + len(needle) - 1] + 1))
        start += len(needle)
    return spans


def excerpt(text: str, search: str, length: int) -> tuple[str, Spans]:
    """Return at most `length` characters of a text on one line, beginning near the first hit, and the hits in the excerpt.

    Args:
        text: Any text.
        search: The searched text; "" for none.
        length: Most characters of the excerpt, beside the "… " of a cut beginning.
    """
    spans = hits(text, search)
    first = spans[0][0] if spans else 0
    start = 0 if first <= 2 * BEFORE else first - BEFORE
    shown = one_line(text[start : start + length])
    if start:
        shown = f"… {shown}"
    return shown, hits(shown, " ".join(search.split()))
