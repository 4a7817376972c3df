"""Common style of all figures: light and dark palettes, transparent background, layout and axes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.glossary import Entry

HEIGHT = 270
"""Height of a figure of curves in pixels."""
UPRIGHT = 26
"""Characters of an upright title that fit beside the axis of such a figure."""

STEP = "step"
"""Title of the step axis."""

PROJECTED = 1.4
"""Factor by which a figure for a projector is larger."""

WITH_LEGEND = 58
"""Top margin in pixels of a figure with a legend between title and axes."""


@dataclass(frozen=True)
class Palette:
    """Colours of the light or dark theme; chosen and rejected are distinct for every colour vision (Okabe and Ito's palette)."""

    chosen: str
    rejected: str
    neutral: tuple[str, ...]
    text: str
    faint: str
    grid: str
    label: str
    empty: str


LIGHT = Palette(
    chosen="#0072B2",
    rejected="#D55E00",
    neutral=("#3d4f5f", "#007a5a", "#a0527f"),
    text="#1d2733",
    faint="#66727d",
    grid="#e3e7eb",
    label="#ffffff",
    empty="#ffffff",
)
DARK = Palette(
    chosen="#56B4E9",
    rejected="#F0904C",
    neutral=("#c3ccd4", "#3fc49b", "#d893bb"),
    text="#e3e8ed",
    faint="#94a0ab",
    grid="#2a333d",
    label="#1b222a",
    empty="#12171d",
)


def palette(dark: bool) -> Palette:
    """Return the palette of the dark or the light theme."""
    return DARK if dark else LIGHT


def translucent(colour: str, share: float) -> str:
    """Return a colour "#rrggbb" with an opacity between 0 and 1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


@lru_cache(4096)
def escaped(text: str) -> str:
    """Escape a text so that Plotly shows it literally, without tags and without formulas between dollar signs."""
    return escape(text).replace("$", "&#36;")


@lru_cache(4096)
def wrapped(message: str, width: int = 52) -> str:
    """Break a text into the lines of a hover label and escape it."""
    return "<br>".join(escaped(line) for line in textwrap.wrap(message, width))


def hover(definition: Entry) -> str:
    """Return symbol and meaning of a glossary entry as the lines of a hover label."""
    return wrapped(f"{definition.symbol}: {definition.meaning}")


_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def as_dicts() -> Iterator[None]:
    """Make `figure` return dicts inside the with block; building `go.Figure` objects would double the cost of a refresh."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def figure(traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> go.Figure:
    """Build a figure from traces and layout.

    Plotly's validation (20 ms per figure) is left to the tests. Names of traces and texts on axes come from data, such as the names
    of runs and layers, and are escaped here.
    """
    data = [_escape_trace(trace) for trace in traces]
    if _plain.get():
        return {"data": data, "layout": layout}
    return go.Figure(data=data, layout=layout, _validate=False)


def _escape_trace(trace: dict[str, Any]) -> dict[str, Any]:
    texts = {key: _escape_texts(trace[key]) for key in ("x", "y") if _are_texts(trace.get(key))}
    return {**trace, **texts, **({"name": escaped(str(trace["name"]))} if "name" in trace else {})}


def _escape_texts(values: Any) -> np.ndarray:
    return np.array([escaped(str(word)) for word in values], object)


def _are_texts(values: Any) -> bool:
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind:
        return kind in "OU"
    return isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)


def layout(title: str, *, dark: bool, note: str = "", height: int = HEIGHT, **more: Any) -> dict[str, Any]:
    """Return the common layout: title at the top left followed by a small note, transparent, compact; `more` overrides parts."""
    c = palette(dark)
    heading = escaped(title) + (f"  <span style='font-size:11px;color:{c.faint}'>{escaped(note)}</span>" if note else "")
    return {
        "template": {},  # Plotly's own template would add 7 kB per figure to every refresh
        "title": {
            "text": heading,
            "font": {"size": 14, "color": c.text},
            "x": 0,
            "xref": "container",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8, "l": 6},
        },
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": c.faint},
        "height": height,
        "margin": {"l": 60, "r": 12, "t": 36, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "font": {"color": c.text}},
        "hoverlabel": {"bgcolor": c.label, "bordercolor": c.grid, "font": {"color": c.text, "size": 12}, "align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": c.faint, "activecolor": c.text},
        "hovermode": "closest",
        "hoverdistance": 40,
        **more,
    }


def with_background(drawn: go.Figure, dark: bool) -> go.Figure:
    """Set the background of the theme, for pages of unknown colour such as notebooks."""
    drawn.layout.paper_bgcolor = palette(dark).empty
    return drawn


def for_projector(drawn: go.Figure, dark: bool) -> go.Figure:
    """Return a figure with larger type, thicker lines and more contrast than the given one."""
    larger, c = go.Figure(drawn, skip_invalid=True), palette(dark)
    margin = {side: round(PROJECTED * (larger.layout.margin[side] or 0)) for side in ("l", "r", "t", "b")}
    larger.update_layout(
        font={"size": round(PROJECTED * 12), "color": c.text},
        title_font_size=round(PROJECTED * 14),
        hoverlabel_font_size=round(PROJECTED * 12),
        height=round(PROJECTED * larger.layout.height),
        margin=margin,
    )
    larger.update_traces(line_width=4, selector={"type": "scatter"})
    return larger


def axis(c: Palette, title: str = "", *, width: int = 80, **more: Any) -> dict[str, Any]:
    """Return an axis with a thin grid and automatic margins. width: characters of its title in a line."""
    lines = {"gridcolor": c.grid, "linecolor": c.grid, "zerolinecolor": c.grid}
    return {**lines, "automargin": True, "title": {"text": wrapped(title, width), "standoff": 8}, "exponentformat": "e", **more}


def step_axis(c: Palette) -> dict[str, Any]:
    """Return the step axis, which all figures of a run share."""
    return axis(c, STEP, exponentformat="SI", hoverformat=",d")


def is_step_axis(axis_layout: Mapping[str, Any]) -> bool:
    """Return whether an axis of a layout was made by `step_axis`."""
    return (axis_layout.get("title") or {}).get("text") == STEP


def empty(title: str, message: str, *, dark: bool) -> go.Figure:
    """Return a figure without data whose text explains what will appear and when."""
    note = {
        "text": wrapped(message, 44),
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"color": palette(dark).faint, "size": 13},
    }
    return figure([], layout(title, dark=dark, xaxis={"visible": False}, yaxis={"visible": False}, annotations=[note]))
