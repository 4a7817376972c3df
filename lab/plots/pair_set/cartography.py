"""Data map of a pair set: confidence against variability of the label, one point per pair (Swayamdipta et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.plots.style import Palette, axis, empty, figure, layout, palette, wrapped

TITLE = "Data map"
MAP_HEIGHT = 460
"""Height of the figure in pixels."""
MOST_POINTS = 5000
"""Points that are drawn: the most suspicious ones, and evenly chosen others; the note gives the number."""
ENDS = ("probability_if_few", "probability_if_many")
MEANING = wrapped(
    "Above: the label fits what the models learn. Below on the left: they steadily prefer the other answer, as for a flipped "
    "label. On the right: they change their minds."
)


def cartography(frame: pd.DataFrame, *, title: str = TITLE, dark: bool = False) -> go.Figure:
    """Draw confidence (upwards) against variability of every pair's label, to be brushed with a box or a lasso.

    The first element of a point's `customdata` is the pair's id.

    Args:
        frame: Columns pair_id, confidence and variability, as from `lab.suspects` and `lab.evidence_of`; with `probability` (of a
            flipped label) the points are coloured by it, else by `correctness`. The hover text has `probability_if_few` and
            `probability_if_many` where they are known. Rows without a variability, of one visit, are left out.
        title: Title of the figure.
        dark: Use the dark palette.
    """
    needed = {"pair_id", "confidence", "variability"}
    known = frame.dropna(subset=["confidence", "variability"]) if needed <= set(frame.columns) else frame.iloc[:0]
    if known.empty:
        return empty(title, "The map appears when pairs were visited at least twice, in more than one epoch or run.", dark=dark)
    c = palette(dark)
    by = "probability" if "probability" in known else "correctness"
    shown = _some(known, by)
    counted = f"{len(shown):,} of {len(known):,} pairs" if len(shown) < len(known) else f"{len(known):,} pairs"
    return figure(
        [_points(shown, by, c)],
        layout(
            title,
            note=f"{counted}, {len(frame) - len(known):,} seen once" if len(known) < len(frame) else counted,
            dark=dark,
            height=MAP_HEIGHT,
            dragmode="select",
            xaxis=axis(c, "variability: standard deviation of the label's probability", rangemode="tozero"),
            yaxis=axis(c, "confidence: mean probability of the label", range=[-0.03, 1.03]),
        ),
    )


def _points(shown: pd.DataFrame, by: str, c: Palette) -> dict[str, Any]:
    suspicious = by == "probability"
    values = shown[by].to_numpy(np.float32) if by in shown else np.zeros(len(shown), np.float32)
    scale = [[0, c.chosen], [1, c.rejected]] if suspicious else [[0, c.rejected], [1, c.chosen]]
    name = "probability that it is flipped" if suspicious else "share of visits with a margin above 0"
    ends = [end for end in ENDS if suspicious and end in shown and shown[end].notna().all()]
    between = "; %{customdata[1]:.2f} if few labels are flipped, %{customdata[2]:.2f} if many" if len(ends) == 2 else ""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "pairs",
        "x": shown["variability"].to_numpy(np.float32),
        "y": shown["confidence"].to_numpy(np.float32),
        "customdata": [list(row) for row in shown[["pair_id", *ends]].itertuples(index=False, name=None)],
        "marker": {
            "size": 6,
            "opacity": 0.75,
            "color": values,
            "cmin": 0,
            "cmax": 1,
            "colorscale": scale,
            "colorbar": {"title": {"text": name, "side": "right"}, "thickness": 10},
        },
        "hovertemplate": "%{customdata[0]}<br>confidence <b>%{y:.3f}</b>, variability %{x:.3f}<br>"
        f"{name} %{{marker.color:.2f}}{between}<br>{MEANING}<extra></extra>",
        "showlegend": False,
    }


def _some(known: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return at most MOST_POINTS rows: half of them the most suspicious, the others evenly chosen."""
    if len(known) <= MOST_POINTS:
        return known
    ordered = known.sort_values("probability", ascending=False) if by == "probability" else known.sort_values("confidence")
    half = MOST_POINTS // 2
    rest = ordered.iloc[half:]
    return pd.concat([ordered.iloc[:half], rest.iloc[np.linspace(0, len(rest) - 1, MOST_POINTS - half).astype(int)]])
