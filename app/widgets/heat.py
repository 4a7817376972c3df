"""An answer painted token by token as HTML, with all data escaped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.text.plain import markup
from lab.plots import Paint
from lab.plots.style import LIGHT, translucent
from lab.policy.text.pieces import Piece

STYLE = """<style>
.heat {white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26rem; overflow-y: auto; line-height: 2;}
.heat span {border-radius: 3px; padding: 2px 0; outline: 1px solid #8885; outline-offset: -1px; cursor: default;}
.heat .special {font-family: monospace; font-size: 0.8em; padding: 2px 4px; margin-left: 2px; outline-style: dashed;}
.heat .blank {font-size: 0.8em;}
.heat-legend {display: flex; flex-wrap: wrap; gap: 0.6rem; align-items: center; font-size: 0.8rem;}
.heat-legend .bar {width: 10rem; height: 0.8rem; border-radius: 3px; outline: 1px solid #8885;}
</style>"""

OPACITY = {False: 0.7, True: 0.75}
"""Opacity of the strongest colour on a light (False) and on a dark (True) page, so that text stays readable."""

MOST = 6000
"""Most tokens of an answer that are painted; more would slow the browser down."""


def answer_html(pieces: Sequence[Piece], paint: Paint, side: str, dark: bool) -> str:
    """Return one painted answer. A piece of several tokens, such as an emoji, has a stripe per token. Numbers are in the hover."""
    values = paint.values[side]
    spans = "".join(_span(piece, values, paint, side, dark) for piece in pieces if piece.last < MOST)
    more = "" if len(values) <= MOST else f"<br>{len(values) - MOST:,} more tokens are not shown."
    return f'{STYLE}<div class="heat">{spans}{more}</div>'


def plain_html(text: str) -> str:
    """Return an answer without colours."""
    return f'{STYLE}<div class="heat">{markup(text)}</div>'


def legend_html(paint: Paint, dark: bool) -> str:
    """Return the legend of token heat maps as self-contained HTML: what the colours mean, and the values at both ends.

    Args:
        paint: The value that is painted, with its scale.
        dark: Whether the page is dark.
    """
    unit = f" {paint.kind.unit}" if paint.kind.unit else ""
    meaning = f"<b>{markup(paint.kind.symbol)}</b> {markup(paint.kind.meaning)}"
    if paint.drawn:
        return f'{STYLE}<div class="heat-legend">{meaning}</div>'
    low, high = _colour(-paint.limit, paint.limit, dark), _colour(paint.limit, paint.limit, dark)
    bar = f'<div class="bar" style="background: linear-gradient(to right, {low}, transparent, {high})"></div>'
    ends = (f"−{paint.limit:.3g} and less", f"0 to +{paint.limit:.3g}{markup(unit)} and more")
    return f'{STYLE}<div class="heat-legend"><span>{ends[0]}</span>{bar}<span>{ends[1]}</span><span>{meaning}</span></div>'


def _span(piece: Piece, values: np.ndarray, paint: Paint, side: str, dark: bool) -> str:
    places = range(piece.first, min(piece.last + 1, len(values)))
    colours = [_drawn(values[i], side, dark) if paint.drawn else _colour(values[i], paint.limit, dark) for i in places]
    title = "\n".join(_words(i, values[i], paint, len(values)) for i in places)
    kind = ' class="special"' if piece.special else ""
    return f'<span{kind} style="background: {_striped(colours)}" title="{markup(title)}">{_visible(piece.text)}</span>'


def _visible(text: str) -> str:
    """Escape a text; a line break is shown as a sign and breaks the line."""
    return markup(text.replace("\r", "")).replace("\n", '<i class="blank">⏎</i>\n')


def _words(place: int, value: float, paint: Paint, count: int) -> str:
    where = f"token {place + 1} of {count}"
    if paint.drawn:
        return f"{where}: {'in the pilot' if value else 'not in the pilot'}"
    return f"{where}: {paint.kind.title.lower()} {value:+.4g} {paint.kind.unit}".rstrip()


def _striped(colours: Sequence[str]) -> str:
    if len(colours) == 1:
        return colours[0]
    stops = [f"{colour} {100 * i / len(colours):.1f}% {100 * (i + 1) / len(colours):.1f}%" for i, colour in enumerate(colours)]
    return f"linear-gradient(to right, {', '.join(stops)})"


def _colour(value: float, limit: float, dark: bool) -> str:
    if not np.isfinite(value):
        return "repeating-linear-gradient(45deg, #888 0 2px, transparent 2px 5px)"
    share = min(1.0, abs(value) / limit)
    return translucent(LIGHT.chosen if value >= 0 else LIGHT.rejected, round(OPACITY[dark] * share, 3))


def _drawn(value: float, side: str, dark: bool) -> str:
    return translucent(LIGHT.chosen if side == "chosen" else LIGHT.rejected, OPACITY[dark] if value else 0)
