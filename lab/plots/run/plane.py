"""All pairs of a run as points in the plane (log X₁, log X₂), over the gradient field of the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab.glossary import entry
from lab.plots.landscapes.landscape import arrows, equal_margin, held_note, out_of_reach, surface
from lab.plots.style import Palette, axis, empty, escaped, figure, hover, layout, palette, wrapped

if TYPE_CHECKING:
    from lab.objectives import FieldData

TITLE = "All pairs on the objective’s field"
SIDES = ("log_ratio_chosen", "log_ratio_rejected")
MOST_POINTS = 5000
"""Maximum number of pairs that are drawn, evenly chosen; the title gives the number."""

ALL = "pairs, where they were last seen"

OUTERMOST = 25
"""Number of outermost pairs at each end of each axis that are always drawn, so that no outlier is missing."""

WEIGHTS = (0.2, 10.0)
"""Smallest and largest weight that the size of a point tells."""

PLANE_HEIGHT, BENEATH = 500, 120
"""Height of the figure, and of the part below the plot, in pixels."""

Range = tuple[float, float]


def plane(
    frame: pd.DataFrame,
    field: FieldData | None = None,
    *,
    batch: int | None = None,
    note: str = "",
    title: str = TITLE,
    held: str = "",
    dark: bool = False,
) -> go.Figure:
    """Draw one point per pair at its latest log-ratios; arrows show the direction of gradient descent.

    The first element of a point's `customdata` is the pair's id, so that a page can open a clicked pair.

    Args:
        frame: Columns pair, step, log_ratio_chosen, log_ratio_rejected, as from `Run.pairs`; with a column weight, the area of a
            point grows with the weight of its pair.
        field: The objective over this plane (see `lab.objectives.field`); None draws only the points.
        batch: Step whose pairs are ringed.
        note: Added to the note behind the title.
        title: Title of the figure.
        held: Part of the loss that the field's gradient holds fixed, as in `field_figure`.
        dark: Use the dark palette.
    """
    if not set(SIDES) <= set(frame.columns) or not (shown := _present(frame, batch)).size:
        message = "The pairs appear with the first step. An objective without a reference has no log-ratios, and so no points."
        return empty(title, message, dark=dark)
    c = palette(dark)
    drawn = frame.iloc[shown]
    x, y = (drawn[side].to_numpy(np.float32) for side in SIDES)
    traces = []
    if field is not None:
        x_axis, y_axis = (np.asarray(a, np.float64) for a in (field.log_x1, field.log_x2))
        veil = out_of_reach(x_axis, y_axis, ~np.asarray(field.attainable, bool).T, c)
        traces = [
            *(colours := surface(field, "loss", c))[:1],
            *_named(colours[1:], "thin lines: equal loss"),
            *veil[:-1],
            *_named(veil[-1:], "out of reach: a token probability above 1"),
            *_named([equal_margin(x_axis, y_axis, c)], "dotted: margin 0, log X₁ = log X₂"),
            *_named([arrows(field, c)], "arrows: direction of −∇L, all of the same length"),
        ]
    latest = drawn["step"].to_numpy() == batch
    traces.append(_points(drawn, x, y, ~latest, ALL, c))
    if latest.any():
        traces.append(_points(drawn, x, y, latest, f"pairs in the batch of step {batch:,}", c))
    (left, right), (low, high) = plane_ranges(frame)
    sized = "area: weight" if "weight" in frame else ""
    counted = f"{len(shown):,} of {len(frame):,} pairs" if len(shown) < len(frame) else f"{len(frame):,} pairs"
    kept = held_note(held) if field is not None else []
    figure_layout = layout(
        title,
        note=", ".join(filter(None, [counted, sized, note])),
        dark=dark,
        height=PLANE_HEIGHT,
        xaxis=axis(c, "log X₁ [nats]", range=[left, right], zeroline=True),
        yaxis=axis(c, "log X₂ [nats]", range=[low, high], zeroline=True),
        showlegend=True,
        annotations=[_held_note(kept, c)] if kept else [],
    )
    figure_layout["margin"] |= {"t": figure_layout["margin"]["t"] + 18 * len(kept), "b": BENEATH}
    figure_layout["legend"] |= {"y": -0.14, "yanchor": "top"}
    return figure([{"showlegend": False} | trace for trace in traces if trace], figure_layout)


def _named(traces: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the non-empty traces with a name in the legend."""
    return [trace | {"name": name, "showlegend": True} for trace in traces if trace]


