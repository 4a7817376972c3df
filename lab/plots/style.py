"""How every figure looks: one pair of colours for the two sides, no background of its own, light or dark."""

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
"""Pixels of a curve's figure."""

STEP = "step"
"""Title of the axis that every picture of a run shares."""

WITH_LEGEND = 58
"""Pixels above a plot that has a legend between title and axes."""


@dataclass(frozen=True)
class Ink:
    """Colours of one theme. chosen and rejected are told apart by people of every colour vision (Okabe and Ito's palette)."""

    chosen: str
    rejected: str
    neutral: tuple[str, ...]
    text: str
    faint: str
    grid: str
    label: str
    empty: str


LIGHT = Ink(
    chosen="#0072B2",
    rejected="#D55E00",
    neutral=("#3d4f5f", "#007a5a", "#a0527f"),
    text="#1d2733",
    faint="#66727d",
    grid="#e3e7eb",
    label="#ffffff",
    empty="#ffffff",
)
DARK = Ink(
    chosen="#56B4E9",
    rejected="#F0904C",
    neutral=("#c3ccd4", "#3fc49b", "#d893bb"),
    text="#e3e8ed",
    faint="#94a0ab",
    grid="#2a333d",
    label="#1b222a",
    empty="#12171d",
)


def ink(dark: bool) -> Ink:
    """The colours of a theme."""
    return DARK if dark else LIGHT


def translucent(colour: str, share: float) -> str:
    """#rrggbb at an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


@lru_cache(4096)
def inert(text: str) -> str:
    """Text that Plotly shows as it is: it would read tags in it, and where MathJax is loaded formulas between dollars."""
    return escape(text).replace("$", "&#36;")


@lru_cache(4096)
def wrapped(message: str, width: int = 52) -> str:
    """Words as lines of a hover label, inert."""
    return "<br>".join(inert(line) for line in textwrap.wrap(message, width))


def hover(about: Entry) -> str:
    """Return symbol and meaning of a glossary entry as the lines of a hover label."""
    return wrapped(f"{about.symbol}: {about.meaning}")


_plain: ContextVar[bool] = ContextVar("plain", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Within, `figure` returns plain dicts. Making a `go.Figure` only to take it apart again is half the cost of a refresh."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def figure(traces: Sequence[dict[str, Any]], layout: dict[str, Any]) -> go.Figure:
    """The figure of some traces, without Plotly's validation, which takes 20 ms a figure at every refresh; the tests do it.

    Names of traces and words on axes are data (a run's name, a layer's), so they are made inert here, for all figures.
    """
    data = [_inert(trace) for trace in traces]
    if _plain.get():
        return {"data": data, "layout": layout}
    return go.Figure(data=data, layout=layout, _validate=False)


def _inert(trace: dict[str, Any]) -> dict[str, Any]:
    message = {key: _inert_words(trace[key]) for key in ("x", "y") if _are_words(trace.get(key))}
    return {**trace, **message, **({"name": inert(str(trace["name"]))} if "name" in trace else {})}


def _inert_words(values: Any) -> np.ndarray:
    return np.array([inert(str(word)) for word in values], object)


def _are_words(values: Any) -> bool:
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind:
        return kind in "OU"
    return isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)


def layout(title: str, *, dark: bool, note: str = "", height: int = HEIGHT, **more: Any) -> dict[str, Any]:
    """What all figures share: title top left with a small note behind it, transparent, compact. `more` is added to it."""
    c = ink(dark)
    heading = inert(title) + (f"  <span style='font-size:11px;color:{c.faint}'>{inert(note)}</span>" if note else "")
    return {
        "template": {},  # Plotly's own would travel with every refresh, 7 kB a figure
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
    """Give a figure its theme's background, for a page whose own colour is not known, as in a notebook."""
    drawn.layout.paper_bgcolor = ink(dark).empty
    return drawn


def axis(c: Ink, title: str = "", **more: Any) -> dict[str, Any]:
    """One axis: a thin grid, and labels that keep out of each other's way."""
    lines = {"gridcolor": c.grid, "linecolor": c.grid, "zerolinecolor": c.grid}
    return {**lines, "automargin": True, "title": {"text": inert(title), "standoff": 8}, "exponentformat": "e", **more}


def step_axis(c: Ink) -> dict[str, Any]:
    """The axis every picture of a run shares."""
    return axis(c, STEP, exponentformat="SI", hoverformat=",d")


def is_step_axis(look: Mapping[str, Any]) -> bool:
    """Whether an axis of a layout is one that `step_axis` made."""
    return (look.get("title") or {}).get("text") == STEP


def empty(title: str, message: str, *, dark: bool) -> go.Figure:
    """A figure that has nothing to show yet, and says what will appear and when."""
    note = {
        "text": wrapped(message, 44),
        "x": 0.5,
        "y": 0.5,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "font": {"color": ink(dark).faint, "size": 13},
    }
    return figure([], layout(title, dark=dark, xaxis={"visible": False}, yaxis={"visible": False}, annotations=[note]))
