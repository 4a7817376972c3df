"""The pilot's choice, painted on the text of an answer."""

from __future__ import annotations

import html
import re

import numpy as np

from lab.plots.run.pilot_choice import legend, painted
from lab.policy.text.pieces import Piece

PIECES = [Piece("<b>Stir", 0, 0), Piece(" & wait", 1, 2), Piece("</s>", 3, 3, special=True)]
CREDIT = np.array([0.1, 0.2, 0.2, -0.05])


def spans(page: str) -> list[tuple[str, str, str]]:
    """(classes, title, text) of every token."""
    return [
        (c, html.unescape(t), html.unescape(x)) for c, t, x in re.findall(r'<span class="(.*?)".*?title="(.*?)">(.*?)</span>', page)
    ]


def test_the_tokens_that_were_drawn_are_marked_and_say_their_numbers() -> None:
    pilot, log_ratio = np.array([True, False, False, True]), np.array([0.5, -1.0, 0.25, 0.0])
    page = painted(PIECES, "chosen", pilot=pilot, log_ratio=log_ratio, credit=CREDIT)
    assert spans(page) == [
        ("drawn", "drawn by the pilot, log-ratio +0.500 nats, credit +0.1000", "<b>Stir"),
        ("", "not drawn, log-ratio -0.750 nats, credit +0.4000, 2 tokens", " & wait"),
        ("drawn special", "drawn by the pilot, log-ratio +0.000 nats, credit -0.0500", "</s>"),
    ]
    assert "<b>" not in page.split("</style>")[1]


def test_without_a_pilot_the_colour_is_the_credit() -> None:
    page = painted(PIECES, "rejected", pilot=None, log_ratio=None, credit=CREDIT)
    assert [title for _, title, _ in spans(page)] == ["credit +0.1000", "credit +0.4000, 2 tokens", "credit -0.0500"]
    shades = [float(shade) for shade in re.findall(r"background: rgba\(213,94,0,([\d.]+)\)\" title", page)]
    assert shades[1] > shades[0] > shades[2] > 0
    assert "no pilot" in legend(False)
    assert "log Y₁" in legend(True)


def test_credit_that_is_not_finite_paints_nothing() -> None:
    page = painted(PIECES, "chosen", pilot=None, log_ratio=None, credit=np.array([np.nan, np.nan, np.nan, np.nan]))
    assert "rgba(0,114,178,0.0)" in page
