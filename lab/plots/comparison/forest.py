"""Forest plot: differences of variants with their intervals, one line each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.style import axis, empty, escaped, figure, layout, palette, translucent, wrapped

ROW = 46
"""Height of a line in pixels, with its label above the interval."""
BESIDES = 96
"""Height in pixels of title and axis."""


def forest(frame: pd.DataFrame, metric: str, *, title: str | None = None, dark: bool = False) -> go.Figure:
    """Draw the difference of each pair of variants in one metric: a dot, its 95 % interval, and the corrected one as a thin line.

    A filled dot is a difference that is shown after the correction. Those in the shaded band are smaller than those of interest.

    Args:
        frame: Result of `lab.experiments.statistics.Comparisons.table`.
        metric: Name of the metric.
        title: Title of the figure; None: made from the metric.
        dark: Use the dark palette.
    """
    definition = entry(metric)
    title = title or f"Differences in {definition.title[:1].lower()}{definition.title[1:]}"
    rows = frame[(frame["metric"] == metric) & frame["difference"].notna()] if len(frame) else frame
    if rows.empty:
        return empty(title, "A difference appears when both variants have finished two runs with the same seeds.", dark=dark)
    c = palette(dark)
    at = np.arange(len(rows), dtype=float)[::-1]
    tones = [c.chosen if shown else c.neutral[0] for shown in rows["shown"]]
    traces: list[dict[str, Any]] = [
        _line(rows, at, ("adjusted_low", "adjusted_high"), translucent(c.neutral[0], 0.7), 1),
        _line(rows, at, ("low", "high"), c.neutral[0], 4),
        {
            "type": "scatter",
            "x": rows["difference"].to_numpy(float),
            "y": at,
            "mode": "markers",
            "marker": {"size": 11, "color": tones, "symbol": ["circle" if s else "circle-open" for s in rows["shown"]]},
            "customdata": [wrapped(sentence, 60) for sentence in rows["sentence"]],
            "hovertemplate": "%{customdata}<extra></extra>",
            "showlegend": False,
        },
    ]
    smallest = float(rows["smallest"].iloc[0])
    band = {
        "type": "rect", "yref": "paper", "x0": -smallest, "x1": smallest, "y0": 0, "y1": 1, "line": {"width": 0},
        "fillcolor": translucent(c.faint, 0.13), "layer": "below",
    }  # fmt: skip
    zero = {
        "type": "line",
        "yref": "paper",
        "x0": 0,
        "x1": 0,
        "y0": 0,
        "y1": 1,
        "line": {"color": c.faint, "width": 1, "dash": "dot"},
    }
    labels = [
        {
            "text": escaped(f"{row['one']} − {row['other']}, {row['where']}"),
            "x": 0, "xref": "paper", "xanchor": "left", "y": place,
            "yshift": 15, "showarrow": False, "font": {"size": 12, "color": c.text}, "align": "left",
        }
        for place, row in zip(at, rows.to_dict("records"))
    ]  # fmt: skip
    unit = f" [{definition.unit}]" if definition.unit else ""
    shown = int(rows["shown"].sum())
    figure_layout = layout(
        title,
        note=f"{shown} of {len(rows)} shown after correction; shaded: below {smallest:g}",
        dark=dark,
        height=BESIDES + ROW * len(rows),
        xaxis=axis(c, f"difference{unit}", zeroline=False),
        yaxis={"visible": False, "range": [-0.6, len(rows) - 0.2]},
        shapes=[band, zero],
        annotations=labels,
    )
    return figure(traces, figure_layout)


def _line(rows: pd.DataFrame, at: np.ndarray, ends: tuple[str, str], colour: str, width: int) -> dict[str, Any]:
    """Return the trace of all intervals, with a gap behind each."""
    x = np.column_stack([rows[ends[0]], rows[ends[1]], np.full(len(rows), np.nan)]).astype(float).ravel()
    return {
        "type": "scatter", "x": x, "y": np.repeat(at, 3), "mode": "lines", "line": {"color": colour, "width": width},
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
