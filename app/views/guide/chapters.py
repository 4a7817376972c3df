"""The user guide in `app/guide/*.md`, cut into chapters and sections, and a search over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "guide"

ORDER = (
    "getting-started",
    "live",
    "inspect",
    "new-run",
    "runs",
    "compare",
    "experiments",
    "pairs",
    "learn",
    "teaching",
    "solutions",
    "library",
    "command-line",
    "objectives",
    "data",
    "training",
    "resume-and-branch",
    "evaluation",
    "diagnosis",
    "export",
    "gpus",
    "run-folders",
    "measurements",
    "glossary",
)
"""Chapters as they are read: the names of their files."""

EXCERPT = 80
"""Characters on either side of a match in a search result."""

_LINK = re.compile(r"\]\(([a-z-]+)\.md(?:#([a-z0-9-]+))?\)")


@dataclass(frozen=True)
class Section:
    """A heading of a chapter with the text below it.

    Attributes:
        chapter: Name of the chapter.
        title: The heading.
        anchor: The heading as a part of an address, as GitHub writes it; "" for the chapter's own heading.
        text: Markdown.
    """

    chapter: str
    title: str
    anchor: str
    text: str


@dataclass(frozen=True)
class Hit:
    """A section that contains the text searched for; `excerpt` is the plain text around the match."""

    section: Section
    excerpt: str


@cache
def chapter(name: str) -> tuple[Section, ...]:
    """Read a chapter; its first section is the text below its own heading. Raises KeyError for an unknown name."""
    if name not in ORDER:
        raise KeyError(name)
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return tuple(_sections(name, text))


def search(text: str) -> list[Hit]:
    """Return the sections that contain a text, ignoring case; those with the text in their heading first."""
    wanted = " ".join(text.split()).casefold()
    if not wanted:
        return []
    in_heading, in_text = [], []
    for name in ORDER:
        for section in chapter(name):
            plain = " ".join(re.sub(r"[*`|]|---+|\]\([^)]*\)|\[", " ", section.text.replace("\\", "")).split())
            at = plain.casefold().find(wanted)
            if wanted in section.title.casefold():
                in_heading.append(Hit(section, _excerpt(plain, max(at, 0))))
            elif at >= 0:
                in_text.append(Hit(section, _excerpt(plain, at)))
    return in_heading + in_text


def _excerpt(plain: str, at: int) -> str:
    begin, end = max(0, at - EXCERPT), at + EXCERPT
    return f"{'... ' if begin else ''}{plain[begin:end].strip()}{' ...' if end < len(plain) else ''}"


def _sections(name: str, text: str) -> Iterator[Section]:
    """Cut a chapter at its headings of the first and second level, outside of code."""
    title, anchor, lines, in_code = "", "", list[str](), False
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        heading = None if in_code else re.match(r"##? (.+)", line)
        if heading is None:
            lines.append(line)
            continue
        if title:
            yield Section(name, title, anchor, _with_links(_fenced(lines)))
        title, lines = heading[1], []
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") if line.startswith("## ") else ""
    yield Section(name, title, anchor, _with_links(_fenced(lines)))


def _fenced(lines: list[str]) -> str:
    """Return text in which indented code is fenced: Streamlit strips the spaces before a text, and with them the first line's."""
    out, indented, in_code = list[str](), False, False
    for line in lines:
        in_code ^= line.startswith("```")
        code = line.startswith("    ") and not in_code
        if code != indented:
            out.append("```text" if code else "```")
            indented = code
        out.append(line[4:] if code else line)
    return "\n".join([*out, *(["```"] if indented else [])])


def _with_links(text: str) -> str:
    """Point links between the files at the Guide page."""
    return _LINK.sub(lambda link: f"](guide?chapter={link[1]}{f'&section={link[2]}' if link[2] else ''})", text)
