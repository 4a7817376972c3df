"""The word-by-word difference of two answers as HTML, with all data escaped."""

from __future__ import annotations

import difflib
import re

from app.text.plain import markup

LONGEST = 3000
"""Most words and punctuation marks of an answer that is compared."""

STYLE = """<style>
.answer {white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26rem; overflow-y: auto; line-height: 1.5;}
.answer mark {color: inherit; text-decoration: underline; text-decoration-thickness: 2px; border-radius: 2px; padding: 0 1px;}
.answer.chosen mark {background: #0072b233; text-decoration-color: #0072b2;}
.answer.rejected mark {background: #d55e0033; text-decoration-color: #d55e00;}
.answer.first mark {background: #00916b33; text-decoration-color: #00916b;}
.answer.second mark {background: #b0608c33; text-decoration-color: #b0608c;}
</style>"""


def answers_html(one: str, other: str, kinds: tuple[str, str] = ("chosen", "rejected")) -> tuple[str, str]:
    """Return both answers as HTML, with <mark> around text that only one of them has; unmarked if an answer is too long.

    kinds: classes of the style that colour the marks: those of a pair, or first and second for answers of two runs.
    """
    sides = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (one, other)]
    if any(len(side) > LONGEST for side in sides):
        return _box(kinds[0], markup(one)), _box(kinds[1], markup(other))
    blocks = difflib.SequenceMatcher(None, sides[0], sides[1], autojunk=False).get_opcodes()
    marked: list[list[str]] = [[], []]
    for kind, *limits in blocks:
        for side, (first, last) in enumerate((limits[:2], limits[2:])):
            text = markup("".join(sides[side][first:last]))
            marked[side].append(f"<mark>{text}</mark>" if kind != "equal" and text.strip() else text)
    return _box(kinds[0], "".join(marked[0])), _box(kinds[1], "".join(marked[1]))


def answer_html(text: str) -> str:
    """Return an answer as HTML in the look of `answers_html`, without marks."""
    return _box("single", markup(text))


def _box(side: str, content: str) -> str:
    return f'{STYLE}<div class="answer {side}">{content}</div>'
