"""The tokens of an answer as HTML: the ones that the pilot drew, or how hard the loss pushes each. All text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Protocol

import numpy as np

from lab.plots.style import LIGHT, translucent


class Piece(Protocol):
    """A stretch of text and the places of its first and last token, as `lab.policy.text.pieces` cuts an answer."""

    @property
    def text(self) -> str: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def special(self) -> bool: ...


COLOURS = {"chosen": LIGHT.chosen, "rejected": LIGHT.rejected}
"""Laid over the text translucently, so that they do on a light page and on a dark one."""


def _rule(selector: str, side: str) -> str:
    return f"{selector} {{background: {translucent(COLOURS[side], 0.35)}; border-bottom: 2px solid {COLOURS[side]};}}"


STYLE = f"""<style>
.lab-tokens {{white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22rem; overflow-y: auto; line-height: 1.75;}}
.lab-tokens span, .lab-legend span {{border-radius: 3px; padding: 1px 0;}}
.lab-tokens .special {{font-family: monospace; font-size: 0.85em;}}
.lab-legend {{font-size: 0.85rem;}}
.lab-legend span {{padding: 1px 6px;}}
{_rule(".lab-tokens.chosen .drawn, .lab-legend .chosen", "chosen")}
{_rule(".lab-tokens.rejected .drawn, .lab-legend .rejected", "rejected")}
</style>"""


def painted(
    pieces: Sequence[Piece], side: str, *, pilot: np.ndarray | None, log_ratio: np.ndarray | None, credit: np.ndarray
) -> str:
    """One answer, a <span> for each piece, whose title says log-ratio and credit of its tokens when the mouse rests on it.

    side: "chosen" or "rejected".   pilot: bool [T], the tokens that were drawn, which get a background; None: the background
    is the token's credit, the strongest one of the answer full.   log_ratio: [T] nats, None without a reference.
    credit: [T], per nat.
    """
    strongest = float(np.max(np.abs(credit), where=np.isfinite(credit), initial=0.0)) or 1.0
    return (
        f'{STYLE}<div class="lab-tokens {side}">'
        + "".join(_span(piece, side, pilot, log_ratio, credit, strongest) for piece in pieces)
        + "</div>"
    )


def _span(
    piece: Piece, side: str, pilot: np.ndarray | None, log_ratio: np.ndarray | None, credit: np.ndarray, strongest: float
) -> str:
    own = slice(piece.first, piece.last + 1)
    drawn = pilot is not None and bool(pilot[own].any())
    message = []
    if pilot is not None:
        message.append("drawn by the pilot" if drawn else "not drawn")
    if log_ratio is not None:
        message.append(f"log-ratio {np.sum(log_ratio[own]):+.3f} nats")
    message.append(f"credit {np.sum(credit[own]):+.4f}")
    if piece.last > piece.first:
        message.append(f"{piece.last - piece.first + 1} tokens")
    kinds = " ".join(kind for kind, true in (("drawn", drawn), ("special", piece.special)) if true)
    style = ""
    if pilot is None:
        share = float(np.abs(np.nan_to_num(np.sum(credit[own])))) / strongest
        style = f' style="background: {translucent(COLOURS[side], round(min(share, 1.0) * 0.5, 3))}"'
    title = escape(", ".join(message), quote=True)
    return f'<span class="{kinds}"{style} title="{title}">{escape(piece.text, quote=True)}</span>'


def legend(pilot: bool) -> str:
    """What the colours mean, as HTML."""
    if pilot:
        message = (
            'Marked: the tokens that the pilot drew at this step, of the <span class="chosen">chosen</span> and of the '
            '<span class="rejected">rejected</span> answer. Their log-ratios sum to log Y₁ and log Y₂; every step draws anew.'
        )
    else:
        message = (
            'The stronger the colour, the harder the loss pushes this token: <span class="chosen">chosen</span> up, '
            '<span class="rejected">rejected</span> down. This objective has no pilot; token credit is −∂L/∂log π of a token.'
        )
    return f'{STYLE}<div class="lab-legend">{message}</div>'


def token_values(row: Any) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """pilot, log-ratio and credit of a row of `TokenReader.read`; None where the run has no such thing."""
    log_ratio = None if row.ref_logps is None else row.logps - row.ref_logps
    return row.pilot, log_ratio, row.credit
