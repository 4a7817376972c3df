"""Curves of several runs in one picture: a colour and a dash for each, so that it is read without colours, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, empty, figure, hover, ink, layout, translucent, wrapped
from lab.plots.style import axis as axis_of
from lab.store import SCREEN_POINTS

LIGHT = ("#007a5a", "#a0527f", "#b87a00", "#3d4f5f", "#0072B2", "#D55E00", "#56B4E9", "#7d7100")
DARK = ("#3fc49b", "#d893bb", "#e69f00", "#c3ccd4", "#56B4E9", "#F0904C", "#9fd3f5", "#f0e442")
"""Okabe and Ito's colours, darker or lighter where the ground asks for it; chosen's blue and rejected's orange come late."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")

CROWD = 4
"""With more runs the single values are left out and the moving means speak alone."""

FEW = 60
"""Up to so many points each is also drawn as a dot."""


def colour_of_run(number: int, dark: bool) -> str:
    """The colour of the run at a place among those compared."""
    colours = DARK if dark else LIGHT
    return colours[number % len(colours)]


def dash_of_run(number: int) -> str:
    """Its dash, as Plotly calls it."""
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
    """A number of several runs against an axis.

    frames: by label: index the place on the axis, columns value, step and, where there are any, mean (drawn over the values), low
    and high (a band); at most 1,000 values and 1,000 means each, of which a row may lack one. attrs: stands_for, recorded values
    behind them; window, how many of those a mean is of; of, what one and many are called.
    name: of the scalar or term, for words and unit.   labels: of all runs that are compared: a run keeps its colour and dash in
    figures that lack others.   axis: title of the horizontal axis, with its unit.
    events: what happened in each run, by label, with a column `x` (see `marks`): each run's as a row of marks in its colour.
    """
    about = entry(name)
    title = title or about.title
    drawn = [label for label in labels if label in frames and frames[label]["value"].notna().any()]
    if not drawn:
        return empty(title, waiting, dark=dark)
    c = ink(dark)
    traces: list[dict[str, Any]] = []
    for label in drawn:
        number = labels.index(label)
        traces += _run(frames[label], name, label, colour_of_run(number, dark), dash_of_run(number), axis, len(drawn) <= CROWD)
    look = layout(title, note=_note([frames[label] for label in drawn]), dark=dark, xaxis=_x(c, axis), yaxis=axis_of(c, about.axis))
    look |= {"showlegend": True} | _mark(traces, events, drawn, labels, dark)
    look["margin"]["t"] = WITH_LEGEND
    return figure(traces, look)


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
    """One run less another against an axis, with a line at zero.

    frame: index the place on the axis, columns value, mean, step.   labels: of the run, and of the one that is taken away.
    events: of both, as in `overlay`.
    """
    about = entry(name)
    title = title or f"{about.title}: {labels[0]} less {labels[1]}"
    if frame.empty or frame["mean"].isna().all():
        return empty(title, "The difference begins where both runs have recorded this number.", dark=dark)
    c = ink(dark)
    traces = _run(frame, name, f"{labels[0]} less {labels[1]}", c.text, "solid", axis, thin=True)
    zero = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 0,
        "y1": 0,
        "line": {"color": c.faint, "width": 1, "dash": "dot"},
    }
    unit = f"difference [{about.unit}]" if about.unit else "difference"
    note = _note([frame])
    look = layout(title, note=note, dark=dark, xaxis=_x(c, axis), yaxis=axis_of(c, unit), shapes=[zero], showlegend=False)
    look |= _mark(traces, events, labels, labels, dark)
    return figure(traces, look)


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
    """Add the marks of the runs that are drawn, a row each; the axis they need."""
    axis: dict[str, Any] = {}
    for row, label in enumerate(label for label in drawn if events and label in events):
        assert events is not None
        found, own = marks(events[label], dark=dark, whose=(label, colour_of_run(labels.index(label), dark)), row=row)
        traces += found
        axis |= own
    return axis


def _run(frame: pd.DataFrame, name: str, label: str, colour: str, dash: str, axis: str, thin: bool) -> list[dict[str, Any]]:
    about = entry(name)
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
    kept = ", an extreme of the values around it" if frame.attrs.get("stands_for", 0) > SCREEN_POINTS else ""
    if smooth and thin:
        traces.append(
            {
                **common,
                **_points(frame, "value", axis),
                "mode": "lines",
                "line": {"color": translucent(colour, 0.25), "width": 1},
                "showlegend": False,
                "hovertemplate": f"{at}: <b>%{{y:.4g}} {about.unit}</b>{kept}<br>{hover(about)}<extra>{wrapped(label, 30)}</extra>",
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
            "hovertemplate": f"{at}: <b>%{{y:.4g}} {about.unit}</b>{mean}<br>{hover(about)}<extra>{wrapped(label, 30)}</extra>",
        }
    )
    return traces


def _points(frame: pd.DataFrame, column: str, axis: str) -> dict[str, np.ndarray]:
    """Where a column has values: x, y and, where the axis does not say it, the step."""
    part = frame[frame[column].notna()]
    found = {"x": _numbers(part.index), "y": _numbers(part[column])}
    return found if axis == "step" else found | {"customdata": part["step"].to_numpy(np.float64).round().astype(np.int64)}


def _numbers(values: Any) -> np.ndarray:
    """float32, infinities, which no axis can show, as gaps; places on the axis keep float64."""
    found = np.asarray(values, np.float64)
    found = np.where(np.isfinite(found), found, np.nan)
    return found if isinstance(values, pd.Index) else found.astype(np.float32)


def _note(frames: Sequence[pd.DataFrame]) -> str:
    """How many recorded values each run's curve stands for."""
    behind = sorted(int(frame.attrs.get("stands_for", len(frame))) for frame in frames)
    low, high = behind[0], behind[-1]
    found = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"{found} {frames[0].attrs.get('of', ('value', 'values'))[high != 1]}{' a run' if len(frames) > 1 else ''}"
