"""Curves of several runs in one figure, told apart by colour and dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, empty, figure, hover, layout, palette, translucent, wrapped
from lab.plots.style import axis as axis_of
from lab.store import SCREEN_POINTS

LIGHT = ("#007a5a", "#a0527f", "#b87a00", "#3d4f5f", "#0072B2", "#D55E00", "#56B4E9", "#7d7100")
DARK = ("#3fc49b", "#d893bb", "#e69f00", "#c3ccd4", "#56B4E9", "#F0904C", "#9fd3f5", "#f0e442")
"""Okabe and Ito's colours, adapted to the background; the blue and orange of the two sides come late."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")

CROWD = 4
"""With more runs only the moving means are drawn."""

FEW = 60
"""Curves with at most this many points also have markers."""


def colour_of_run(number: int, dark: bool) -> str:
    """Return the colour of the run at a position among those compared."""
    colours = DARK if dark else LIGHT
    return colours[number % len(colours)]


def dash_of_run(number: int) -> str:
    """Return the dash, in Plotly's terms, of the run at a position among those compared."""
    return DASHES[number % len(DASHES)]


def overlay(
    frames: Mapping[str, pd.DataFrame],
    name: str,
    *,
    labels: Sequence[str],
    axis: str = "step",
    title: str | None = None,
    waiting: str = "The curves begin with the first step of a run that records this number.",
    events: Mapping[str, pd.DataFrame] | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw a scalar or term of several runs against an axis.

    Args:
        frames: Results of `lab.comparison.Comparison.curve`, by label.
        name: Name of the scalar or term.
        labels: Labels of all compared runs, so that a run keeps its colour and dash in every figure.
        axis: Title of the horizontal axis, with its unit.
        title: Title of the figure; None: that of the scalar.
        waiting: Text of the figure while it has no data.
        events: Marked events of each run by label, with a column `x` (see `marks`): one row of marks per run, in its colour.
        dark: Use the dark palette.
    """
    definition = entry(name)
    title = title or definition.title
    drawn = [label for label in labels if label in frames and frames[label]["value"].notna().any()]
    if not drawn:
        return empty(title, waiting, dark=dark)
    c = palette(dark)
    traces: list[dict[str, Any]] = []
    for label in drawn:
        number = labels.index(label)
        traces += _run(frames[label], name, label, colour_of_run(number, dark), dash_of_run(number), axis, len(drawn) <= CROWD)
    figure_layout = layout(
        title, note=_note([frames[label] for label in drawn]), dark=dark, xaxis=_x(c, axis), yaxis=axis_of(c, definition.axis)
    )
    figure_layout |= {"showlegend": True} | _mark(traces, events, drawn, labels, dark)
    figure_layout["margin"]["t"] = WITH_LEGEND
    return figure(traces, figure_layout)


def difference(
    frame: pd.DataFrame,
    name: str,
    *,
    labels: Sequence[str],
    axis: str = "step",
    title: str | None = None,
    events: Mapping[str, pd.DataFrame] | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw a scalar of one run minus that of another against an axis, with a line at zero.

    Args:
        frame: Result of `lab.comparison.Comparison.difference`.
        name: Name of the scalar.
        labels: Labels of the run and of the one that is subtracted.
        axis: Title of the horizontal axis, with its unit.
        title: Title of the figure; None: built from the scalar and the labels.
        events: Marked events of both runs, as in `overlay`.
        dark: Use the dark palette.
    """
    definition = entry(name)
    title = title or f"{definition.title}: {labels[0]} − {labels[1]}"
    if frame.empty or frame["mean"].isna().all():
        return empty(title, "The difference begins where both runs have recorded this number.", dark=dark)
    c = palette(dark)
    traces = _run(frame, name, f"{labels[0]} − {labels[1]}", c.text, "solid", axis, thin=True)
    zero = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "line": {"color": c.faint, "width": 1, "dash": "dot"},
    }
    unit = f"difference [{definition.unit}]" if definition.unit else "difference"
    note = _note([frame])
    figure_layout = layout(title, note=note, dark=dark, xaxis=_x(c, axis), yaxis=axis_of(c, unit), shapes=[zero], showlegend=False)
    figure_layout |= _mark(traces, events, labels, labels, dark)
    return figure(traces, figure_layout)


