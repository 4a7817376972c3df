"""Log-probs of chosen, rejected and greedy answers of a fixed panel of held-out pairs, by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import (
    WITH_LEGEND,
    Palette,
    axis,
    empty,
    escaped,
    figure,
    hover,
    layout,
    palette,
    step_axis,
    translucent,
    wrapped,
)

TITLE = "Where the probability goes"

SIDES = ("chosen", "rejected", "greedy")
HALF = 0.46
"""Width of each plot as a share of the figure."""

POINTS, FAINT_POINTS, FAINT_PAIRS = 200, 50, 10
"""Maximum points of a median, maximum points of a single pair, and maximum number of single pairs."""

WAITING = (
    "Held-out pairs are scored before the first step, at every evaluation, and in between if the probe budget allows "
    "(panel_pairs, panel_every)."
)


def panel(frame: pd.DataFrame, *, events: pd.DataFrame | None = None, title: str = TITLE, dark: bool = False) -> go.Figure:
    """Draw two plots: log-prob per token of the three answers, and change of each whole answer's log-prob since the first score.

    Both show the median over the pairs, the middle half of them as a band, and single pairs as faint lines.

    Args:
        frame: Result of `PanelReader.read`.
        events: Events of the run, drawn as marks at the bottom; one of the kind "panel" may explain missing scores.
        title: Title of the figure.
        dark: Use the dark palette.
    """
    if frame.empty:
        return empty(title, _reason(events) or WAITING, dark=dark)
    c = palette(dark)
    tables = {(side, place): table for side in SIDES for place, table in enumerate(_tables(frame, side))}
    traces: list[dict[str, Any]] = []
    for (side, place), table in tables.items():
        traces += [*_pairs(table, frame, side, place, c), *_band(table, side, place, c)]
    traces += [_median(tables[side, place], side, place, c) for place in (0, 1) for side in SIDES]  # on top of all
    pairs, scores = frame["pair"].nunique(), frame["step"].nunique()
    note = f"{pairs} held-out pair{'s' * (pairs != 1)}, scored {scores:,} time{'s' * (scores != 1)}"
    if scores > 1:
        note += f"; chosen below its start: {int((tables['chosen', 1].ffill().iloc[-1] < 0).sum())} of {pairs}"
    figure_layout = layout(title, note=note, dark=dark, height=320, annotations=[_heading(place, c) for place in (0, 1)])
    figure_layout["margin"]["t"] = WITH_LEGEND + 18
    figure_layout["legend"] |= {"y": 1.09}
    figure_layout |= {"xaxis": step_axis(c) | {"domain": [0, HALF]}, "yaxis": axis(c, "nats per token")}
    figure_layout |= {
        "xaxis2": step_axis(c) | {"domain": [1 - HALF, 1], "anchor": "y2", "matches": "x"},
        "yaxis2": axis(c, "nats per answer", anchor="x2", zeroline=True, zerolinecolor=c.faint),
    }
    for place in () if events is None else (0, 1):
        assert events is not None
        over = _axes(place)
        marked, mark_axis = marks(events, dark=dark, over=(over["xaxis"], over["yaxis"]), own=f"y{3 + place}")
        traces += marked
        figure_layout |= mark_axis
    return figure(traces, figure_layout)


def _reason(events: pd.DataFrame | None) -> str:
    if events is None:
        return ""
    reasons = [
        detail["message"] for kind, detail in zip(events["kind"], events["detail"]) if kind == "panel" and "message" in detail
    ]
    return str(reasons[-1]) if reasons else ""


def _tables(frame: pd.DataFrame, side: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables of one side (index step, one column per pair): log-prob per token, and change of the answer's log-prob."""
    steps, row = np.unique(frame["step"].to_numpy(np.int64), return_inverse=True)
    column, pairs = pd.factorize(frame["pair"])
    whole, per_token = np.full((2, len(steps), len(pairs)), np.nan)
    values = frame[side].to_numpy(np.float64)
    whole[row, column] = np.where(np.isfinite(values), values, np.nan)
    per_token[row, column] = whole[row, column] / frame[f"{side}_tokens"].to_numpy(np.float64)
    moved = whole - pd.DataFrame(whole).bfill().to_numpy()[0]
    level, change = (_evenly(pd.DataFrame(table, index=steps, columns=pairs), POINTS) for table in (per_token, moved))
    return level, change


