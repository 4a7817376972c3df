"""A term over all pairs, as it moves with the steps: how many pairs have which value, and the median."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .curves import colour_of
from .glossary import entry
from .style import axis, bare, empty, ink, step_axis, translucent

ROWS, MOST_COLUMNS, PER_COLUMN = 24, 60, 48
"""Cells of the heat map: so many rows, and columns of so many values each, lest it show nothing but noise."""


def distribution(frame: pd.DataFrame, term: str, *, title: str | None = None, dark: bool = False) -> go.Figure:
    """Heat map of a term over pairs (upwards) against steps, with the median.

    frame: columns `step` and the term, one row for each pair and step, as `StoreReader.terms_over_time` gives it.
    A cell's colour is the share of its column's pairs; the title says how many values stand behind the picture.
    Values that are not finite cannot be drawn; they are counted in the title.
    """
    about = entry(term)
    title = title or about.title
    present = frame[["step", term]].dropna(subset=[term]) if term in frame else pd.DataFrame(columns=["step", term])
    values, steps = present[term].to_numpy(np.float64), present["step"].to_numpy(np.float64)
    finite = np.isfinite(values)
    values, steps, lost = values[finite], steps[finite], int((~finite).sum())
    if not len(values):
        return empty(
            title, f"{about.title} over the pairs appears here once the first batch of an objective that has it is done.", dark=dark
        )
    shares, across, upwards = _cells(steps, values)
    c = ink(dark)
    colour = colour_of(term, 0, c)
    counted = f"{len(values):,} values" + (f", {lost:,} more not finite" if lost else "")
    figure = bare(title, note=counted, dark=dark)
    figure.add_heatmap(
        x=across.astype(np.float32),
        y=upwards.astype(np.float32),
        z=shares.astype(np.float32),
        colorscale=[[0, "rgba(0,0,0,0)"], [0.001, translucent(colour, 0.15)], [0.35, translucent(colour, 0.6)], [1, colour]],
        showscale=False,
        hovertemplate=f"about step %{{x:,.0f}}: <b>%{{z:.0%}}</b> of the pairs near %{{y:.3g}} {about.unit}<br>"
        f"{about.hover}<extra></extra>",
    )
    middle = pd.Series(values).groupby(_column(steps, across)).median()
    figure.add_scatter(
        x=across[middle.index.to_numpy()].astype(np.float32),
        y=middle.to_numpy(np.float32),
        mode="lines",
        line={"color": c.text, "width": 1.5},
        hovertemplate=f"about step %{{x:,.0f}}: median <b>%{{y:.4g}} {about.unit}</b><extra></extra>",
        name="median",
        showlegend=False,
    )
    return figure.update_layout(xaxis=step_axis(c), yaxis=axis(c, title=about.axis), margin_t=36)


def _cells(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares [rows, columns] (NaN in columns without a value), the columns' middle steps and the rows' middle values."""
    columns = min(MOST_COLUMNS, max(len(values) // PER_COLUMN, 1), len(np.unique(steps)))
    low, high = values.min(), values.max()
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    span = (steps.min() - 0.5, steps.max() + 0.5)
    counts, edges_y, edges_x = np.histogram2d(values, steps, bins=(ROWS, columns), range=((low, high), span))
    totals = counts.sum(0)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return shares, (edges_x[:-1] + edges_x[1:]) / 2, (edges_y[:-1] + edges_y[1:]) / 2


def _column(steps: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Which column each step falls in."""
    width = across[1] - across[0] if len(across) > 1 else 1.0
    return np.clip(((steps - across[0]) / width + 0.5).astype(int), 0, len(across) - 1)
