"""A loss as a landscape over (log X₁, log X₂), with paths of gradient descent.

X₁ and X₂ are the probability ratios of policy and reference of the chosen and the rejected answer.

Example:
    data = field(make_objective("dpo"), axis, axis)
    path = flow(make_objective("dpo"), [(0.0, 0.0), (-2.0, 2.0)], rate=descent_rate(data, steps=100), steps=100)
    field_figure(data, title="DPO", quantity="ratio", paths=[path])
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from lab.glossary import FIELD_QUANTITIES as QUANTITIES
from lab.glossary import entry
from lab.plots.landscapes.colours import colour_range, colour_stops, decades, is_logarithmic
from lab.plots.style import Palette, axis, figure, hover, layout, palette, translucent

if TYPE_CHECKING:
    from lab.objectives import FieldData, Trajectory

FIELD_HEIGHT = 520
ARROWS = 15
"""Maximum number of arrows along each axis."""


def descent_rate(data: FieldData, *, steps: int, crossings: float = 2.0) -> float:
    """Return a step size (nats²) with which descent crosses the plane in `steps` steps; 1 if the plane is flat.

    The slope is the 0.9 quantile over the finite attainable points, because some losses are unbounded at the edge. OURS.

    Args:
        data: The objective over the plane.
        steps: Number of steps.
        crossings: How often the steps cross the plane at that slope.
    """
    slope = np.hypot(array(data.d_log_x1), array(data.d_log_x2))
    slope = slope[np.isfinite(slope) & array(data.attainable, bool)]
    steep = float(np.quantile(slope, 0.9)) if len(slope) else 0.0
    width = max(float(np.ptp(array(a))) for a in (data.log_x1, data.log_x2))
    return crossings * width / steps / steep if steep > 0 and width > 0 else 1.0


def field_figure(
    data: FieldData,
    *,
    title: str,
    quantity: str = "loss",
    paths: Sequence[Trajectory] = (),
    rate: float | None = None,
    held: str = "",
    dark: bool = False,
) -> go.Figure:
    """Draw a quantity as colours over the plane, arrows of the negative gradient, and paths of gradient descent.

    Arrows all have the same length: they show the direction of descent, not its speed. Points that would need a token probability
    above 1 are hatched, and paths end there. Undefined values are left empty.

    Args:
        data: The objective over the plane (see `lab.objectives.field`).
        title: Title of the figure.
        quantity: A key of `QUANTITIES`. Ratios have a logarithmic colour scale centred at 1, derivatives a linear one centred at 0.
        paths: Paths of gradient descent.
        rate: Step size of the paths (nats²), for the note.
        held: Part of the loss that the gradient holds fixed: "margin", another word, or "" for none.
        dark: Use the dark palette.

    Raises:
        ValueError: The quantity is unknown.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"There is no quantity {quantity!r} of a field; choose one of {', '.join(QUANTITIES)}.")
    c = palette(dark)
    x, y = array(data.log_x1), array(data.log_x2)
    out = ~array(data.attainable, bool).T
    lines = _note_lines(out, paths, rate, held)
    traces = [*surface(data, quantity, c), *out_of_reach(x, y, out, c), equal_margin(x, y, c), arrows(data, c)]
    reach = [np.inf if (inside := ~out.all(along)).all() else a[inside].max(initial=-np.inf) for along, a in enumerate((x, y))]
    for path in paths:
        traces += _descent(path, reach, c)
    figure_layout = layout(
        title,
        dark=dark,
        height=FIELD_HEIGHT,
        xaxis=axis(c, "log X₁ [nats]", range=span(x), constrain="domain", zeroline=False),
        # Square on the screen, so that directions are true if both axes have the same span.
        yaxis=axis(
            c, "log X₂ [nats]", range=span(y), constrain="domain", zeroline=False, scaleanchor="x", scaleratio=_square(x, y)
        ),
        showlegend=False,
        uirevision=f"{quantity}/{span(x)}/{span(y)}",
        annotations=[_note(lines, c)],
    )
    figure_layout["margin"]["t"] = 40 + 16 * len(lines)
    return figure([trace for trace in traces if trace], figure_layout)


