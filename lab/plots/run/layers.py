"""Gradient by layer and step: norms of the chosen and the rejected part, their cosine, and the update-to-weight ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.marks import marks
from lab.plots.style import WITH_LEGEND, Palette, axis, empty, figure, hover, layout, palette, step_axis

COLUMNS = 120
"""Maximum columns of the heat maps. More probes are bucketed: norms and ratios by their maximum, cosines by their mean."""

PANELS = ("norm_chosen", "norm_rejected", "cosine", "update_ratio")
PITCH, WIDTH = 0.26, 0.205
"""Distance between the panels, and their width, as shares of the figure."""

USUAL, DECADES = -3, 2
"""log10 of the middle of the colours of the update-to-weight ratio (1e-3, a rule of thumb), and decades to either end."""

HEADINGS = dict(zip(PANELS, ("Chosen part", "Rejected part", "Cosine of the two", "Update over weights")))

TITLE = "Gradient by layer"


def layers(frame: pd.DataFrame, *, title: str = TITLE, events: pd.DataFrame | None = None, dark: bool = False) -> go.Figure:
    """Draw four heat maps of the gradient, layers downwards.

    They show the norm of the chosen part and of the rejected part (one scale), the cosine of the two, and the update-to-weight
    ratio (logarithmic; grey at 1e-3, orange above, blue below; empty where the weights did not change).

    Args:
        frame: Result of `Run.layers`.
        title: Title of the figure.
        events: Events of the run, drawn as marks at the bottom (see `marks`).
        dark: Use the dark palette.
    """
    if frame.empty:
        return empty(title, "The gradient by layer appears with the first probed step; probe_budget = 0 turns it off.", dark=dark)
    c = palette(dark)
    steps, names, tables = _tables(frame)
    norms = np.concatenate([tables["norm_chosen"], tables["norm_rejected"]])
    largest = float(np.max(norms, where=np.isfinite(norms), initial=0.0)) or 1.0
    height = 130 + max(16 * len(names), 90)
    probed = frame.attrs.get("stands_for", frame["step"].nunique())
    figure_layout = layout(title, note=_note(probed, len(steps)), dark=dark, height=height, annotations=[])
    figure_layout["margin"]["t"] = WITH_LEGEND
    traces = []
    for number, panel in enumerate(PANELS):
        traces.append(_heat(number, panel, steps, names, tables[panel], largest, c))
        figure_layout |= _axes(number, c)
        figure_layout["annotations"].append(_heading(number, panel, c))
    for number in range(0 if events is None else len(PANELS)):
        assert events is not None
        suffix = str(number + 1) if number else ""
        marked, mark_axis = marks(events, dark=dark, over=(f"x{suffix}", f"y{suffix}"), own=f"y{len(PANELS) + number + 1}")
        traces += marked
        figure_layout |= mark_axis
    return figure(traces, figure_layout)


def _note(probed: int, columns: int) -> str:
    more = ", the largest of every column, of cosines the mean" if probed > columns else ""
    return f"{probed:,} probed steps{more}"


def _tables(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return middle steps [columns], layer names, and a table [layers, columns] for every panel."""
    layer, names = pd.factorize(frame["layer"])
    probed, order = np.unique(frame["step"].to_numpy(), return_inverse=True)
    columns = min(COLUMNS, len(probed))
    column = order * columns // len(probed)
    cell = layer * columns + column

    def mean(values: np.ndarray) -> np.ndarray:
        known = ~np.isnan(values)
        count = np.bincount(cell[known], minlength=len(names) * columns)
        total = np.bincount(cell[known], weights=values[known], minlength=len(names) * columns)
        return (
            np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            .reshape(len(names), columns)
            .astype(np.float32)
        )

    def largest(values: np.ndarray) -> np.ndarray:
        maxima = np.full(len(names) * columns, -np.inf)
        np.maximum.at(maxima, cell, np.where(np.isnan(values), -np.inf, values))
        return np.where(np.isneginf(maxima), np.nan, maxima).reshape(len(names), columns).astype(np.float32)

    def table(panel: str) -> np.ndarray:
        if panel == "cosine":
            return mean(frame[panel].to_numpy(np.float64))
        return largest(frame[f"{panel}_high" if f"{panel}_high" in frame else panel].to_numpy(np.float64))

    middles = np.bincount(column, weights=frame["step"].to_numpy(np.float64)) / np.bincount(column)
    shown = np.array([short_name(name) for name in names], object)
    return middles.astype(np.float32), shown, {panel: table(panel) for panel in PANELS}


def _heat(
    number: int, panel: str, steps: np.ndarray, names: np.ndarray, table: np.ndarray, largest: float, c: Palette
) -> dict[str, Any]:
    suffix = str(number + 1) if number else ""
    colours: dict[str, Any] = {
        "cosine": {"zmin": -1, "zmax": 1, "colorscale": [[0, c.rejected], [0.5, c.empty], [1, c.chosen]]},
        "update_ratio": {
            "zmin": USUAL - DECADES,
            "zmax": USUAL + DECADES,
            "colorscale": [[0, c.chosen], [0.5, c.grid], [1, c.rejected]],  # grey in the middle, so that it differs from a gap
        },
    }.get(panel, {"zmin": 0, "zmax": largest, "colorscale": [[0, c.empty], [1, getattr(c, panel.removeprefix("norm_"), c.text)]]})
    bar: dict[str, Any] = {"nticks": 4}
    shown, value = {"z": table}, "%{z:.3g}"
    if panel == "update_ratio":
        ticks = np.arange(USUAL - DECADES, USUAL + DECADES + 1)
        bar = {"tickvals": ticks, "ticktext": [f"1e{tick}" for tick in ticks]}
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = np.log10(table.astype(np.float64)).round(4)  # rounded, so that a float32 power of ten is exact
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


def _axes(number: int, c: Palette) -> dict[str, Any]:
    suffix = str(number + 1) if number else ""
    across: dict[str, Any] = {"domain": [number * PITCH, number * PITCH + WIDTH], "anchor": f"y{suffix}"}
    down: dict[str, Any] = {"anchor": f"x{suffix}", "autorange": "reversed", "type": "category", "showticklabels": not number}
    if number:  # zooming one panel zooms all
        across["matches"], down["matches"] = "x", "y"
    return {f"xaxis{suffix}": step_axis(c) | across, f"yaxis{suffix}": axis(c, **down)}


def _heading(number: int, panel: str, c: Palette) -> dict[str, Any]:
    definition = entry(panel)
    return {
        "text": f"{HEADINGS[panel]}<br>{definition.symbol}",
        "x": number * PITCH,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"size": 12, "color": c.text},
    }


def short_name(name: str) -> str:
    """Shorten the name of a layer, and replace brackets that Plotly would read as a tag."""
    harmless = name.replace("<", "‹").replace(">", "›")
    return harmless if len(harmless) <= 22 else f"{harmless[:10]}…{harmless[-11:]}"
