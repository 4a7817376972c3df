"""An answer painted on its tokens: numbers on hover, nothing in the data is markup, a character of several tokens is striped."""

from __future__ import annotations

import re

import numpy as np

from app.widgets.heat import answer_html, legend_html
from lab.plots import KINDS, Paint
from lab.policy.text.pieces import Piece

HOSTILE = "<img src=x onerror=alert(1)> \"quoted\" & 'x'"


def painting(values: list[float], limit: float = 1.0, drawn: bool = False) -> Paint:
    kind = KINDS["pilot" if drawn else "log_ratio"]
    return Paint(kind, {"chosen": np.array(values), "rejected": np.array(values)}, limit, drawn)


def spans(html: str) -> list[str]:
    return re.findall(r"<span.*?</span>", html, re.DOTALL)


def test_numbers_stand_in_the_title_and_colours_are_symmetric_at_nothing() -> None:
    html = answer_html([Piece("a", 0, 0), Piece("b", 1, 1), Piece("c", 2, 2)], painting([0.5, 0.0, -5.0]), "chosen", False)
    one, other, third = spans(html)
    assert 'title="token 1 of 3: log-ratio +0.5 nats"' in one
    assert "rgba(0,114,178,0.35)" in one
    assert "rgba(0,114,178,0.0)" in other
    assert "rgba(213,94,0,0.7)" in third, "beyond the limit the colour is the strongest"


def test_text_is_escaped() -> None:
    html = answer_html([Piece(HOSTILE, 0, 0), Piece("</s>", 1, 1, True)], painting([1.0, 0.0]), "chosen", True)
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert 'class="special"' in html
    assert "&lt;/s&gt;" in html


def test_a_character_of_several_tokens_is_striped() -> None:
    (span,) = spans(answer_html([Piece("🙂", 0, 3)], painting([1.0, -1.0, 0.0, np.nan]), "chosen", False))
    assert "linear-gradient(to right" in span
    assert span.count("token ") == 4
    assert span.count("🙂") == 1


def test_a_line_break_is_seen_and_breaks_the_line() -> None:
    assert "⏎</i>\n" in answer_html([Piece("\n", 0, 0)], painting([1.0]), "chosen", False)


def test_the_pilot_and_the_legends() -> None:
    drawn = painting([1.0, 0.0], drawn=True)
    one, other = spans(answer_html([Piece("a", 0, 0), Piece("b", 1, 1)], drawn, "rejected", False))
    assert "in the pilot" in one
    assert "rgba(213,94,0,0.7)" in one
    assert "not in the pilot" in other
    assert "drawn at random" in legend_html(drawn, False)
    legend = legend_html(painting([1.0], limit=0.25), False)
    assert "−0.25 and less" in legend
    assert "+0.25 nats and more" in legend
