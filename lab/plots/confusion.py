"""What SPO's degree head takes an answer for, against what it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import axis, empty, figure, ink, layout

TITLE = "Degree head: true against named"
PREFIX = "degree_confusion/"
"""The counts are scalars named degree_confusion/<true>/<named>."""


def confusion(counts: pd.DataFrame, *, note: str = "", title: str = TITLE, dark: bool = False) -> go.Figure:
    """Heat map of a confusion matrix: rows the true degree (0 intact), columns the one the head names, colour the row's share.

    counts: [N, N] numbers of answers, index the true and columns the named degrees.
    """
    if counts.empty or not counts.to_numpy().sum():
        return empty(title, "The confusion appears with the first step of an objective that has a degree head (SPO).", dark=dark)
    c = ink(dark)
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
        "hovertemplate": "true degree %{y}, named %{x}: <b>%{z:.0%}</b> (%{customdata:,.0f} answers)<extra></extra>",
    }
    across = axis(c, "named degree", dtick=1)
    down = axis(c, "true degree", dtick=1, autorange="reversed")
    return figure([cells], layout(title, note=note, dark=dark, xaxis=across, yaxis=down))
