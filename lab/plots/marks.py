"""Events of a run as thin marks along the bottom of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.store import SCREEN_POINTS

from .style import palette, translucent, wrapped

REGULAR = ("evaluation", "checkpoint")
KINDS = ("warning", "diagnosis", "refused", "request", "change", "edit", "resumed", "branched", *REGULAR)
"""Kinds of events that are marked."""

QUIET = 60
"""At most this many marks of the regular kinds, evenly spaced; more would merge into a line."""


def describe(kind: str, detail: Mapping[str, Any]) -> str:
    """Describe an event in one line."""
    if kind == "warning":
        return f"Warning: {detail.get('message', '')}"
    if kind == "diagnosis":
        return f"{'Resolved' if detail.get('over') else 'Finding'}: {detail.get('message', '')}"
    if kind == "request":
        return f"Requested: {detail.get('request', 'unknown')}"
    if kind == "refused":
        return f"Refused: {detail.get('request', 'unknown')} ({detail.get('message', '')})"
    if kind == "change":
        return "Changed: " + ", ".join(f"{name} to {now}" for name, (_, now) in detail.get("settings", {}).items())
    if kind == "branched":
        return f"Branched from {detail.get('parent', 'another run')}"
    if kind == "edit":
        counts = ", ".join(f"{detail[what]} {what}" for what in ("edited", "dropped", "added") if detail.get(what))
        return f"Pairs of version {detail.get('version')}: {counts or 'unchanged'}"
    if kind == "resumed":
        without = "".join(f", without the change after step {change['after']:,}" for change in detail.get("without", [])[:1])
        return f"Resumed from {detail.get('checkpoint') or 'the start'}{without}"
    if kind == "evaluation":
        named = {"eval/oracle_reward": "oracle reward", "eval/reward": "reward", "eval/rewards/margins": "margin"}
        results = [f"{label} {detail[name]:.3g}" for name, label in named.items() if name in detail]
        return "Evaluation" + (f": {', '.join(results)}" if results else "")
    if kind == "checkpoint":
        return f"Checkpoint saved: {detail.get('folder', '')}"
    return kind.capitalize()


def notable(events: pd.DataFrame, *, clocked: Sequence[str] = REGULAR, quiet: int = QUIET) -> pd.DataFrame:
    """Return the events that are marked, at most 1,000, with a column `message` that describes them.

    Args:
        events: Events of a run, as from `Run.events`.
        clocked: Regular kinds that are marked.
        quiet: At most this many events of the regular kinds.
    """
    kinds = events["kind"].to_numpy(object)
    regular, others = np.isin(kinds, clocked), np.isin(kinds, [kind for kind in KINDS if kind not in REGULAR])
    kept = [_evenly(np.flatnonzero(regular), quiet), _evenly(np.flatnonzero(others), SCREEN_POINTS - QUIET)]
    chosen = events.iloc[np.concatenate(kept)]
    return chosen.assign(message=[wrapped(describe(kind, detail)) for kind, detail in zip(chosen["kind"], chosen["detail"])])


def marks(
    events: pd.DataFrame,
    *,
    dark: bool,
    over: tuple[str, str] = ("x", "y"),
    own: str = "y2",
    whose: tuple[str, str] | None = None,
    row: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a trace with one mark per event, and its own vertical axis, so that zooming keeps the marks at the bottom.

    Args:
        events: Events of a run. A column `x` holds their positions if the axis is not that of the steps.
        dark: Use the dark palette.
        over: Axes of the plot that is marked.
        own: Name of the vertical axis of the marks.
        whose: Label and colour of the run, in a figure of several runs; its legend entry also hides the marks.
        row: Row from the bottom, so that the marks of several runs do not overlap.
    """
    marked = events if "message" in events else notable(events)
    if marked.empty:
        return [], {}
    c = palette(dark)
    label, colour = whose or ("", c.rejected)
    quiet = c.faint if whose is None else translucent(colour, 0.45)
    colours = [quiet if kind in REGULAR else colour for kind in marked["kind"]]
    trace = {
        "type": "scatter",
        "name": "events",
        "x": marked["x"].to_numpy(np.float64) if "x" in marked else marked["step"].to_numpy(np.int32),
        "y": np.full(len(marked), 0.03 + 0.04 * row, np.float32),
        "xaxis": over[0],
        "yaxis": own,
        "mode": "markers",
        "marker": {
            "symbol": "line-ns-open",
            "size": 9 if whose is None else 6,
            "line": {"width": 1.5},
            "color": np.array(colours, object),
        },
        "text": marked["message"].to_numpy(object),
        "hovertemplate": f"step %{{customdata:,d}}<br>%{{text}}<extra>{wrapped(label, 30)}</extra>",
        "customdata": marked["step"].to_numpy(np.int32),
        "showlegend": False,
    }
    if label:
        trace["legendgroup"] = label
    axis = {"overlaying": over[1], "anchor": over[0], "range": [0, 1], "visible": False, "fixedrange": True}
    return [trace], {f"yaxis{own[1:]}": axis}


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of the rows, evenly spaced, the first and the last among them."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
