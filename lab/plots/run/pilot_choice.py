"""Tokens of an answer as escaped HTML, coloured by the pilot's random choice or by token credit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Protocol

import numpy as np

from lab.plots.style import LIGHT, translucent


class Piece(Protocol):
    """A piece of text and the positions of its first and last token; see `lab.policy.text.pieces`."""

    @property
    def text(self) -> str:
        """The text."""

    @property
    def first(self) -> int:
        """Position of the first token."""

    @property
    def last(self) -> int:
        """Position of the last token."""

    @property
    def special(self) -> bool:
        """Whether it is a special token."""


COLOURS = {"chosen": LIGHT.chosen, "rejected": LIGHT.rejected}
"""Colours of the sides; drawn translucent, so that they suit light and dark pages."""


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
    """Return one answer as HTML with a <span> per piece, whose tooltip gives log-ratio and credit of its tokens.

    Args:
        pieces: Pieces of the answer.
        side: "chosen" or "rejected".
        pilot: Tokens drawn by the pilot, bool [T], which get a background. None: the background shows the credit, relative to the
            largest one of the answer.
        log_ratio: [T], in nats; None without a reference.
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
    """Return the legend of the colours as HTML."""
    if pilot:
        message = (
            'Marked: the tokens that the pilot drew at this step, of the <span class="chosen">chosen</span> and of the '
            '<span class="rejected">rejected</span> answer. Their log-ratios sum to log Y₁ and log Y₂; every step draws new ones.'
        )
    else:
        message = (
            'The stronger the colour, the harder the loss pushes this token: <span class="chosen">chosen</span> up, '
            '<span class="rejected">rejected</span> down. This objective has no pilot; token credit is −∂L/∂log π of a token.'
        )
    return f'{STYLE}<div class="lab-legend">{message}</div>'


def token_values(row: Any) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Return pilot, log-ratio and credit of a row of `TokenReader.read`; None if the run does not record them."""
    log_ratio = None if row.ref_logps is None else row.logps - row.ref_logps
    return row.pilot, log_ratio, row.credit
