"""Histogram of the effect of a virtual step on one pair on the margins of all other pairs."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.style import axis, empty, figure, hover, layout, palette

BARS = 40
TITLE = "Effect of the step on the margins of the other pairs"


def virtual_step(changes: np.ndarray, own: float, *, dark: bool = False) -> go.Figure:
    """Draw a histogram of changes of the reward margin, split at 0: pairs on the right are helped, on the left hurt.

    Args:
        changes: Changes of the other pairs, [n]; non-finite ones are only counted in the title.
        own: Change of the pair on which the step is taken, drawn as a line.
        dark: Use the dark palette.
    """
    values = np.asarray(changes, np.float64)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return empty(TITLE, "There is no other pair whose margin could change.", dark=dark)
    c = palette(dark)
    furthest = max(float(np.abs(finite).max()), 1e-12)
    edges = np.linspace(-furthest, furthest, BARS + 1)
    counts, _ = np.histogram(finite, edges)
    middles = (edges[:-1] + edges[1:]) / 2
    lost = len(values) - len(finite)
    unmoved = int((finite == 0).sum())
    note = f"{(finite > 0).sum():,} helped, {(finite < 0).sum():,} hurt" + (f", {unmoved:,} unmoved" if unmoved else "")
    bars = {
        "type": "bar",
        "x": middles.astype(np.float32),
        "y": counts.astype(np.int32),
        "width": float(edges[1] - edges[0]) * 0.92,
        "marker": {"color": np.where(middles > 0, c.chosen, c.rejected).astype(object)},
        "hovertemplate": f"<b>%{{y:,d}} pairs</b> with a change near %{{x:.3g}}<br>{hover(entry('margin'))}<extra></extra>",
    }
    shapes, annotations = [], []
    if np.isfinite(own):
        at = float(np.clip(own, -furthest, furthest))
        beyond = " →" if own > furthest else " ←" if own < -furthest else ""
        line = {"color": c.text, "width": 1.5, "dash": "dot"}
        shapes.append({"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": line})
        label = {"text": f"this pair: {own:+.3g}{beyond}", "font": {"size": 11, "color": c.text}, "showarrow": False}
        annotations.append(
            {**label, "x": at, "yref": "paper", "y": 1, "yanchor": "bottom", "xanchor": "right" if at > 0 else "left"}
        )
    figure_layout = layout(
        TITLE,
        note=note + (f", {lost:,} not finite" if lost else ""),
        dark=dark,
        xaxis=axis(c, "change of the reward margin, no unit"),
        yaxis=axis(c, "pairs"),
        shapes=shapes,
        annotations=annotations,
        showlegend=False,
    )
    figure_layout["margin"]["t"] = 52
    return figure([bars], figure_layout)
