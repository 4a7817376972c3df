"""What happened in a run, as thin marks along the foot of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.monitor import SCREEN_POINTS

from .style import ink, wrapped

KINDS = ("warning", "request", "edit", "resumed", "evaluation", "checkpoint")
"""Events that are marked, the more telling first: where there are too many, the last kinds give way."""


def describe(kind: str, detail: Mapping[str, Any]) -> str:
    """An event in words."""
    if kind == "warning":
        return f"Warning: {detail.get('words', '')}"
    if kind == "request":
        return f"Asked to {detail.get('request', 'do something')}"
    if kind == "resumed":
        return f"Resumed from {detail.get('checkpoint') or 'the start'}"
    if kind == "evaluation":
        reward = detail.get("eval/oracle_reward")
        return "Answers sampled" + (f": oracle reward {reward:.3g}" if reward is not None else "")
    if kind == "checkpoint":
        return f"Checkpoint saved: {detail.get('folder', '')}"
    return kind.capitalize()


def add_marks(figure: go.Figure, events: pd.DataFrame, *, dark: bool) -> None:
    """Add one mark an event, on an axis of its own so that they stay at the foot while the picture is zoomed."""
    rank = {kind: number for number, kind in enumerate(KINDS)}
    found = events[events["kind"].isin(KINDS)]
    if found.empty:
        return
    found = found.iloc[np.argsort(found["kind"].map(rank).to_numpy(), kind="stable")[:SCREEN_POINTS]]
    c = ink(dark)
    loud = found["kind"].isin(("warning", "request", "edit", "resumed")).to_numpy()
    figure.add_scatter(
        x=found["step"].to_numpy(np.int32),
        y=np.zeros(len(found), np.float32),
        yaxis="y2",
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "line": {"width": 1.5}, "color": np.where(loud, c.rejected, c.faint)},
        text=np.array([wrapped(describe(kind, detail)) for kind, detail in zip(found["kind"], found["detail"])], object),
        hovertemplate="step %{x:,d}<br>%{text}<extra></extra>",
        showlegend=False,
        name="events",
        cliponaxis=False,
    )
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})