def _median(table: pd.DataFrame, side: str, place: int, c: Palette) -> dict[str, Any]:
    definition = entry(f"panel/{side}")
    drawn = table.median(axis=1)
    what = "<b>%{y:.3g} nats per token</b>" if place == 0 else "<b>%{y:+.3g} nats</b> since the first score"
    return {
        **_axes(place),
        "type": "scatter",
        "name": side,
        "legendgroup": side,
        "showlegend": place == 0,
        "mode": "lines+markers" if len(drawn) <= FAINT_POINTS else "lines",
        "x": drawn.index.to_numpy(np.int32),
        "y": drawn.to_numpy(np.float32),
        "marker": {"size": 5},
        "line": {"color": _colour(side, c), "width": 2.5, "dash": "dash" if side == "greedy" else "solid"},
        "hovertemplate": f"step %{{x:,d}}: {what}, median over the panel<br>{hover(definition)}<extra>{side}</extra>",
    }


def _band(table: pd.DataFrame, side: str, place: int, c: Palette) -> list[dict[str, Any]]:
    """Return the middle half of the pairs as a band."""
    if table.shape[1] < 4:
        return []
    low, high = table.quantile([0.25, 0.75], axis=1).to_numpy(np.float32)
    base = {
        **_axes(place),
        "type": "scatter",
        "mode": "lines",
        "legendgroup": side,
        "x": table.index.to_numpy(np.int32),
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [{**base, "y": low}, {**base, "y": high, "fill": "tonexty", "fillcolor": translucent(_colour(side, c), 0.13)}]


def _pairs(table: pd.DataFrame, frame: pd.DataFrame, side: str, place: int, c: Palette) -> list[dict[str, Any]]:
    """Return a faint line for each of the first pairs; its hover names the pair and quotes the latest greedy answer."""
    latest = frame.drop_duplicates("pair", keep="last").set_index("pair")["answer"]
    drawn = _evenly(table, FAINT_POINTS)
    unit = "nats per token" if place == 0 else "nats since the first score"
    traces = []
    for pair in list(drawn.columns)[:FAINT_PAIRS]:
        quote = f"<br>latest answer: {wrapped(_shortened(str(latest[pair])))}" if side == "greedy" and place == 0 else ""
        traces.append(
            {
                **_axes(place),
                "type": "scatter",
                "mode": "lines",
                "legendgroup": side,
                "x": drawn.index.to_numpy(np.int32),
                "y": drawn[pair].to_numpy(np.float32),
                "line": {"color": translucent(_colour(side, c), 0.28), "width": 1},
                "hovertemplate": f"pair {escaped(str(pair))}, step %{{x:,d}}: <b>%{{y:.3g}} {unit}</b>{quote}<extra>{side}</extra>",
                "showlegend": False,
            }
        )
    return traces


def _evenly(table: pd.DataFrame, most: int) -> pd.DataFrame:
    return table if len(table) <= most else table.iloc[np.linspace(0, len(table) - 1, most).astype(int)]


def _colour(side: str, c: Palette) -> str:
    return {"chosen": c.chosen, "rejected": c.rejected}.get(side, c.neutral[1])


def _axes(place: int) -> dict[str, str]:
    return {"xaxis": "x2", "yaxis": "y2"} if place else {"xaxis": "x", "yaxis": "y"}


def _shortened(text: str) -> str:
    message = " ".join(text.split())
    return message if len(message) <= 160 else f"{message[:159]}…"


def _heading(place: int, c: Palette) -> dict[str, Any]:
    return {
        "text": ("Log-prob per token", "Change of the answer's log-prob")[place],
        "x": place * (1 - HALF),
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"size": 12, "color": c.text},
    }
