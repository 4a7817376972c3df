"""Figures of a small batch and of SGDPO's random pilots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.style import UPRIGHT, WITH_LEGEND, Palette, axis, empty, figure, layout, palette, translucent

BINS = 40


def batch_figure(tables: Mapping[str, pd.DataFrame], quantity: str, *, dark: bool = False) -> go.Figure:
    """Draw a quantity of every pair of a batch as bars, one group per pair and one colour per objective.

    Args:
        tables: Results of `lab.teaching.batch_table` by label; those without the quantity are left out.
        quantity: A column of the tables.
        dark: Use the dark palette.
    """
    definition = entry(quantity)
    shown = {label: table for label, table in tables.items() if quantity in table}
    if not shown:
        return empty(definition.title, "No objective on the page has this quantity.", dark=dark)
    c = palette(dark)
    traces = [
        {
            "type": "bar",
            "name": label,
            "x": [f"pair {number}" for number in range(1, len(table) + 1)],
            "y": table[quantity].to_numpy(float),
            "marker": {"color": c.neutral[number % len(c.neutral)]},
            "hovertemplate": f"%{{x}}: %{{y:.4g}} {definition.unit}<extra>%{{fullData.name}}</extra>",
        }
        for number, (label, table) in enumerate(shown.items())
    ]
    parts = layout(
        definition.title,
        dark=dark,
        height=300,
        xaxis=axis(c),
        yaxis=axis(c, definition.axis, width=UPRIGHT, zeroline=True),
        barmode="group",
        showlegend=len(traces) > 1,
        uirevision=quantity,
    )
    parts["margin"]["t"] = max(parts["margin"]["t"], WITH_LEGEND)
    return figure(traces, parts)


def pilots_figure(draws: pd.DataFrame, current: Mapping[str, float], *, weights: bool = False, dark: bool = False) -> go.Figure:
    """Draw the distribution of both pilots, or of both weights, over many random draws, with the current draw as lines.

    Args:
        draws: Columns pilot_chosen, pilot_rejected, weight_chosen and weight_rejected, one row per draw.
        current: These values of the current draw.
        weights: Draw the weights instead of the pilots.
        dark: Use the dark palette.
    """
    c = palette(dark)
    names = ("weight_chosen", "weight_rejected") if weights else ("pilot_chosen", "pilot_rejected")
    kinds = dict(zip(names, (c.chosen, c.rejected)))
    edges = _edges(np.concatenate([draws[name].to_numpy(float) for name in names]))
    traces: list[dict[str, Any]] = [_bars(draws[name].to_numpy(float), edges, name, colour) for name, colour in kinds.items()]
    lines = [_line(float(current[name]), colour, c, number) for number, (name, colour) in enumerate(kinds.items())]
    parts = layout(
        f"{'Weights of both sides' if weights else 'Pilots of both sides'} over {len(draws):,} draws",
        dark=dark,
        height=300,
        xaxis=axis(c, entry(names[0]).unit or "weight", zeroline=True),
        yaxis=axis(c, "draws"),
        barmode="overlay",
        bargap=0,
        showlegend=True,
        uirevision=str(weights),
        shapes=[shape for shape, _ in lines],
        annotations=[note for _, note in lines],
    )
    parts["margin"]["t"] = max(parts["margin"]["t"], WITH_LEGEND)
    return figure(traces, parts)


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of the bins that both histograms share; a single value gets a bin around it."""
    low, high = float(values.min()), float(values.max())
    return np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, high + 0.5])


def _bars(values: np.ndarray, edges: np.ndarray, name: str, colour: str) -> dict[str, Any]:
    counts, _ = np.histogram(values, edges)
    return {
        "type": "bar",
        "name": entry(name).symbol,
        "x": (edges[1:] + edges[:-1]) / 2,
        "y": counts,
        "width": np.diff(edges),
        "marker": {"color": translucent(colour, 0.6)},
        "hovertemplate": "%{x:.3g}: %{y} draws<extra>%{fullData.name}</extra>",
    }


def _line(value: float, colour: str, c: Palette, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a vertical line at a value and its label; labels of several lines stand below each other."""
    shape = {
        "type": "line",
        "x0": value,
        "x1": value,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": colour, "width": 3, "dash": "dot"},
    }
    note = {
        "x": value,
        "y": 1 - 0.1 * number,
        "yref": "paper",
        "text": f"this draw: {value:.3g}",
        "showarrow": False,
        "xanchor": "left",
        "xshift": 4,
        "font": {"color": c.text, "size": 11},
    }
    return shape, note
