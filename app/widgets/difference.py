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
</style>"""


def answers_html(chosen: str, rejected: str) -> tuple[str, str]:
    """Return both answers as HTML, with <mark> around text that only one of them has; unmarked if an answer is too long."""
    sides = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (chosen, rejected)]
    if any(len(side) > LONGEST for side in sides):
        return _box("chosen", markup(chosen)), _box("rejected", markup(rejected))
    blocks = difflib.SequenceMatcher(None, sides[0], sides[1], autojunk=False).get_opcodes()
    marked: list[list[str]] = [[], []]
    for kind, *limits in blocks:
        for side, (first, last) in enumerate((limits[:2], limits[2:])):
            text = markup("".join(sides[side][first:last]))
            marked[side].append(f"<mark>{text}</mark>" if kind != "equal" and text.strip() else text)
    return _box("chosen", "".join(marked[0])), _box("rejected", "".join(marked[1]))


def _box(side: str, content: str) -> str:
    return f'{STYLE}<div class="answer {side}">{content}</div>'
