"""Histogram of one number over the pairs of a set, with the range that is filtered by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lab.plots.style import axis, empty, figure, layout, palette, translucent

HISTOGRAM_HEIGHT = 190
"""Height of the figure in pixels."""


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    title: str,
    unit: str = "",
    limits: tuple[float | None, float | None] = (None, None),
    dark: bool = False,
) -> go.Figure:
    """Draw how many pairs have which value.

    Args:
        edges: Ends of the bins, ascending, [n + 1].
        counts: Pairs in each bin, [n].
        title: Name of the number.
        unit: Its unit, for the axis.
        limits: The range that is filtered by, shaded; None for no bound.
        dark: Use the dark palette.

    Raises:
        ValueError: The numbers of edges and counts do not belong together.
    """
    if not sum(counts):
        return empty(title, "No pair has this number.", dark=dark)
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} bins need {len(counts) + 1} edges, not {len(edges)}.")
    c = palette(dark)
    ends, heights = np.asarray(edges, float), np.asarray(counts, float)
    # A line with steps: it has one point per end of a bin, and needs no other kind of chart than lines.
    bins = {
        "type": "scatter",
        "x": ends,
        "y": np.append(heights, heights[-1]),
        "mode": "lines",
        "line": {"shape": "hv", "color": c.neutral[0], "width": 1},
        "fill": "tozeroy",
        "fillcolor": translucent(c.neutral[0], 0.35),
        "hovertemplate": "from %{x:.4g}: <b>%{y:,}</b> pairs<extra></extra>",
        "showlegend": False,
    }
    low, high = (end if limit is None else limit for limit, end in zip(limits, (ends[0], ends[-1])))
    filtered = {
        "type": "rect",
        "xref": "x",
        "yref": "paper",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "line": {"width": 0},
        "fillcolor": translucent(c.chosen, 0.22),
    }
    return figure(
        [bins],
        layout(
            title,
            dark=dark,
            note=f"{int(heights.sum()):,} pairs",
            height=HISTOGRAM_HEIGHT,
            xaxis=axis(c, unit, fixedrange=True),
            yaxis=axis(c, "pairs", rangemode="tozero", fixedrange=True),
            shapes=[filtered] if limits != (None, None) else [],
            dragmode="select",
            selectdirection="h",
            hovermode="x",
        ),
    )
