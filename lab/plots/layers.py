"""Gradient flow by layer: the chosen part, the rejected part, and whether they pull together, against steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .glossary import entry
from .style import Ink, axis, bare, empty, ink, step_axis

COLUMNS = 120
"""Steps of the heat maps; of more probes, the mean of every bucket is drawn."""

PANELS = ("norm_chosen", "norm_rejected", "cosine")
TITLE = "Gradient by layer"


def layers(frame: pd.DataFrame, *, title: str = TITLE, dark: bool = False) -> go.Figure:
    """Three heat maps, layers upwards: norm of the chosen part, norm of the rejected part (one scale), cosine of the two.

    frame: columns step, layer, norm_chosen, norm_rejected, cosine, as `Run.layers` gives them; layers in the model's order.
    """
    if frame.empty:
        return empty(
            title, "The gradient is split by layer at the first probed step; with probe_budget = 0 it never is.", dark=dark
        )
    c = ink(dark)
    names = list(dict.fromkeys(frame["layer"]))
    steps, tables = _tables(frame, names)
    figure = bare(title, note=f"{frame['step'].nunique():,} probed steps", dark=dark, height=130 + max(16 * len(names), 90))
    largest = float(np.nanmax([tables["norm_chosen"], tables["norm_rejected"]], initial=0)) or 1.0
    for number, panel in enumerate(PANELS):
        _add_panel(figure, number, panel, steps, names, tables[panel], largest, c)
    return figure.update_layout(margin={"l": 56, "r": 12, "t": 58, "b": 40})


def _tables(frame: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Middle steps [columns] and, for every panel, means [layers, columns] over the probes of each column."""
    probed = np.unique(frame["step"].to_numpy())
    order = np.searchsorted(probed, frame["step"].to_numpy())
    column = order * min(COLUMNS, len(probed)) // len(probed)
    grouped = frame.assign(column=column).groupby(["layer", "column"], sort=False)[list(PANELS)].mean()
    tables = {
        panel: grouped[panel].unstack("column").reindex(index=names).sort_index(axis=1).to_numpy(np.float32) for panel in PANELS
    }
    middles = frame.assign(column=column).groupby("column")["step"].mean().to_numpy(np.float32)
    return middles, tables


def _add_panel(
    figure: go.Figure, number: int, panel: str, steps: np.ndarray, names: list[str], table: np.ndarray, largest: float, c: Ink
) -> None:
    about = entry(panel)
    suffix = "" if number == 0 else str(number + 1)
    left = number * 0.345
    domain = [left, left + 0.285]
    diverging = [[0, c.rejected], [0.5, c.empty], [1, c.chosen]]
    growing = [[0, c.empty], [1, c.rejected if panel == "norm_rejected" else c.chosen]]
    figure.add_heatmap(
        x=steps,
        y=np.array([_short(name) for name in names], object),
        z=table,
        xaxis=f"x{suffix}",
        yaxis=f"y{suffix}",
        zmin=-1 if panel == "cosine" else 0,
        zmax=1 if panel == "cosine" else largest,
        colorscale=diverging if panel == "cosine" else growing,
        colorbar={"x": left + 0.287, "len": 1.0, "thickness": 8, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 4},
        hovertemplate=f"about step %{{x:,.0f}}, %{{y}}: <b>%{{z:.3g}}</b><br>{about.hover}<extra></extra>",
    )
    figure.update_layout(
        {
            f"xaxis{suffix}": step_axis(c) | {"domain": domain, "anchor": f"y{suffix}", "matches": None if number == 0 else "x"},
            f"yaxis{suffix}": axis(c, anchor=f"x{suffix}", autorange="reversed", type="category", showticklabels=number == 0)
            | ({} if number == 0 else {"matches": "y"}),
        }
    )
    figure.add_annotation(
        text=f"{about.title}, {about.symbol}",
        x=left,
        xanchor="left",
        y=1,
        yanchor="bottom",
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 12, "color": c.text},
    )


def _short(name: str) -> str:
    """A layer's name that fits beside the picture; names come from the model's code, so tags in them are taken out."""
    plain = name.replace("<", "‹").replace(">", "›")
    return plain if len(plain) <= 22 else f"{plain[:10]}…{plain[-11:]}"
