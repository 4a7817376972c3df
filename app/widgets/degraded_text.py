"""A degraded answer (SPO) as HTML: the intact text with its removed phrases struck out."""

from __future__ import annotations

from collections.abc import Sequence

from app.text.plain import markup

STYLE = """<style>
.degraded {white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; max-height: 20rem; overflow-y: auto;}
.degraded del {background: #d55e0033; text-decoration: line-through 2px #d55e00; border-radius: 2px;}
</style>"""


def marked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the text as HTML with the spans struck out."""
    parts, at = [], 0
    for start, end in spans:
        parts += [markup(text[at:start]), f"<del>{markup(text[start:end])}</del>"]
        at = end
    return f'{STYLE}<div class="degraded">{"".join(parts)}{markup(text[at:])}</div>'