def _x(c: Any, title: str) -> dict[str, Any]:
    counted = title in ("step", "pairs seen")
    more = {"exponentformat": "SI", "hoverformat": ",d"} if counted else {"hoverformat": ".4g"}
    return axis_of(c, title, **more)


def _mark(
    traces: list[dict[str, Any]],
    events: Mapping[str, pd.DataFrame] | None,
    drawn: Sequence[str],
    labels: Sequence[str],
    dark: bool,
) -> dict[str, Any]:
    """Add the marks of the runs that are drawn, one row each, and return the axis they need."""
    axis: dict[str, Any] = {}
    for row, label in enumerate(label for label in drawn if events and label in events):
        assert events is not None
        marked, own = marks(events[label], dark=dark, whose=(label, colour_of_run(labels.index(label), dark)), row=row)
        traces += marked
        axis |= own
    return axis


def _run(frame: pd.DataFrame, name: str, label: str, colour: str, dash: str, axis: str, thin: bool) -> list[dict[str, Any]]:
    definition = entry(name)
    values = frame["value"].dropna()
    means = frame["mean"].dropna() if "mean" in frame else values
    smooth = not values.equals(means)
    at = "step %{x:,d}" if axis == "step" else f"{axis} %{{x}}, step %{{customdata:,d}}"
    common: dict[str, Any] = {"type": "scatter", "name": label, "legendgroup": label}
    traces: list[dict[str, Any]] = []
    if "low" in frame and frame["low"].notna().sum() > 1:
        band = frame[frame["low"].notna()]
        edge = {
            "type": "scatter",
            "x": _numbers(band.index),
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": label,
        }
        traces.append({**edge, "y": _numbers(band["low"])})
        traces.append({**edge, "y": _numbers(band["high"]), "fill": "tonexty", "fillcolor": translucent(colour, 0.13)})
    meaning, unit = hover(definition), definition.unit
    kept = ", an extreme of the values around it" if frame.attrs.get("stands_for", 0) > SCREEN_POINTS else ""
    if smooth and thin:
        traces.append(
            {
                **common,
                **_points(frame, "value", axis),
                "mode": "lines",
                "line": {"color": translucent(colour, 0.25), "width": 1},
                "showlegend": False,
                "hovertemplate": f"{at}: <b>%{{y:.4g}} {unit}</b>{kept}<br>{meaning}<extra>{wrapped(label, 30)}</extra>",
            }
        )
    window = frame.attrs.get("window", 1)
    mean = f", mean of the last {window:,} values" if window > 1 else ""
    traces.append(
        {
            **common,
            **_points(frame, "mean" if "mean" in frame else "value", axis),
            "mode": "lines+markers" if len(means) <= FEW else "lines",
            "marker": {"size": 5, "color": colour},
            "line": {"color": colour, "width": 2, "dash": dash},
            "hovertemplate": f"{at}: <b>%{{y:.4g}} {unit}</b>{mean}<br>{meaning}<extra>{wrapped(label, 30)}</extra>",
        }
    )
    return traces


def _points(frame: pd.DataFrame, column: str, axis: str) -> dict[str, np.ndarray]:
    """Return x, y and, unless the axis is that of the steps, the step of the values of a column."""
    part = frame[frame[column].notna()]
    points = {"x": _numbers(part.index), "y": _numbers(part[column])}
    return points if axis == "step" else points | {"customdata": part["step"].to_numpy(np.float64).round().astype(np.int64)}


def _numbers(values: Any) -> np.ndarray:
    """Convert values to float32 (positions on the axis to float64), with gaps for infinities."""
    numbers = np.asarray(values, np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    return numbers if isinstance(values, pd.Index) else numbers.astype(np.float32)


def _note(frames: Sequence[pd.DataFrame]) -> str:
    """Return how many recorded values the curve of each run represents, as text."""
    behind = sorted(int(frame.attrs.get("stands_for", len(frame))) for frame in frames)
    low, high = behind[0], behind[-1]
    count = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"{count} {frames[0].attrs.get('of', ('value', 'values'))[high != 1]}{' per run' if len(frames) > 1 else ''}"
