"""Short excerpts of long texts, with the places of a searched text in them."""

from __future__ import annotations

from app.text.plain import one_line
from lab.pairs.store.search import hits

BEFORE = 12
"""Characters shown before the first hit, where a text is cut at its beginning."""

Spans = list[tuple[int, int]]


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
    shown = one_line(text[start : start + length])[:length]
    if start:
        shown = f"… {shown}"
    return shown, hits(shown, " ".join(search.split()))
