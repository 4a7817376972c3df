"""Confusion matrix of SPO's degree head: predicted against true degree of degradation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.plots.style import axis, empty, figure, layout, palette, wrapped

TITLE = "Degree head: true against predicted"
PREFIX = "degree_confusion/"
"""Prefix of the counts, which are scalars named degree_confusion/<true>/<predicted>."""

CELL = "k = %{y}, predicted k̂ = %{x}: <b>%{z:.0%}</b> (%{customdata:,.0f} answers)"
MEANING = wrapped(
    "k: the degree to which an answer was degraded, 0 intact; k̂: the degree that SPO's head predicts. "
    "The share is of all answers of degree k."
)


def confusion(counts: pd.DataFrame, *, note: str = "", title: str = TITLE, dark: bool = False) -> go.Figure:
    """Draw a confusion matrix as a heat map: rows are true degrees (0 intact), columns predicted ones, colours shares of the row.

    Args:
        counts: Numbers of answers [N, N]; index: true degrees, columns: predicted degrees.
        note: Note behind the title.
        title: Title of the figure.
        dark: Use the dark palette.
    """
    if counts.empty or not counts.to_numpy().sum():
        return empty(title, "The confusion appears with the first step of an objective that has a degree head (SPO).", dark=dark)
    c = palette(dark)
    table = counts.to_numpy(np.float64)
    totals = table.sum(1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0).astype(np.float32)
    cells = {
        "type": "heatmap",
        "x": counts.columns.to_numpy(np.int32),
        "y": counts.index.to_numpy(np.int32),
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, c.empty], [1, c.chosen]],
        "showscale": False,
        "texttemplate": "%{z:.0%}",
        "customdata": table.astype(np.float32),
        "hovertemplate": f"{CELL}<br>{MEANING}<extra></extra>",
    }
    across = axis(c, "k̂, predicted degree", dtick=1)
    down = axis(c, "k, true degree", dtick=1, autorange="reversed")
    return figure([cells], layout(title, note=note, dark=dark, xaxis=across, yaxis=down))
