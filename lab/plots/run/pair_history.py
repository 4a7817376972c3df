"""Figures of one pair over the run: its terms at every step at which it was seen, and the version of its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, axis, empty, escaped, figure, hover, layout, palette, step_axis
from lab.store import SCREEN_POINTS, spike_keeping

from .curves import colour_of

GROUPS = {
    "Loss": ("loss", "loss_align", "loss_degree"),
    "Reward margin": ("margin", "target_margin"),
    "Rewards": ("reward_chosen", "reward_rejected"),
    "Log-ratios to the reference": ("log_ratio_chosen", "log_ratio_rejected"),
    "Pilots": ("pilot_chosen", "pilot_rejected"),
    "Log-probs": ("logps_chosen", "logps_rejected"),
    "Logits": ("logit", "logit_chosen", "logit_rejected"),
    "Weights": ("weight_chosen", "weight_rejected"),
}
"""Terms that share a figure, because they have the same kind and unit."""

NO_TERMS = ("step", "pair", "version")
MARKED = 120
"""A line with at most this many points also has markers, which can be clicked."""


def history_groups(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return the terms of each figure of a pair's history by title; a term outside all groups has a figure of its own."""
    recorded = [name for name in frame.columns if name not in NO_TERMS and frame[name].notna().any()]
    groups = {title: [term for term in terms if term in recorded] for title, terms in GROUPS.items()}
    grouped = {term for terms in GROUPS.values() for term in terms}
    alone = {entry(name).title: [name] for name in recorded if name not in grouped}
    return {title: terms for title, terms in (groups | alone).items() if terms}


def pair_history(
    frame: pd.DataFrame,
    terms: Sequence[str],
    *,
    title: str,
    shown: int | None = None,
    events: pd.DataFrame | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw curves of some terms of one pair. A dashed line marks the first use of a new version of its text.

    Args:
        frame: Result of `PairReader.history`: one row per time the pair was seen, with step, version and one column per term.
        terms: Terms to draw.
        title: Title of the figure.
        shown: A step to mark with a line, or None.
        events: Events of the run, drawn as marks at the bottom (see `marks`).
        dark: Use the dark palette.
    """
    drawn = [term for term in terms if term in frame and frame[term].notna().any()]
    if not drawn:
        return empty(title, "The curve appears when this pair is first trained on or evaluated.", dark=dark)
    c = palette(dark)
    traces = [_line(frame, term, number, dark) for number, term in enumerate(drawn)]
    units = {entry(term).unit for term in drawn}
    figure_layout = layout(
        title,
        dark=dark,
        note=times_seen(frame).removesuffix(", evenly chosen"),
        xaxis=step_axis(c),
        yaxis=axis(c, " or ".join(sorted(filter(None, units))) or "no unit"),
        showlegend=len(drawn) > 1,
        shapes=[*_edits(frame, c.faint), *([] if shown is None else [_upright(shown, c.text, "dot")])],
        annotations=_versions(frame, c.faint),
    )
    if len(drawn) > 1:
        figure_layout["margin"]["t"] = WITH_LEGEND
    if events is not None:
        marked, mark_axis = marks(events, dark=dark)
        traces += marked
        figure_layout |= mark_axis
    return figure(traces, figure_layout)


def times_seen(frame: pd.DataFrame) -> str:
    """Return how often a pair was seen, as text, and how many of those times its history holds (see `PairReader.history`)."""
    often = int(frame.attrs.get("stands_for", len(frame)))
    if often > len(frame):
        return f"{len(frame):,} of {often:,} times seen, evenly chosen"
    return "1 time seen" if often == 1 else f"{often:,} times seen"


def history_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the terms of a pair as a table: `term` (title and unit), `now` (last row) and `change` (since the first row)."""
    names = [name for names in history_groups(frame).values() for name in names]
    first, last = frame[names].iloc[0].to_numpy(np.float64), frame[names].iloc[-1].to_numpy(np.float64)
    return pd.DataFrame({"term": [entry(name).label for name in names], "now": last, "change": last - first})


def edits_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the edits of a pair did to it, one row for each new version of its text.

    Args:
        frame: Result of `PairReader.history`, with a column `margin` (`with_margin`) where the run has rewards.

    Returns:
        Columns version, step_before and step_after (the last step that saw the version before, and the first that saw this one),
        and of `margin` and `loss` those the frame has, as margin_before, margin_after, loss_before and loss_after.
    """
    places = np.flatnonzero(frame["version"].diff().fillna(0) != 0)
    before, after = (frame.iloc[rows].reset_index(drop=True) for rows in (places - 1, places))
    columns = {"version": after["version"], "step_before": before["step"], "step_after": after["step"]}
    for term in ("margin", "loss"):
        if term in frame:
            columns |= {f"{term}_before": before[term], f"{term}_after": after[term]}
    return pd.DataFrame(columns)


def _line(frame: pd.DataFrame, term: str, number: int, dark: bool) -> dict[str, Any]:
    part = frame[["step", "version", term]].dropna()
    values = part[term].to_numpy(np.float64)
    keep = spike_keeping(values, SCREEN_POINTS) if len(values) > SCREEN_POINTS else np.arange(len(values))
    definition, colour = entry(term), colour_of(term, number, palette(dark))
    return {
        "type": "scatter",
        "name": _label(term),
        "x": part["step"].to_numpy(np.int32)[keep],
        "y": np.where(np.isfinite(values), values, np.nan)[keep].astype(np.float32),
        "customdata": part["version"].to_numpy(np.int32)[keep],
        "mode": "lines+markers" if len(keep) <= MARKED else "lines",
        "line": {"color": colour, "width": 1.5},
        "marker": {"size": 5},
        "hovertemplate": f"step %{{x:,d}}, version %{{customdata}} of the text: <b>%{{y:.4g}} {definition.unit}</b><br>"
        f"{hover(definition)}<extra>{escaped(_label(term))}</extra>",
    }


def _label(term: str) -> str:
    return next((side for side in ("chosen", "rejected") if term.endswith(side)), entry(term).symbol)


def _new_versions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose version of the text differs from that of the row before."""
    return frame[frame["version"].diff().fillna(0) != 0]


def _edits(frame: pd.DataFrame, colour: str) -> list[dict[str, Any]]:
    return [_upright(int(step), colour, "dash") for step in _new_versions(frame)["step"]]


def _versions(frame: pd.DataFrame, colour: str) -> list[dict[str, Any]]:
    rows = _new_versions(frame)
    common = {
        "yref": "paper",
        "y": 1,
        "yanchor": "top",
        "xanchor": "left",
        "showarrow": False,
        "font": {"size": 10, "color": colour},
    }
    return [{**common, "x": int(step), "text": f"version {int(version)}"} for step, version in zip(rows["step"], rows["version"])]


def _upright(step: int, colour: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1, "line": line}
