"""How every figure looks: one pair of colours for the two sides, no background of its own, light or dark."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

HEIGHT = 270
"""Pixels of a curve's figure."""


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
    label_text: str
    empty: str


LIGHT = Ink(
    "#0072B2", "#D55E00", ("#3d4f5f", "#007a5a", "#a0527f"), "#1d2733", "#66727d", "#e3e7eb", "#ffffff", "#1d2733", "#ffffff"
)
DARK = Ink(
    "#56B4E9", "#F0904C", ("#c3ccd4", "#3fc49b", "#d893bb"), "#e3e8ed", "#94a0ab", "#2a333d", "#1b222a", "#e3e8ed", "#12171d"
)


def ink(dark: bool) -> Ink:
    """The colours of a theme."""
    return DARK if dark else LIGHT


def translucent(colour: str, share: float) -> str:
    """#rrggbb at an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"


def wrapped(words: str, width: int = 52) -> str:
    """Words as lines of a hover label; Plotly would read tags in them, so they are escaped."""
    return "<br>".join(escape(line) for line in textwrap.wrap(words, width))


def bare(title: str, *, note: str = "", dark: bool, height: int = HEIGHT) -> go.Figure:
    """A figure without traces: title top left with a small note behind it, transparent, compact."""
    c = ink(dark)
    heading = escape(title) + (f"  <span style='font-size:11px;color:{c.faint}'>{escape(note)}</span>" if note else "")
    # An empty template: Plotly's own would travel with every refresh, 7 kB a figure.
    return go.Figure(
        layout={
            "template": {},
            "title": {"text": heading, "x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}},
            "title_font": {"size": 14, "color": c.text},
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": c.faint},
            "height": height,
            "margin": {"l": 56, "r": 12, "t": 58, "b": 40},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "font": {"color": c.text}},
            "hoverlabel": {"bgcolor": c.label, "bordercolor": c.grid, "font": {"color": c.label_text, "size": 12}, "align": "left"},
            "hovermode": "closest",
            "hoverdistance": 40,
        }
    )


def axis(c: Ink, **more: object) -> dict[str, object]:
    """One axis: a thin grid, no zero line of its own weight, labels that keep out of each other's way."""
    return {"gridcolor": c.grid, "linecolor": c.grid, "zerolinecolor": c.grid, "automargin": True, "title_standoff": 6, **more}


def step_axis(c: Ink) -> dict[str, object]:
    """The axis every picture of a run shares."""
    return axis(c, title="step", tickformat="~s", hoverformat=",d")


def empty(title: str, words: str, *, dark: bool, height: int = HEIGHT) -> go.Figure:
    """A figure that has nothing to show yet, and says what will appear and when."""
    figure = bare(title, dark=dark, height=height)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return figure.add_annotation(
        text=wrapped(words, 44),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"color": ink(dark).faint, "size": 13},
    )
