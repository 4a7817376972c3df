"""Gradient of one step by layer: the norms of the chosen and of the rejected part side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.run.layers import TITLE, short_name
from lab.plots.style import WITH_LEGEND, axis, empty, figure, hover, layout, palette

NAMES = {"norm_chosen": "chosen part", "norm_rejected": "rejected part"}


def layer_bars(frame: pd.DataFrame, *, title: str = TITLE, largest: float | None = None, dark: bool = False) -> go.Figure:
    """Draw two bars per layer, layers downwards; hovers give the cosine of the two parts and the update-to-weight ratio.

    Args:
        frame: The rows of one step, in the columns of `Run.layers`.
        title: Title of the figure.
        largest: End of the x axis, so that several figures have one scale; None for the largest bar.
        dark: Use the dark palette.
    """
    if frame.empty:
        return empty(title, "The gradient by layer appears with the first step.", dark=dark)
    c = palette(dark)
    layers = np.array([short_name(str(name)) for name in frame["layer"]], object)
    more = frame[["cosine", "update_ratio"]].to_numpy(np.float64)
    words = f"{hover(entry('cosine'))}<br>{hover(entry('update_ratio'))}"
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": frame[column].to_numpy(np.float64),
            "y": layers,
            "customdata": more,
            "marker": {"color": getattr(c, column.removeprefix("norm_"))},
            "hovertemplate": f"%{{y}}, {name}: <b>%{{x:.3g}}</b><br>{hover(entry(column))}<br>"
            f"cosine of the two parts %{{customdata[0]:.3f}}, update over weights %{{customdata[1]:.2e}}<br>{words}<extra></extra>",
        }
        for column, name in NAMES.items()
    ]
    top = largest if largest is not None else float(np.nanmax(frame[list(NAMES)].to_numpy(np.float64)))
    figure_layout = layout(
        title,
        dark=dark,
        height=110 + 34 * len(layers),
        xaxis=axis(c, "norm of the gradient, no unit", range=[0, 1.05 * top or 1.0]),
        yaxis=axis(c, autorange="reversed", type="category"),
        bargap=0.25,
    )
    figure_layout["margin"]["t"] = WITH_LEGEND
    return figure(traces, figure_layout)
