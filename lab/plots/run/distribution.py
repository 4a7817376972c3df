"""Distribution of a term over the pairs by step, as a heat map with the median."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import axis, empty, figure, hover, layout, palette, step_axis, translucent

from .curves import colour_of

ROWS, MOST_COLUMNS, PER_COLUMN = 24, 60, 48
"""Rows and maximum columns of the heat map, and values per column that keep noise low."""


def distribution(
    frame: pd.DataFrame, term: str, *, title: str | None = None, events: pd.DataFrame | None = None, dark: bool = False
) -> go.Figure:
    """Draw the values of a term (upwards) by step as a heat map, with the median. Colours are shares of the pairs of a column.

    Args:
        frame: Columns `step` and the term, one row per pair and step, as from `PairReader.over_time`. Non-finite values are only
            counted in the title.
        term: Name of the term.
        title: Title of the figure; None: that of the term.
        events: Events of the run, drawn as marks at the bottom (see `marks`).
        dark: Use the dark palette.
    """
    definition = entry(term)
    title = title or definition.title
    steps, values, lost = _present(frame, term)
    if not len(values):
        return empty(
            title, "The distribution over the pairs appears with the first step of an objective that has this term.", dark=dark
        )
    shares, edges_x, edges_y = _cells(steps, values)
    across, upwards = _middles(edges_x), _middles(edges_y)
    median = pd.Series(values).groupby(np.clip(np.searchsorted(edges_x, steps) - 1, 0, len(across) - 1)).median()
    c = palette(dark)
    colour = colour_of(term, 0, c)
    counted = f"{len(values):,} values" + (f", {lost:,} more not finite" if lost else "")
    heat = {
        "type": "heatmap",
        "x": across,
        "y": upwards,
        "z": shares,
        "colorscale": [[0, "rgba(0,0,0,0)"], [0.001, translucent(colour, 0.15)], [0.35, translucent(colour, 0.6)], [1, colour]],
        "showscale": False,
        "hovertemplate": f"about step %{{x:,.0f}}: <b>%{{z:.0%}}</b> of the pairs near %{{y:.3g}} {definition.unit}<br>"
        f"{hover(definition)}<extra></extra>",
    }
    middle = {
        "type": "scatter",
        "name": "median",
        "x": across[median.index.to_numpy()],
        "y": median.to_numpy(np.float32),
        "mode": "lines",
        "line": {"color": c.text, "width": 1.5},
        "hovertemplate": f"about step %{{x:,.0f}}: median <b>%{{y:.4g}} {definition.unit}</b><extra></extra>",
        "showlegend": False,
    }
    marked, mark_axis = ([], {}) if events is None else marks(events, dark=dark)
    upwards_axis = axis(c, definition.axis if definition.unit else f"{definition.symbol}, no unit")
    figure_layout = layout(title, note=counted, dark=dark, xaxis=step_axis(c), yaxis=upwards_axis, **mark_axis)
    return figure([heat, middle, *marked], figure_layout)


def _present(frame: pd.DataFrame, term: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Return steps and values of the finite values, and the number of others."""
    if term not in frame:
        return np.empty(0), np.empty(0), 0
    steps, values = frame["step"].to_numpy(np.float64), frame[term].to_numpy(np.float64)
    finite = np.isfinite(values)
    return steps[finite], values[finite], int((~finite).sum())


def _cells(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shares [rows, columns] (NaN in columns without values), and the edges of columns and rows."""
    columns = min(MOST_COLUMNS, max(len(values) // PER_COLUMN, 1), len(np.unique(steps)))
    low, high = values.min(), values.max()
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    span = ((low, high), (steps.min() - 0.5, steps.max() + 0.5))
    counts, edges_y, edges_x = np.histogram2d(values, steps, bins=(ROWS, columns), range=span)
    totals = counts.sum(0)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return shares.astype(np.float32), edges_x, edges_y


def _middles(edges: np.ndarray) -> np.ndarray:
    return ((edges[:-1] + edges[1:]) / 2).astype(np.float32)