def surface(data: FieldData, quantity: str, c: Palette) -> list[dict[str, Any]]:
    """Return traces of a quantity of the field: colours, and lines of equal value."""
    definition = QUANTITIES[quantity]
    values = array(data.value if quantity == "loss" else getattr(data, quantity)).T
    logarithmic = is_logarithmic(quantity)
    shown = decades(values) if logarithmic else np.where(np.isfinite(values), values, np.nan)
    base = {"x": array(data.log_x1, np.float32), "y": array(data.log_x2, np.float32), "z": drawable(shown)}
    within = np.where(array(data.attainable, bool).T, base["z"].astype(np.float64), np.nan)  # sets the range of the colours
    bar: dict[str, Any] = {
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": {"size": 10},
        "exponentformat": "e",
        "title": {"text": definition.symbol.split(" ")[0] if quantity == "loss" else "", "side": "top"},
    }
    finite = within[np.isfinite(within)]
    stops = colour_stops(quantity, c)
    scale: dict[str, Any] = {"colorscale": [[place / (len(stops) - 1), stop] for place, stop in enumerate(stops)]}
    if quantity != "loss" or len(finite):
        colours = colour_range(values, array(data.attainable, bool).T, quantity)
        scale |= {"zmin": colours.low, "zmax": colours.high}
        if logarithmic:
            bar |= {"tickvals": np.array(colours.ticks), "ticktext": list(colours.texts)}
    ratios = _ratio_texts(values) if logarithmic else None
    number = "%{text}" if logarithmic else "%{z:.4g}"
    heat = {
        **base,
        **scale,
        "type": "heatmap",
        "zsmooth": "best" if np.isfinite(shown).all() and min(shown.shape) > 1 else False,
        "colorbar": bar,
        **({"text": ratios, "texttemplate": ""} if ratios is not None else {}),
        "hovertemplate": f"log X₁ = %{{x:.3g}}, log X₂ = %{{y:.3g}} nats: "
        f"<b>{definition.symbol} = {number} {definition.unit}</b><br>{hover(definition)}<br><br>"
        f"{hover(entry('log_ratio_chosen'))}<br>{hover(entry('log_ratio_rejected'))}<extra></extra>",
    }
    if not len(finite) or np.ptp(finite) < 1e-9:
        return [heat]
    levels: dict[str, Any] = {"coloring": "none"}
    if logarithmic:
        levels |= {"start": 0, "end": 0, "size": 1}
    lines = {
        **base,
        "z": within.astype(np.float32),
        "type": "contour",
        "contours": levels,
        "ncontours": 12,
        "line": {"color": c.text if logarithmic else translucent(c.faint, 0.6), "width": 1},
        "showscale": False,
        "hoverinfo": "skip",
    }
    return [heat, lines]


def out_of_reach(x: np.ndarray, y: np.ndarray, out: np.ndarray, c: Palette) -> list[dict[str, Any]]:
    """Return traces that veil and hatch the points that no policy can reach; empty if there are none."""
    rows, columns = np.nonzero(out)
    if not len(rows):
        return []
    veil = {
        "type": "heatmap",
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "z": np.where(out, 1.0, np.nan).astype(np.float32),
        "colorscale": [[0, translucent(c.empty, 0.8)], [1, translucent(c.empty, 0.8)]],
        "showscale": False,
        "hoverinfo": "skip",
    }
    hatching = {
        "type": "scatter",
        "mode": "markers",
        "x": x[columns].astype(np.float32),
        "y": y[rows].astype(np.float32),
        "marker": {"symbol": "line-ne-open", "size": 6, "line": {"width": 1}, "color": translucent(c.faint, 0.7)},
        "hoverinfo": "skip",
    }
    return [veil, hatching]


def equal_margin(x: np.ndarray, y: np.ndarray, c: Palette) -> dict[str, Any]:
    """Return the line of margin 0, which includes the point where policy and reference are equal."""
    low, high = max(x.min(), y.min()), min(x.max(), y.max())
    if low >= high:
        return {}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.array([low, high], np.float32),
        "y": np.array([low, high], np.float32),
        "line": {"color": c.faint, "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
    }


def arrows(data: FieldData, c: Palette) -> dict[str, Any]:
    """Return arrows of equal length along the negative gradient as one trace of tail, head and gap."""
    x, y = array(data.log_x1), array(data.log_x2)
    rows, columns = (_evenly(len(a)) for a in (x, y))
    right, up, within = (array(t)[np.ix_(rows, columns)] for t in (-data.d_log_x1, -data.d_log_x2, data.attainable))
    at_x, at_y = np.meshgrid(x[rows], y[columns], indexing="ij")
    size = np.hypot(right, up)
    drawn = np.isfinite(size) & (size > 0) & (within > 0)
    if not drawn.any():
        return {}
    # Equal length on the screen: the steps are shares of each axis, because the axes may have different spans.
    length_x, length_y = (0.6 * max(np.ptp(a), 1e-9) / ARROWS for a in (x, y))
    half_x, half_y = (length * (part[drawn] / size[drawn]) / 2 for length, part in ((length_x, right), (length_y, up)))
    gap = np.full(drawn.sum(), np.nan)
    head = np.tile([0, 6, 0], drawn.sum())
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": np.stack([at_x[drawn] - half_x, at_x[drawn] + half_x, gap], -1).ravel().astype(np.float32),
        "y": np.stack([at_y[drawn] - half_y, at_y[drawn] + half_y, gap], -1).ravel().astype(np.float32),
        "line": {"color": c.faint, "width": 1},
        "marker": {"symbol": "arrow", "angleref": "previous", "size": head, "color": c.faint, "line": {"width": 0}},
        "hoverinfo": "skip",
    }


