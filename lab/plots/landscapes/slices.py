"""Slices through the landscapes of several losses, on one axis.

Example:
    slices_figure([cut("DPO", field(dpo, axis, axis)), cut("SGDPO", field(sgdpo, axis, axis))])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from lab.glossary import PUSHES
from lab.plots.style import WITH_LEGEND, Palette, axis, empty, figure, hover, layout, palette

from .colours import largest
from .landscape import QUANTITIES, array, drawable, span

if TYPE_CHECKING:
    from lab.objectives import FieldData

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Slice:
    """An objective along a straight line of the plane: positions, loss and derivatives, each [N], NaN out of reach; see `cut`."""

    label: str
    log_x1: np.ndarray
    log_x2: np.ndarray
    loss: np.ndarray
    d_log_x1: np.ndarray
    d_log_x2: np.ndarray

    @property
    def along(self) -> tuple[str, np.ndarray]:
        """Name and values of the horizontal axis: the log-ratio that varies, or the margin if both do."""
        if np.ptp(self.log_x2) == 0:
            return "log X₁", self.log_x1
        if np.ptp(self.log_x1) == 0:
            return "log X₂", self.log_x2
        return "log X₁ − log X₂", self.log_x1 - self.log_x2

    @property
    def where(self) -> str:
        """Description of the line; points are (log X₁, log X₂)."""
        (a, b), (c, d) = (self.log_x1[0], self.log_x2[0]), (self.log_x1[-1], self.log_x2[-1])
        if np.ptp(self.log_x2) == 0:
            return f"at log X₂ = {b:.3g}"
        if np.ptp(self.log_x1) == 0:
            return f"at log X₁ = {a:.3g}"
        return f"from ({a:.3g}, {b:.3g}) to ({c:.3g}, {d:.3g})"


def cut(label: str, data: FieldData) -> Slice:
    """Return the values along a field of one row or column, or along the diagonal of growing margin of a square field.

    Args:
        label: Label of the objective.
        data: The objective over the plane; points out of reach become NaN.

    Raises:
        ValueError: The field has neither form.
    """
    reach = array(data.attainable, bool)
    tables = [np.where(reach, array(t), np.nan) for t in (data.value, data.d_log_x1, data.d_log_x2)]
    N, M = tables[0].shape
    if min(N, M) == 1:
        grid = np.meshgrid(array(data.log_x1), array(data.log_x2), indexing="ij")
        return Slice(label, *(t.ravel() for t in (*grid, *tables)))
    if N != M:
        raise ValueError(
            f"The field of {label} is {N} x {M}; a cut needs as many points on both axes, or one point on one of them."
        )
    return Slice(label, array(data.log_x1), array(data.log_x2)[::-1], *(np.fliplr(t).diagonal() for t in tables))


def slices_figure(
    slices: Sequence[Slice], *, title: str = "", quantity: str = "loss", relative: bool = False, dark: bool = False
) -> go.Figure:
    """Draw several objectives along the same line of the plane; non-finite values and those out of reach are gaps.

    Args:
        slices: Results of `cut`.
        title: Title of the figure; "" builds one.
        quantity: "loss", "push" (−∂L/∂log X₁ and ∂L/∂log X₂, one line per side) or "log_space_ratio" (logarithmic axis).
        relative: Divide each objective by its largest magnitude (for "push" of both sides), to compare shapes; not for a ratio.
        dark: Use the dark palette.

    Raises:
        ValueError: The quantity is unknown.
    """
    if quantity not in ("loss", "push", "log_space_ratio"):
        raise ValueError(f"There is no quantity {quantity!r} of a slice; choose loss, push or log_space_ratio.")
    title = (
        title
        or {
            "loss": "Loss",
            "push": "Push: chosen up (blue), rejected down (orange)",
            "log_space_ratio": "Chosen push / rejected push",
        }[quantity]
    )
    if not slices:
        return empty(title, "The curves appear once an objective is chosen.", dark=dark)
    c = palette(dark)
    traces = [t for number, one in enumerate(slices) for t in _lines(one, number, quantity, relative, c)]
    unit, kind = ("", "log") if quantity == "log_space_ratio" else (_unit(quantity, relative), "linear")
    name, at = slices[0].along
    figure_layout = layout(
        title,
        dark=dark,
        note=slices[0].where,
        height=300,
        xaxis=axis(c, f"{name} [nats]", zeroline=True),
        yaxis=axis(c, unit or QUANTITIES["log_space_ratio"].symbol, type=kind, zeroline=True),
        showlegend=True,
        uirevision=f"{quantity}/{name}/{span(at)}",
    )
    figure_layout["margin"]["t"] = WITH_LEGEND
    return figure(traces, figure_layout)


def _unit(quantity: str, relative: bool) -> str:
    symbol = "L [nats]" if quantity == "loss" else "push"
    return f"{symbol.split()[0]} / its largest" if relative else symbol


def _lines(one: Slice, number: int, quantity: str, relative: bool, c: Palette) -> list[dict[str, Any]]:
    if quantity == "loss":
        lines = [("", QUANTITIES["loss"], c.neutral[number % len(c.neutral)], one.loss)]
    elif quantity == "push":
        lines = [
            ("chosen", PUSHES["chosen"], c.chosen, -one.d_log_x1),
            ("rejected", PUSHES["rejected"], c.rejected, one.d_log_x2),
        ]
    else:
        ratio = _ratio(one.d_log_x1, one.d_log_x2)
        positive = np.where(ratio > 0, ratio, np.nan)
        lines = [("", QUANTITIES[quantity], c.neutral[number % len(c.neutral)], positive)]
    scale = max(largest(values) for *_, values in lines) if relative and quantity != "log_space_ratio" else 1.0
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": one.label,
            "legendgroup": str(number),
            "showlegend": side != "rejected",  # one legend entry per objective shows and hides both sides
            "x": one.along[1].astype(np.float32),
            "y": drawable(values / (scale or 1.0)),
            "customdata": np.stack([one.log_x1, one.log_x2], -1).astype(np.float32),
            "line": {"color": colour, "width": 2, "dash": DASHES[number % len(DASHES)]},
            "hovertemplate": f"log X₁ = %{{customdata[0]:.3g}}, log X₂ = %{{customdata[1]:.3g}} nats: "
            f"<b>{definition.symbol} = %{{y:.4g}}</b><br>{hover(definition)}<extra></extra>",
        }
        for side, definition, colour, values in lines
    ]


def _ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.abs(one) / np.abs(other)
    return np.where(np.isfinite(ratio), ratio, np.nan)
