"""Curves of several runs in one picture: a colour and a dash for each, so that it is read without colours, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .glossary import entry
from .style import WITH_LEGEND, empty, figure, ink, layout, translucent, wrapped
from .style import axis as axis_of

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
    dark: bool = False,
) -> go.Figure:
    """A number of several runs against an axis.

    frames: by label: index the place on the axis, columns value, step and, where there are any, mean (drawn over the values), low
    and high (a band); at most 1,000 rows each. attrs: stands_for, values behind the rows, and window, points in a mean.
    name: of the scalar or term, for words and unit.   labels: of all runs that are compared: a run keeps its colour and dash in
    figures that lack others.   axis: title of the horizontal axis, with its unit.
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
    look |= {"showlegend": True}
    look["margin"]["t"] = WITH_LEGEND
    return figure(traces, look)


def difference(
    frame: pd.DataFrame, name: str, *, labels: Sequence[str], axis: str = "step", title: str | None = None, dark: bool = False
) -> go.Figure:
    """One run less another against an axis, with a line at zero.

    frame: index the place on the axis, columns value, mean, step.   labels: of the run, and of the one that is taken away.
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
    look = layout(title, dark=dark, xaxis=_x(c, axis), yaxis=axis_of(c, unit), shapes=[zero], showlegend=False)
    return figure(traces, look)


def _x(c: Any, title: str) -> dict[str, Any]:
    counted = title in ("step", "pairs seen")
    more = {"exponentformat": "SI", "hoverformat": ",d"} if counted else {"hoverformat": ".4g"}
    return axis_of(c, title, **more)


def _run(frame: pd.DataFrame, name: str, label: str, colour: str, dash: str, axis: str, thin: bool) -> list[dict[str, Any]]:
    about = entry(name)
    x, steps = _numbers(frame.index), frame["step"].to_numpy(np.float64)
    values = _numbers(frame["value"])
    means = _numbers(frame["mean"]) if "mean" in frame else values
    smooth = not np.array_equal(values, means, equal_nan=True)
    at = "step %{x:,d}" if axis == "step" else f"{axis} %{{x}}, step %{{customdata:,d}}"
    common: dict[str, Any] = {"type": "scatter", "x": x, "name": label, "legendgroup": label}
    if axis != "step":
        common["customdata"] = np.where(np.isfinite(steps), steps, 0).astype(np.int64)
    traces: list[dict[str, Any]] = []
    if "low" in frame and frame["low"].notna().sum() > 1:
        known = frame["low"].notna().to_numpy()
        edge = {
            "type": "scatter",
            "x": x[known],
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
            "legendgroup": label,
        }
        traces.append({**edge, "y": _numbers(frame["low"])[known]})
        traces.append({**edge, "y": _numbers(frame["high"])[known], "fill": "tonexty", "fillcolor": translucent(colour, 0.13)})
    if smooth and thin:
        traces.append(
            {
                **common,
                "y": values,
                "mode": "lines",
                "line": {"color": translucent(colour, 0.25), "width": 1},
                "showlegend": False,
                "hovertemplate": f"{at}: <b>%{{y:.4g}} {about.unit}</b><br>{about.hover}<extra>{wrapped(label, 30)}</extra>",
            }
        )
    mean = f", mean of the last {frame.attrs['window']} points" if smooth and frame.attrs.get("window", 1) > 1 else ""
    traces.append(
        {
            **common,
            "y": means,
            "mode": "lines+markers" if len(x) <= FEW else "lines",
            "marker": {"size": 5, "color": colour},
            "line": {"color": colour, "width": 2, "dash": dash},
            "hovertemplate": f"{at}: <b>%{{y:.4g}} {about.unit}</b>{mean}<br>{about.hover}<extra>{wrapped(label, 30)}</extra>",
        }
    )
    return traces


def _numbers(values: Any) -> np.ndarray:
    """float32, infinities, which no axis can show, as gaps; places on the axis keep float64."""
    found = np.asarray(values, np.float64)
    found = np.where(np.isfinite(found), found, np.nan)
    return found if isinstance(values, pd.Index) else found.astype(np.float32)


def _note(frames: Sequence[pd.DataFrame]) -> str:
    """How many values the picture stands for, where it is more than its points."""
    behind, points = sum(frame.attrs.get("stands_for", len(frame)) for frame in frames), sum(map(len, frames))
    return f"{points:,} points for {behind:,} values, extremes kept" if behind > points else ""