def _descent(path: Trajectory, reach: Sequence[float], c: Palette) -> list[dict[str, Any]]:
    """Return traces of the trajectories of one descent, a ring at each start and an arrow at each end, within reach."""
    x, y, loss = (array(t) for t in (path.log_x1, path.log_x2, path.value))
    rows, P = x.shape
    inside = (drawable(x) <= reach[0]) & (drawable(y) <= reach[1])
    good = np.logical_and.accumulate(inside & np.isfinite(loss), axis=0)
    row = np.arange(rows)[:, None]
    end = (row == good.sum(0) - 1) & (row > 0)

    def joined(table: np.ndarray) -> np.ndarray:
        """Join the trajectories with gaps between them."""
        return np.vstack([np.where(good, table, np.nan), np.full((1, P), np.nan)]).T.ravel()

    lines = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": joined(x).astype(np.float32),
        "y": joined(y).astype(np.float32),
        "customdata": np.stack([joined(np.broadcast_to(row, x.shape)), joined(loss)], -1),
        "line": {"color": c.text, "width": 2},
        "marker": {"symbol": "arrow", "angleref": "previous", "size": np.nan_to_num(joined(12.0 * end)), "color": c.text},
        "hovertemplate": "descent, step %{customdata[0]:.0f}: log X₁ = %{x:.3g}, log X₂ = %{y:.3g} nats, "
        "<b>L = %{customdata[1]:.4g} nats</b><extra></extra>",
    }
    rings = {
        "type": "scatter",
        "mode": "markers",
        "x": x[0][good[0]].astype(np.float32),
        "y": y[0][good[0]].astype(np.float32),
        "marker": {"symbol": "circle-open", "size": 10, "color": c.text, "line": {"width": 2}},
        "hoverinfo": "skip",
    }
    return [lines, rings]


HELD = "The colours include a part of the loss that the gradient holds fixed, so arrows need not follow the colours."
HELD_MARGIN = "The colours use each point's own target margin; the arrows, like training, hold that margin fixed."


def held_note(held: str) -> list[str]:
    """Return the note for a field whose gradient holds a part of the loss fixed."""
    return {"": [], "margin": [HELD_MARGIN]}.get(held, [HELD])


def _note_lines(out: np.ndarray, paths: Sequence[Trajectory], rate: float | None, held: str) -> list[str]:
    lines = ["Arrows: −∇L, all of the same length. Dotted: log X₁ = log X₂."]
    lines += [line for message in held_note(held) for line in textwrap.wrap(message, 60)]
    if paths:
        steps = max(len(path.value) for path in paths) - 1
        lines.append(f"Bold: {steps} descent steps" + (f" of {rate:.3g} nats²" if rate else "") + ", from the ring.")
    if out.any():
        lines.append("Hatched: out of reach (token probability above 1).")
    return lines


def _note(lines: Sequence[str], c: Palette) -> dict[str, Any]:
    return {
        "text": "<br>".join(lines),
        "align": "left",
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 6,
        "showarrow": False,
        "font": {"size": 11, "color": c.faint},
    }


def _ratio_texts(ratio: np.ndarray) -> np.ndarray:
    return np.array([["undefined" if np.isnan(v) else "∞" if np.isinf(v) else f"{v:.4g}" for v in row] for row in ratio], object)


def _evenly(points: int) -> np.ndarray:
    """Return the indices of at most ARROWS evenly spaced points, off the edges if there are more."""
    if points <= ARROWS:
        return np.arange(points)
    return np.unique(((np.arange(ARROWS) + 0.5) * points / ARROWS).astype(int))


def drawable(values: np.ndarray) -> np.ndarray:
    """Convert values to float32, with NaN for those that are not finite or too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32)
    return np.where(np.isfinite(small), small, np.float32(np.nan))


def _square(x: np.ndarray, y: np.ndarray) -> float:
    """Return the ratio of the lengths of a nat on the vertical and on the horizontal axis."""
    (left, right), (low, high) = span(x), span(y)
    return (right - left) / (high - low)


def span(values: np.ndarray) -> list[float]:
    """Return the range of an axis with these values."""
    low, high = float(values.min()), float(values.max())
    return [low, high] if high > low else [low - 0.5, high + 0.5]


def array(values: Any, kind: type = np.float64) -> np.ndarray:
    """Convert a tensor to a NumPy array."""
    return np.asarray(values, kind)
