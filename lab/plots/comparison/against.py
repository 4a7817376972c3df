"""Scatter plot of a term of every pair under one run against another; points off the diagonal differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.style import axis, empty, figure, layout, palette, translucent, wrapped

HEIGHT = 420
MOST_POINTS = 2000
"""Maximum number of points: the first pairs, and evenly chosen others."""

NAMED = 12
"""Number of the first pairs, drawn in a colour of their own."""


def against(
    frame: pd.DataFrame,
    term: str,
    *,
    labels: Sequence[str],
    texts: Mapping[str, str] | None = None,
    title: str | None = None,
    height: int = HEIGHT,
    dark: bool = False,
) -> go.Figure:
    """Draw a term of every pair: the first run upwards, the second to the right, with the diagonal of equal values.

    The first pairs of the frame are diamonds. The first element of a point's `customdata` is the pair's id.

    Args:
        frame: Result of `lab.comparison.Comparison.pairs`, in any order.
        term: Name of the term.
        labels: Labels of both runs.
        texts: Beginning of the prompts of pairs by id, for the hover text.
        title: Title of the figure; None: that of the term.
        height: Height in pixels.
        dark: Use the dark palette.
    """
    definition = entry(term)
    title = title or f"{definition.title}, pair by pair"
    known = frame[np.isfinite(frame["difference"].to_numpy(np.float64))] if len(frame) else frame
    if known.empty:
        return empty(title, "Points appear when both runs have seen the same pairs.", dark=dark)
    c = palette(dark)
    drawn = _most(known)
    low, high = (float(pick([drawn["one"].agg(name), drawn["other"].agg(name)])) for pick, name in ((min, "min"), (max, "max")))
    room = 0.05 * (high - low) or 0.5
    ends = [low - room, high + room]
    diagonal = {
        "type": "scatter",
        "x": ends,
        "y": ends,
        "mode": "lines",
        "line": {"color": c.faint, "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    first, rest = drawn.iloc[:NAMED], drawn.iloc[NAMED:]
    traces = [diagonal, _points(rest, labels, definition.unit, translucent(c.neutral[0], 0.55), 5, "circle", texts or {})]
    traces.append(_points(first, labels, definition.unit, c.rejected, 9, "diamond", texts or {}))
    note = f"{len(known):,} pairs" + (f", {len(drawn):,} drawn" if len(drawn) < len(known) else "")
    figure_layout = layout(
        title,
        note=note,
        dark=dark,
        height=height,
        xaxis=axis(c, f"{labels[1]}: {definition.axis}", range=ends, zeroline=False),
        yaxis=axis(c, f"{labels[0]}: {definition.axis}", range=ends, zeroline=False),
        showlegend=False,
    )
    return figure(traces, figure_layout)


def _points(
    frame: pd.DataFrame, labels: Sequence[str], unit: str, colour: str, size: int, symbol: str, texts: Mapping[str, str]
) -> dict[str, object]:
    one, other = (wrapped(label, 30) for label in labels)
    named = [wrapped(texts.get(pair) or f"pair {pair}", 44) for pair in frame["pair"]]
    ends = [
        f" [{low:.3g}, {high:.3g}]" if low == low else "" for low, high in frame.reindex(columns=["low", "high"]).to_numpy(float)
    ]
    return {
        "type": "scattergl" if len(frame) > 500 else "scatter",
        "x": frame["other"].to_numpy(np.float32),
        "y": frame["one"].to_numpy(np.float32),
        "mode": "markers",
        "marker": {"size": size, "color": colour, "symbol": symbol},
        "customdata": frame[["pair", "difference", "step_one"]].assign(ends=ends, named=named).to_numpy(object),
        "hovertemplate": f"%{{customdata[4]}}<br>step %{{customdata[2]:,d}}<br>{one} <b>%{{y:.4g}} {unit}</b>, "
        f"{other} <b>%{{x:.4g}} {unit}</b><br>difference %{{customdata[1]:.4g}}%{{customdata[3]}}<extra></extra>",
        "showlegend": False,
    }


def _most(frame: pd.DataFrame) -> pd.DataFrame:
    if len(frame) <= MOST_POINTS:
        return frame
    half = MOST_POINTS // 2
    rest = np.linspace(half, len(frame) - 1, MOST_POINTS - half).astype(int)
    return frame.iloc[[*range(half), *rest]]
