"""Traces of one curve in a figure of several: a run with its moving mean, or a group of runs with its band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.glossary import entry
from lab.plots.style import hover, translucent, wrapped
from lab.store import SCREEN_POINTS

FEW = 60
"""Curves of runs with at most this many points also have markers."""

FEW_MEANS = 20
"""Curves of groups with at most this many points also have markers."""

LEGEND_WIDTH, ENTRY_WIDTH, CHARACTER = 380, 46, 6.2
"""Pixels of a narrow figure's legend, of an entry's line with its margins, and of a character: they tell where a legend wraps."""


def run_traces(frame: pd.DataFrame, name: str, label: str, colour: str, dash: str, axis: str, thin: bool) -> list[dict[str, Any]]:
    """Return the traces of a run: interval, recorded values (thin) and moving mean.

    Args:
        frame: Result of `lab.comparison.Comparison.curve`.
        name: Name of the scalar or term.
        label: Label of the run.
        colour: Colour of its line.
        dash: Dash of its line.
        axis: Title of the horizontal axis.
        thin: Draw the recorded values as a thin line where the moving mean differs from them.
    """
    values = frame["value"].dropna()
    means = frame["mean"].dropna() if "mean" in frame else values
    traces = _band(frame, label, colour, 0.13) if "low" in frame and frame["low"].notna().sum() > 1 else []
    kept = ", an extreme of the values around it" if frame.attrs.get("stands_for", 0) > SCREEN_POINTS else ""
    if thin and not values.equals(means):
        traces.append(
            {
                **_line(frame, name, "value", label, label, axis, kept),
                "mode": "lines",
                "line": {"color": translucent(colour, 0.25), "width": 1},
                "showlegend": False,
            }
        )
    traces.append(
        {
            **_line(frame, name, "mean" if "mean" in frame else "value", label, label, axis, _smoothed(frame)),
            "mode": "lines+markers" if len(means) <= FEW else "lines",
            "marker": {"size": 5, "color": colour},
            "line": {"color": colour, "width": 2, "dash": dash},
        }
    )
    return traces


def is_group(frame: pd.DataFrame) -> bool:
    """Return whether a curve is of several runs."""
    return "runs" in frame


def group(frame: pd.DataFrame, name: str, label: str, colour: str, dash: str, axis: str) -> list[dict[str, Any]]:
    """Return the traces of a group: the mean over its runs with its 95 % interval, fainter and thinner where some runs are missing.

    Arguments as in `run_traces`; the frame has the column `runs`, and `attrs["runs"]`, the number of all runs of the group.
    """
    every = int(frame.attrs["runs"])
    whole = frame["runs"] >= every
    parts: list[tuple[pd.DataFrame, float, dict[str, Any]]] = [(frame[whole], 0.16, {"color": colour, "width": 2, "dash": dash})]
    parts += [(part, 0.07, {"color": translucent(colour, 0.6), "width": 1, "dash": "dot"}) for part in _pieces(frame, ~whole)]
    traces, known = [], False
    for part, opacity, _ in parts:
        banded = part[part["low"].notna()]
        if len(banded) > 1:
            traces += _band(banded, label, colour, opacity)
            known = True
    banded_label = f"{label}, 95 % band (t)" if known else label
    for part, _, line in parts:
        if part.empty:
            continue
        trace = _line(part, name, "mean", banded_label, label, axis, _smoothed(frame), of=every)
        few = len(part) <= FEW_MEANS and line["width"] > 1
        traces.append(trace | {"mode": "lines+markers" if few else "lines", "marker": {"size": 5, "color": colour}, "line": line})
    for repeated in [trace for trace in traces if trace.get("name") == banded_label][1:]:
        repeated["showlegend"] = False
    return traces


def thin(
    frame: pd.DataFrame, name: str, run: str, label: str, colour: str, axis: str, opacity: float = 0.45
) -> list[dict[str, Any]]:
    """Return the moving mean of one run of a group as a thin line. run: its label; others as in `run_traces`."""
    column = "mean" if "mean" in frame else "value"
    known = frame[column].notna().sum()
    if not known:
        return []
    faint = translucent(colour, opacity)
    look = {"mode": "lines" if known > FEW_MEANS else "lines+markers", "marker": {"size": 4, "color": faint}}
    line = {"line": {"color": faint, "width": 1}, "showlegend": False}
    return [_line(frame, name, column, run, label, axis, _smoothed(frame)) | look | line]


def legend_rows(names: Sequence[str]) -> int:
    """Return into how many rows a legend wraps in a narrow figure; entries are as wide as the widest of them."""
    widest = max((ENTRY_WIDTH + CHARACTER * min(len(name), 60) for name in names), default=ENTRY_WIDTH)
    return -(-len(names) // max(int(LEGEND_WIDTH // widest), 1)) if names else 1


def _pieces(frame: pd.DataFrame, some: pd.Series) -> list[pd.DataFrame]:
    """Return the contiguous pieces of a curve where `some` holds, each joined to the points beside it."""
    marks = np.flatnonzero(some.to_numpy())
    pieces = np.split(marks, np.flatnonzero(np.diff(marks) > 1) + 1) if len(marks) else []
    return [frame.iloc[max(piece[0] - 1, 0) : piece[-1] + 2] for piece in pieces]


def _smoothed(frame: pd.DataFrame) -> str:
    window = frame.attrs.get("window", 1)
    return f", mean of the last {window:,} values" if window > 1 else ""


def _band(frame: pd.DataFrame, label: str, colour: str, opacity: float) -> list[dict[str, Any]]:
    """Return the two edges of an interval with the area between them."""
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
    area = {"fill": "tonexty", "fillcolor": translucent(colour, opacity)}
    return [{**edge, "y": _numbers(band["low"])}, {**edge, "y": _numbers(band["high"]), **area}]


def _line(
    frame: pd.DataFrame, name: str, column: str, label: str, legend: str, axis: str, more: str, *, of: int = 0
) -> dict[str, Any]:
    """Return x, y, hover text and name of a column's trace. of: number of runs of the group whose mean this is."""
    definition = entry(name)
    part = frame[frame[column].notna()]
    steps = part["step"].to_numpy(np.float64).round().astype(np.int64)
    trace: dict[str, Any] = {"type": "scatter", "name": label, "legendgroup": legend}
    trace |= {"x": _numbers(part.index), "y": _numbers(part[column])}
    at = "step %{x:,d}" if axis == "step" else f"{axis} %{{x}}, step %{{customdata:,d}}"
    interval = ""
    if of:
        ends = [[f"{low:.4g}", f"{high:.4g}"] for low, high in zip(part["low"], part["high"])]
        texts = [f" [{low}, {high}]" if low != "nan" else ", no interval" for low, high in ends]
        counts = part["runs"].astype(int).astype(str)
        trace["customdata"] = np.array([*zip(steps, counts, texts)], object).reshape(len(part), 3)
        at = "step %{x:,d}" if axis == "step" else f"{axis} %{{x}}, step %{{customdata[0]:,d}}"
        interval = f"%{{customdata[2]}}<br>mean over %{{customdata[1]}} of {of} seeds"
    elif axis != "step":
        trace["customdata"] = steps
    unit = definition.unit
    trace["hovertemplate"] = (
        f"{at}: <b>%{{y:.4g}} {unit}</b>{interval}{more}<br>{hover(definition)}<extra>{wrapped(label, 30)}</extra>"
    )
    return trace


def _numbers(values: Any) -> np.ndarray:
    """Convert values to float32 (positions on the axis to float64), with gaps for infinities."""
    numbers = np.asarray(values, np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    return numbers if isinstance(values, pd.Index) else numbers.astype(np.float32)
