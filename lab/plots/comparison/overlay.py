"""Curves of several runs in one figure, told apart by colour and dash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import UPRIGHT, WITH_LEGEND, empty, figure, layout, palette
from lab.plots.style import axis as axis_of

from .lines import group, is_group, legend_rows, run_traces, thin

LIGHT = ("#007a5a", "#a0527f", "#b87a00", "#3d4f5f", "#0072B2", "#D55E00", "#56B4E9", "#7d7100")
DARK = ("#3fc49b", "#d893bb", "#e69f00", "#c3ccd4", "#56B4E9", "#F0904C", "#9fd3f5", "#f0e442")
"""Okabe and Ito's colours, adapted to the background; the blue and orange of the two sides come late."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")

CROWD = 4
"""With more runs only the moving means are drawn."""

LEGEND_ROW = 19
"""Height in pixels of a row of the legend."""


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
    singles: Mapping[str, Mapping[str, pd.DataFrame]] | None = None,
    legend: bool = True,
    dark: bool = False,
) -> go.Figure:
    """Draw a scalar or term of several runs, or groups of runs with their bands, against an axis.

    Args:
        frames: Results of `lab.comparison.Comparison.curve`, by label.
        name: Name of the scalar or term.
        labels: Labels of all curves, so that each keeps its colour and dash in every figure.
        axis: Title of the horizontal axis, with its unit.
        title: Title of the figure; None: that of the scalar.
        waiting: Text of the figure while it has no data.
        events: Marked events of each run by label, with a column `x` (see `marks`): one row of marks per run, in its colour.
        singles: Runs that are drawn as thin lines: by the label of their group, curves by the run's label. A group may be drawn
            by these alone.
        legend: Draw a legend.
        dark: Use the dark palette.
    """
    definition = entry(name)
    title = title or definition.title
    singles = singles or {}
    curves = {
        label: [frame for frame in (frames.get(label), *singles.get(label, {}).values()) if frame is not None] for label in labels
    }
    curves = {label: [frame for frame in own if frame["value"].notna().any()] for label, own in curves.items()}
    drawn = [label for label in labels if curves[label]]
    if not drawn:
        return empty(title, waiting, dark=dark)
    c = palette(dark)
    traces: list[dict[str, Any]] = []
    for label in drawn:
        number = labels.index(label)
        colour, dash = colour_of_run(number, dark), dash_of_run(number)
        alone = label not in frames or bool(frames[label]["value"].isna().all())
        opacity = 0.9 if alone else 0.45
        lines = [line for run, own in singles.get(label, {}).items() for line in thin(own, name, run, label, colour, axis, opacity)]
        if alone:
            lines[0] |= {"showlegend": True, "name": label}
        elif is_group(frames[label]):
            lines += group(frames[label], name, label, colour, dash, axis)
        else:
            lines += run_traces(frames[label], name, label, colour, dash, axis, len(drawn) <= CROWD)
        traces += lines
    figure_layout = layout(
        title,
        note=_note([frames[label] if label in frames else curves[label][0] for label in drawn]),
        dark=dark,
        xaxis=_x(c, axis),
        yaxis=axis_of(c, definition.axis, width=UPRIGHT),
    )
    figure_layout |= {"showlegend": legend} | _mark(traces, events, drawn, labels, dark)
    if not legend:
        return figure(traces, figure_layout)
    rows = legend_rows([str(trace["name"]) for trace in traces if trace.get("showlegend", True)])
    figure_layout["margin"]["t"] = WITH_LEGEND + LEGEND_ROW * (rows - 1)
    figure_layout["height"] += LEGEND_ROW * (rows - 1)
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
    """Draw a scalar of one run or group minus that of another against an axis, with a line at zero.

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
    whose = f"{labels[0]} − {labels[1]}"
    if is_group(frame):
        traces = group(frame, name, whose, c.text, "solid", axis)
    else:
        traces = run_traces(frame, name, whose, c.text, "solid", axis, thin=True)
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
    more: dict[str, Any] = {"exponentformat": "SI", "hoverformat": ",d"} if counted else {"hoverformat": ".4g"}
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


def _note(frames: Sequence[pd.DataFrame]) -> str:
    """Return how many recorded values the curve of each run represents, as text."""
    behind = sorted(int(frame.attrs.get("stands_for", len(frame))) for frame in frames)
    low, high = behind[0], behind[-1]
    count = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"{count} {frames[0].attrs.get('of', ('value', 'values'))[high != 1]}{' per run' if len(frames) > 1 else ''}"
