"""Curves of scalars by step: a thin line of all values and a thick one of their moving mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import HELD_OUT, entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, Palette, axis, empty, escaped, figure, hover, layout, palette, step_axis, translucent
from lab.store import SCREEN_POINTS, spike_keeping

HELD_OUT_TWINS = tuple(HELD_OUT + name for name in ("loss", "rewards/margins", "rewards/accuracies"))
"""Held-out scalars that are drawn dashed in the colour of the same scalar of training."""

FEW = 60
"""Curves with at most this many values also have markers."""


def curves(
    frame: pd.DataFrame,
    names: Sequence[str],
    *,
    title: str,
    unit: str = "",
    events: pd.DataFrame | None = None,
    smooth: int = 1,
    means: pd.DataFrame | None = None,
    stands_for: Mapping[str, int] | None = None,
    band: pd.DataFrame | None = None,
    span: tuple[float, float] | None = None,
    waiting: str = "The curve begins with the first step.",
    dark: bool = False,
) -> go.Figure:
    """Draw curves by step, each with at most 1,000 points that keep the extremes.

    Args:
        frame: Values; index `step`, one column per name, NaN where there is none.
        names: Columns to draw.
        title: Title of the figure.
        unit: Title of the vertical axis.
        events: Events of the run, drawn as marks at the bottom (see `marks`).
        smooth: Width of the trailing mean in values; 1 draws the values only.
        means: The trailing means, if the frame does not hold every value; same form as `frame`.
        stands_for: Number of recorded values by name, if the frame does not hold every value.
        band: Interval around the first curve: index `step`, columns `low` and `high`.
        span: Range of the vertical axis; None fits it to the values.
        waiting: Text of the figure while it has no data.
        dark: Use the dark palette.
    """
    drawn = [name for name in names if name in frame and frame[name].notna().any()]
    if not drawn:
        return empty(title, waiting, dark=dark)
    c = palette(dark)
    traces = [] if band is None or band.empty else _band(band, colour_of(drawn[0], 0, c))
    for number, name in enumerate(drawn):
        twin = name.removeprefix(HELD_OUT)
        paired = name in HELD_OUT_TWINS and twin in drawn  # dashed, in the colour of its twin, not smoothed
        colour = colour_of(name, drawn.index(twin) if paired else number, c)
        values = frame[name].dropna()
        mean = None if paired else _mean(values, name, smooth, means)
        traces += _line(values, name, colour, mean, smooth, dash="dash" if paired else "solid")
    limits: dict[str, Any] = {"range": span} if span else {}
    figure_layout = layout(
        title,
        dark=dark,
        note=counted({name: (stands_for or {}).get(name, int(frame[name].notna().sum())) for name in drawn}),
        xaxis=step_axis(c),
        yaxis=axis(c, unit, **limits),
        showlegend=len(drawn) > 1,
    )
    if len(drawn) > 1:
        figure_layout["margin"]["t"] = WITH_LEGEND
    if events is not None:
        marked, mark_axis = marks(events, dark=dark)
        traces += marked
        figure_layout |= mark_axis
    return figure(traces, figure_layout)


def colour_of(name: str, number: int, c: Palette) -> str:
    """Return the colour of a series: fixed for chosen and rejected, otherwise the neutral ones in turn."""
    if name.endswith("rejected"):
        return c.rejected
    if name.endswith("chosen"):
        return c.chosen
    return c.neutral[number % len(c.neutral)]


def label_of(name: str) -> str:
    """Return the legend label of a series: its side, or its symbol."""
    for side in ("chosen", "rejected"):
        if name.endswith(side):
            return side
    return "held out" if name in HELD_OUT_TWINS else entry(name).symbol


def counted(stands_for: Mapping[str, int]) -> str:
    """Return the number of recorded values behind a figure as text."""
    most = max(stands_for.values())
    if most > SCREEN_POINTS:
        return f"{most:,} values, extremes kept"
    return f"{most:,} value{'s' if most != 1 else ''}"


def _mean(values: pd.Series, name: str, smooth: int, means: pd.DataFrame | None) -> pd.Series | None:
    """Return the trailing mean of the values; None if it would equal them."""
    if means is not None:
        return means[name].dropna()
    return values.rolling(smooth, min_periods=1).mean() if 1 < smooth < len(values) else None


def _line(values: pd.Series, name: str, colour: str, mean: pd.Series | None, smooth: int, dash: str) -> list[dict[str, Any]]:
    definition, label = entry(name), label_of(name)
    number = f"step %{{x:,d}}: <b>%{{y:.4g}} {definition.unit}</b>"
    base = {"type": "scatter", "name": label, "legendgroup": name}
    smoothed = mean is not None
    thin = {
        **base,
        **_thinned(values),
        "mode": "lines+markers" if len(values) <= FEW and not smoothed else "lines",
        "marker": {"size": 4},
        "line": {"color": translucent(colour, 0.3) if smoothed else colour, "width": 1 if smoothed else 1.5, "dash": dash},
        "showlegend": not smoothed,
        "hovertemplate": f"{number}<br>{hover(definition)}<extra>{escaped(label)}</extra>",
    }
    if mean is None:
        return [thin]
    return [
        thin,
        {
            **base,
            **_thinned(mean),
            "mode": "lines",
            "line": {"color": colour, "width": 2},
            "hovertemplate": f"{number}, mean of the last {smooth:,} values<br>{hover(definition)}<extra>{escaped(label)}</extra>",
        },
    ]


def _band(band: pd.DataFrame, colour: str) -> list[dict[str, Any]]:
    edge = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return [
        {**edge, **_thinned(band["low"])},
        {**edge, **_thinned(band["high"]), "fill": "tonexty", "fillcolor": translucent(colour, 0.15)},
    ]


def _thinned(values: pd.Series) -> dict[str, np.ndarray]:
    """Return x and y of at most SCREEN_POINTS points; infinities become gaps."""
    steps, numbers = values.index.to_numpy(), values.to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if len(numbers) > SCREEN_POINTS:
        keep = spike_keeping(numbers, SCREEN_POINTS)
        steps, numbers = steps[keep], numbers[keep]
    return {"x": steps.astype(np.int32), "y": numbers.astype(np.float32)}
