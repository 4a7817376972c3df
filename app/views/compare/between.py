"""The two curves of the Compare page that are compared with each other, and what is said of the comparison."""

from __future__ import annotations

import streamlit as st

from lab.comparison import Comparison


def choose(comparison: Comparison) -> tuple[int, int]:
    """Draw the choice of two curves if there are more; return their positions."""
    labels = comparison.labels
    if len(labels) < 3:
        return 0, 1
    one = st.selectbox("First", labels, key="first", bind="query-params", persist_state="page", width=260)
    others = [label for label in labels if label != one]
    other = st.selectbox("Second", others, key="second", bind="query-params", persist_state="page", width=260)
    return labels.index(one), labels.index(other)


def seeds_in_words(seeds: list[int]) -> str:
    """Return how the seeds of two sides are compared, as a clause."""
    return f"within runs of the same seed ({', '.join(map(str, seeds))})" if seeds else "over all runs of both (Welch)"


def one_curve(comparison: Comparison, what: str) -> str:
    """Return why there is nothing to compare: a single run, or runs that differ only in their seed and so share a curve."""
    if len(comparison.runs) > 1:
        return (
            f"These {len(comparison.runs)} runs differ only in their seed, so they count as one. Turn Group seeds off above to "
            "compare them with each other."
        )
    return f"Choose a second run to compare {what}."
