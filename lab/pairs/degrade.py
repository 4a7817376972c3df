"""Degraded answers for SPO (arXiv 2409.17791): an answer with an increasing share of its key phrases removed.

OURS: the paper removes "different amounts" of the phrases that RAKE extracts; the shares and the order are this project's decision.
"""

from __future__ import annotations

from .rake import key_phrases

DECISION = (
    "Our decision, not the paper's: degree k of N removes the share k/(N-1) of the answer's RAKE phrases, highest score first."
)


def degrade(text: str, degrees: int) -> list[str]:
    """Return y^(0) .. y^(N-1), N = `degrees`, where y^(k) lacks the share k/(N-1) of the text's distinct key phrases.

    Phrases are removed with all their occurrences, highest score first, and spaces around them are tidied; y^(0) is the text
    itself. No answer becomes empty: where the last degree would leave no letter or digit, the phrase with the lowest score
    stays. Returns [] where the text has too few phrases for N different answers. Raises ValueError for N < 2.
    """
    return [_without(text, spans) for spans in removed_spans(text, degrees)]


def removed_spans(text: str, degrees: int) -> list[list[tuple[int, int]]]:
    """Return the spans (start, end) that `degrade` removes for each degree, in the order of the text; [] where it returns []."""
    if degrees < 2:
        raise ValueError(f"{degrees} degrees cannot be told apart; give at least 2.")
    spans: dict[str, list[tuple[int, int]]] = {}
    for phrase in key_phrases(text):
        spans.setdefault(phrase.key, []).append((phrase.start, phrase.end))
    if len(spans) < degrees - 1:
        return []
    ranked = list(spans.values())
    counts = [_share(k, degrees, len(ranked)) for k in range(degrees)]
    removed = [sorted(span for phrase in ranked[:count] for span in phrase) for count in counts]
    if not _has_content(_without(text, removed[-1])):
        removed[-1] = sorted(span for phrase in ranked[:-1] for span in phrase)
    answers = [_without(text, gaps) for gaps in removed]
    return removed if len(set(answers)) == degrees and _has_content(answers[-1]) else []


def _share(k: int, degrees: int, phrases: int) -> int:
    """Number of phrases in the share k/(N-1), rounded half up."""
    return (2 * k * phrases + degrees - 1) // (2 * (degrees - 1))


def _has_content(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _without(text: str, gaps: list[tuple[int, int]]) -> str:
    """The text without these spans, which are in the order of the text."""
    ends = [start for start, _ in gaps] + [len(text)]
    kept = text[: ends[0]]
    for (_, gap_end), piece_end in zip(gaps, ends[1:]):
        kept = _joined(kept, text[gap_end:piece_end])
    return kept


def _joined(left: str, right: str) -> str:
    """Join the texts around a gap: one space between words, none at the ends of a line or before punctuation."""
    right = right.lstrip(" \t")
    line_start = left.rstrip(" \t")
    if not line_start or line_start.endswith("\n"):
        return left + right  # the line's indentation stays
    tight = not right or right[0] in "\n\r,.;:!?)]}" or line_start[-1] in "([{"
    return line_start + ("" if tight else " ") + right
