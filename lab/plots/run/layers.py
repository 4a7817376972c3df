"""Gradient flow by layer: the chosen part, the rejected part, whether they pull together, and how far the layer moves, by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, Ink, axis, empty, figure, hover, ink, layout, step_axis

COLUMNS = 120
"""Steps of the heat maps. Of more probes, every bucket's largest is drawn, so that spikes stay; of cosines the mean."""

PANELS = ("norm_chosen", "norm_rejected", "cosine", "update_ratio")
PITCH, WIDTH = 0.26, 0.205
"""Where the panels begin, and how wide they are, in shares of the figure."""

USUAL, DECADES = -3, 2
"""The colours of the update-to-weight ratio have their middle at 1e-3, a rule of thumb, and end so many powers of ten from it."""

HEADINGS = dict(zip(PANELS, ("Chosen part", "Rejected part", "Cosine of the two", "Update over weights")))

TITLE = "Gradient by layer"


def layers(frame: pd.DataFrame, *, title: str = TITLE, events: pd.DataFrame | None = None, dark: bool = False) -> go.Figure:
    """Four heat maps, layers downwards: norm of the chosen part, norm of the rejected part (one scale), cosine of the two, and the
    update-to-weight ratio (logarithmic; grey at 1e-3, orange above, blue below; empty where nothing moved).

    frame: columns step, layer, norm_chosen, norm_rejected, cosine, update_ratio, as `Run.layers` gives them; layers in the model's
    order.
    """
    if frame.empty:
        return empty(
            title, "The gradient is split by layer at the first probed step; with probe_budget = 0 it never is.", dark=dark
        )
    c = ink(dark)
    steps, names, tables = _tables(frame)
    norms = np.concatenate([tables["norm_chosen"], tables["norm_rejected"]])
    largest = float(np.max(norms, where=np.isfinite(norms), initial=0.0)) or 1.0
    height = 130 + max(16 * len(names), 90)
    probed = frame.attrs.get("stands_for", frame["step"].nunique())
    look = layout(title, note=_note(probed, len(steps)), dark=dark, height=height, annotations=[])
    look["margin"]["t"] = WITH_LEGEND
    traces = []
    for number, panel in enumerate(PANELS):
        traces.append(_heat(number, panel, steps, names, tables[panel], largest, c))
        look |= _axes(number, c)
        look["annotations"].append(_heading(number, panel, c))
    for number in range(len(PANELS) if events is not None else 0):
        suffix = str(number + 1) if number else ""
        marked, mark_axis = marks(events, dark=dark, over=(f"x{suffix}", f"y{suffix}"), own=f"y{len(PANELS) + number + 1}")
        traces += marked
        look |= mark_axis
    return figure(traces, look)


def _note(probed: int, columns: int) -> str:
    more = ", the largest of every column, of cosines the mean" if probed > columns else ""
    return f"{probed:,} probed steps{more}"


def _tables(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Middle steps [columns], layer names, and for every panel what the probes of each column amount to [layers, columns]."""
    layer, names = pd.factorize(frame["layer"])
    probed, order = np.unique(frame["step"].to_numpy(), return_inverse=True)
    columns = min(COLUMNS, len(probed))
    column = order * columns // len(probed)
    cell = layer * columns + column

    def mean(values: np.ndarray) -> np.ndarray:
        there = ~np.isnan(values)
        count = np.bincount(cell[there], minlength=len(names) * columns)
        total = np.bincount(cell[there], weights=values[there], minlength=len(names) * columns)
        return (
            np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            .reshape(len(names), columns)
            .astype(np.float32)
        )

    def largest(values: np.ndarray) -> np.ndarray:
        found = np.full(len(names) * columns, -np.inf)
        np.maximum.at(found, cell, np.where(np.isnan(values), -np.inf, values))
        return np.where(np.isneginf(found), np.nan, found).reshape(len(names), columns).astype(np.float32)

    def table(panel: str) -> np.ndarray:
        if panel == "cosine":
            return mean(frame[panel].to_numpy(np.float64))
        return largest(frame[f"{panel}_high" if f"{panel}_high" in frame else panel].to_numpy(np.float64))

    middles = np.bincount(column, weights=frame["step"].to_numpy(np.float64)) / np.bincount(column)
    shown = np.array([_short(name) for name in names], object)
    return middles.astype(np.float32), shown, {panel: table(panel) for panel in PANELS}


def _heat(
    number: int, panel: str, steps: np.ndarray, names: np.ndarray, table: np.ndarray, largest: float, c: Ink
) -> dict[str, Any]:
    suffix = str(number + 1) if number else ""
    colours: dict[str, Any] = {
        "cosine": {"zmin": -1, "zmax": 1, "colorscale": [[0, c.rejected], [0.5, c.empty], [1, c.chosen]]},
        "update_ratio": {
            "zmin": USUAL - DECADES,
            "zmax": USUAL + DECADES,
            "colorscale": [[0, c.chosen], [0.5, c.grid], [1, c.rejected]],  # its middle is no gap
        },
    }.get(panel, {"zmin": 0, "zmax": largest, "colorscale": [[0, c.empty], [1, getattr(c, panel.removeprefix("norm_"), c.text)]]})
    bar: dict[str, Any] = {"nticks": 4}
    shown, value = {"z": table}, "%{z:.3g}"
    if panel == "update_ratio":
        ticks = np.arange(USUAL - DECADES, USUAL + DECADES + 1)
        bar = {"tickvals": ticks, "ticktext": [f"1e{tick}" for tick in ticks]}
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log10(table.astype(np.float64)).round(4)  # a power of ten in float32 is one on the scale
        shown, value = {"z": np.where(np.isfinite(logarithm), logarithm, np.nan), "customdata": table}, "%{customdata:.2e}"
    return {
        "type": "heatmap",
        "x": steps,
        "y": names,
        **shown,
        **colours,
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "colorbar": bar
        | {
            "x": number * PITCH + WIDTH + 0.002,
            "thickness": 8,
            "outlinewidth": 0,
            "tickfont": {"size": 10},
            "exponentformat": "e",
        },
        "hovertemplate": f"about step %{{x:,.0f}}, %{{y}}: <b>{value}</b><br>{hover(entry(panel))}<extra></extra>",
    }


def _axes(number: int, c: Ink) -> dict[str, Any]:
    suffix = str(number + 1) if number else ""
    across: dict[str, Any] = {"domain": [number * PITCH, number * PITCH + WIDTH], "anchor": f"y{suffix}"}
    down: dict[str, Any] = {"anchor": f"x{suffix}", "autorange": "reversed", "type": "category", "showticklabels": not number}
    if number:  # zooming one zooms all
        across["matches"], down["matches"] = "x", "y"
    return {f"xaxis{suffix}": step_axis(c) | across, f"yaxis{suffix}": axis(c, **down)}


def _heading(number: int, panel: str, c: Ink) -> dict[str, Any]:
    about = entry(panel)
    return {
        "text": f"{HEADINGS[panel]}<br>{about.symbol}",
        "x": number * PITCH,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"size": 12, "color": c.text},
    }


def _short(name: str) -> str:
    """A layer's name that fits beside the picture, without the brackets that Plotly would read as a tag."""
    harmless = name.replace("<", "‹").replace(">", "›")
    return harmless if len(harmless) <= 22 else f"{harmless[:10]}…{harmless[-11:]}"
