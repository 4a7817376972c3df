"""Numbers against steps: every value is kept as a thin line, and a moving mean says where they go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.monitor import SCREEN_POINTS, spike_keeping

from .glossary import entry
from .marks import add_marks
from .style import Ink, axis, bare, empty, ink, step_axis, translucent


def curves(
    frame: pd.DataFrame,
    names: Sequence[str],
    *,
    title: str,
    unit: str = "",
    events: pd.DataFrame | None = None,
    smooth: int = 1,
    band: pd.DataFrame | None = None,
    span: tuple[float, float] | None = None,
    waiting: str = "The curve begins with the first step.",
    dark: bool = False,
) -> go.Figure:
    """Lines by step.

    frame: index `step`, a column a name, NaN where there is no value.   names: the columns to draw.
    unit: of the vertical axis.   events: as `Run.events` gives them, drawn as thin marks.
    smooth: width in values of the trailing mean that is drawn over the values; 1 draws the values alone.
    band: index `step`, columns `low` and `high`: an interval drawn around the first name.
    span: range of the vertical axis; None fits it to the values.
    waiting: what an empty figure says.
    A line has at most 1,000 points: of more values the lowest and the highest of every bucket are kept.
    """
    drawn = [name for name in names if name in frame and frame[name].notna().any()]
    if not drawn:
        return empty(title, waiting, dark=dark)
    c = ink(dark)
    figure = bare(title, dark=dark)
    if band is not None and len(band):
        _add_band(figure, band, colour_of(drawn[0], 0, c))
    for number, name in enumerate(drawn):
        _add_line(figure, frame[name].dropna(), name, colour_of(name, number, c), smooth)
    figure.update_layout(xaxis=step_axis(c), yaxis=axis(c, title=unit or None, range=span), showlegend=len(drawn) > 1)
    if events is not None:
        add_marks(figure, events, dark=dark)
    return figure


def colour_of(name: str, number: int, c: Ink) -> str:
    """Chosen and rejected have the same colours everywhere; others take the neutral ones in turn."""
    if name.endswith("rejected"):
        return c.rejected
    if name.endswith("chosen"):
        return c.chosen
    return c.neutral[number % len(c.neutral)]


def label_of(name: str) -> str:
    """What a legend calls a series: its side or its symbol."""
    for side in ("chosen", "rejected"):
        if name.endswith(side):
            return side
    return entry(name).symbol


def _add_line(figure: go.Figure, values: pd.Series, name: str, colour: str, smooth: int) -> None:
    about, number = entry(name), f"%{{y:.4g}} {entry(name).unit}".rstrip()
    smoothed = smooth > 1 and len(values) > smooth
    hover = f"step %{{x:,d}}: <b>{number}</b><br>{about.hover}<extra>{label_of(name)}</extra>"
    sparse = len(values) <= 60
    figure.add_scatter(
        **_thinned(values),
        name=label_of(name),
        legendgroup=name,
        showlegend=not smoothed,
        mode="lines+markers" if sparse and not smoothed else "lines",
        marker={"size": 4},
        line={"color": translucent(colour, 0.35) if smoothed else colour, "width": 1 if smoothed else 1.5},
        hovertemplate=hover,
    )
    if smoothed:
        mean = values.rolling(smooth, min_periods=1).mean()
        figure.add_scatter(
            **_thinned(mean),
            name=label_of(name),
            legendgroup=name,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate=f"step %{{x:,d}}: <b>{number}</b>, mean of the last {smooth} steps<br>"
            f"{about.hover}<extra>{label_of(name)}</extra>",
        )


def _add_band(figure: go.Figure, band: pd.DataFrame, colour: str) -> None:
    edges = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(**_thinned(band["low"]), **edges)
    figure.add_scatter(**_thinned(band["high"]), fill="tonexty", fillcolor=translucent(colour, 0.15), **edges)


def _thinned(values: pd.Series) -> dict[str, np.ndarray]:
    """x and y of at most SCREEN_POINTS points; infinities, which no axis can show, become gaps."""
    steps, numbers = values.index.to_numpy(), values.to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    if len(numbers) > SCREEN_POINTS:
        keep = spike_keeping(numbers, SCREEN_POINTS)
        steps, numbers = steps[keep], numbers[keep]
    return {"x": steps.astype(np.int32), "y": numbers.astype(np.float32)}