def _held_note(lines: list[str], c: Palette) -> dict[str, Any]:
    position: dict[str, Any] = {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "yref": "paper",
        "y": 1,
        "yanchor": "bottom",
        "yshift": 4,
    }
    return {
        **position,
        "text": wrapped(" ".join(lines), 120),
        "showarrow": False,
        "align": "left",
        "font": {"size": 11, "color": c.faint},
    }


def plane_ranges(frame: pd.DataFrame) -> tuple[Range, Range]:
    """Return ranges of both axes that hold every finite point and the origin, rounded so that they seldom change."""
    one, other = (_roomy(frame[side].to_numpy(np.float64)) if side in frame else (-1.0, 1.0) for side in SIDES)
    return one, other


def _roomy(values: np.ndarray) -> Range:
    """Return a range with round ends around the finite values and 0."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    width = max(high - low, 1e-3)
    size = 10.0 ** np.floor(np.log10(width))
    unit = size / 2 if width / size < 5 else size
    return float(np.floor(low / unit - 0.2) * unit), float(np.ceil(high / unit + 0.2) * unit)


def _present(frame: pd.DataFrame, batch: int | None) -> np.ndarray:
    """Return the rows that are drawn: at most MOST_POINTS finite ones (always the same), the outermost, and those of the batch."""
    values = [frame[side].to_numpy(np.float64) for side in SIDES]
    rows = np.flatnonzero(np.isfinite(values[0]) & np.isfinite(values[1]))
    if len(rows) <= MOST_POINTS:
        return rows
    ends = np.r_[:OUTERMOST, -OUTERMOST:0]
    outer = [rows[np.argpartition(one[rows], ends)[ends]] for one in values]
    even = rows[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int)]
    return np.unique(np.concatenate([even, *outer, rows[frame["step"].to_numpy()[rows] == batch]]))


def _points(frame: pd.DataFrame, x: np.ndarray, y: np.ndarray, which: np.ndarray, name: str, c: Palette) -> dict[str, Any]:
    """Return a trace of pairs; those of the step that is shown are ringed."""
    ringed = name != ALL
    pairs = frame["pair"].to_numpy(object)[which]
    details = np.empty((len(pairs), 4), object)
    details[:, 0], details[:, 1], details[:, 2] = pairs, frame["step"].to_numpy()[which], [escaped(pair[:60]) for pair in pairs]
    weights = frame["weight"].to_numpy(np.float64)[which] if "weight" in frame else np.ones(len(pairs))
    details[:, 3] = ["" if weight == 1 else f", weight {weight:g} in its set" for weight in weights]
    size = 9 if ringed else 5
    one, other = (entry(side) for side in SIDES)
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": name,
        "showlegend": True,
        "x": x[which],
        "y": y[which],
        "customdata": details,
        "marker": {
            "size": size if (weights == 1).all() else (size * np.sqrt(np.clip(weights, *WEIGHTS))).astype(np.float32),
            "color": c.neutral[2] if ringed else c.text,
            "opacity": 1.0 if ringed else 0.55,
            "line": {"width": 1.5 if ringed else 0, "color": c.label},
        },
        "hovertemplate": f"pair %{{customdata[2]}}, {'in the batch of' if ringed else 'last seen at'} step %{{customdata[1]:,d}}"
        "%{customdata[3]}"
        f"<br><b>log X₁ = %{{x:.3g}}, log X₂ = %{{y:.3g}} nats</b><br>{hover(one)}<br>{hover(other)}<br>A click opens the pair."
        "<extra></extra>",
    }
