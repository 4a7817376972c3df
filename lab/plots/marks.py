"""What happened in a run, as thin marks along the foot of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.store import SCREEN_POINTS

from .style import ink, translucent, wrapped

BY_THE_CLOCK = ("evaluation", "checkpoint")
KINDS = ("warning", "diagnosis", "refused", "request", "change", "edit", "resumed", "branched", *BY_THE_CLOCK)
"""Events that are marked."""

QUIET = 60
"""Marks of the kinds that come by the clock: of more, evenly many are left out; a row without gaps would say nothing."""


def describe(kind: str, detail: Mapping[str, Any]) -> str:
    """An event in words."""
    if kind == "warning":
        return f"Warning: {detail.get('message', '')}"
    if kind == "diagnosis":
        return f"{'Over' if detail.get('over') else 'Found'}: {detail.get('message', '')}"
    if kind == "request":
        return f"Asked to {detail.get('request', 'do something')}"
    if kind == "refused":
        return f"Refused to {detail.get('request', 'do something')}: {detail.get('message', '')}"
    if kind == "change":
        return "Changed: " + ", ".join(f"{name} to {now}" for name, (_, now) in detail.get("settings", {}).items())
    if kind == "branched":
        return f"Branched from {detail.get('parent', 'another run')}"
    if kind == "edit":
        counts = ", ".join(f"{detail[what]} {what}" for what in ("edited", "dropped", "added") if detail.get(what))
        return f"Pairs of version {detail.get('version')}: {counts or 'as before'}"
    if kind == "resumed":
        without = "".join(f", without the change after step {change['after']:,}" for change in detail.get("without", [])[:1])
        return f"Resumed from {detail.get('checkpoint') or 'the start'}{without}"
    if kind == "evaluation":
        named = {"eval/oracle_reward": "oracle reward", "eval/reward": "reward", "eval/rewards/margins": "margin"}
        found = [f"{message} {detail[name]:.3g}" for name, message in named.items() if name in detail]
        return "Looked at held-out prompts" + (f": {', '.join(found)}" if found else "")
    if kind == "checkpoint":
        return f"Checkpoint saved: {detail.get('folder', '')}"
    return kind.capitalize()


def notable(events: pd.DataFrame, *, clocked: Sequence[str] = BY_THE_CLOCK, quiet: int = QUIET) -> pd.DataFrame:
    """The events that are marked, at most 1,000. A column `message` says what happened.

    clocked: which of those by the clock are.   quiet: at most so many of these.
    """
    kinds = events["kind"].to_numpy(object)
    regular, others = np.isin(kinds, clocked), np.isin(kinds, [kind for kind in KINDS if kind not in BY_THE_CLOCK])
    kept = [_evenly(np.flatnonzero(regular), quiet), _evenly(np.flatnonzero(others), SCREEN_POINTS - QUIET)]
    found = events.iloc[np.concatenate(kept)]
    return found.assign(message=[wrapped(describe(kind, detail)) for kind, detail in zip(found["kind"], found["detail"])])


def marks(
    events: pd.DataFrame,
    *,
    dark: bool,
    over: tuple[str, str] = ("x", "y"),
    own: str = "y2",
    whose: tuple[str, str] | None = None,
    row: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A trace with one mark an event, and an axis of its own, so that the marks stay at the foot while one zooms.

    over: the axes of the plot that is marked.   own: the name of the marks' vertical axis.
    whose: label and colour of the run they are of, where a picture has several; their legend hides the marks too.   row: counted
    from the foot, so that those of several runs do not cover each other.
    events: a column `x` says where the events lie on an axis that is not the step's.
    """
    found = events if "message" in events else notable(events)
    if found.empty:
        return [], {}
    c = ink(dark)
    label, colour = whose or ("", c.rejected)
    quiet = c.faint if whose is None else translucent(colour, 0.45)
    colours = [quiet if kind in BY_THE_CLOCK else colour for kind in found["kind"]]
    trace = {
        "type": "scatter",
        "name": "events",
        "x": found["x"].to_numpy(np.float64) if "x" in found else found["step"].to_numpy(np.int32),
        "y": np.full(len(found), 0.03 + 0.04 * row, np.float32),
        "xaxis": over[0],
        "yaxis": own,
        "mode": "markers",
        "marker": {
            "symbol": "line-ns-open",
            "size": 9 if whose is None else 6,
            "line": {"width": 1.5},
            "color": np.array(colours, object),
        },
        "text": found["message"].to_numpy(object),
        "hovertemplate": f"step %{{customdata:,d}}<br>%{{text}}<extra>{wrapped(label, 30)}</extra>",
        "customdata": found["step"].to_numpy(np.int32),
        "showlegend": False,
    }
    if label:
        trace["legendgroup"] = label
    axis = {"overlaying": over[1], "anchor": over[0], "range": [0, 1], "visible": False, "fixedrange": True}
    return [trace], {f"yaxis{own[1:]}": axis}


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, the first and the last among them."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
