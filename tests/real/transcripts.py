"""Pairs in the layout of HH-RLHF: two whole transcripts that differ in their last answer."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from pathlib import Path
from typing import Any

TURN = re.compile(r"\n\n(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}

THINGS = (
    "a sourdough loaf",
    "a tomato plant",
    "a wooden shelf",
    "a paper kite",
    "a garden pond",
    "a woollen scarf",
    "a bird box",
    "a stew",
)
QUESTIONS = ("How do I begin with {}?", "What do I need for {}?", "What goes wrong most often with {}?", "How long does {} take?")
GOOD = (
    "Begin small: get what you need together, read the steps once from start to end, and leave yourself an unhurried hour.",
    "Less than most lists say. Good light, clean hands, a little patience, and one person to ask when you are stuck.",
)
BAD = ("No idea.", "Ask somebody else, I am busy with other things at the moment.", "It does not matter, just buy one.")


def own_transcripts(count: int = 64) -> list[dict[str, str]]:
    """Harmless pairs of this project's own, in the same layout; every second one has an earlier exchange."""
    rows = []
    for number, (thing, question) in enumerate(itertools.islice(itertools.cycle(itertools.product(THINGS, QUESTIONS)), count)):
        before = f"\n\nHuman: Hello, number {number}.\n\nAssistant: Hello! What can I do for you?" if number % 2 else ""
        start = f"{before}\n\nHuman: {question.format(thing)}\n\nAssistant:"
        rows.append({"chosen": f"{start} {GOOD[number % 2]}", "rejected": f"{start} {BAD[number % 3]}"})
    return rows


def read_transcripts(path: Path) -> list[dict[str, str]]:
    """The rows of a JSON Lines file, packed or not."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def as_pairs(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Conversational pairs of the transcripts that share all turns but the last; those with an empty answer are left out."""
    pairs = []
    for row in rows:
        chosen, rejected = turns(row["chosen"]), turns(row["rejected"])
        alike = chosen[:-1] == rejected[:-1] and chosen[:-1] and chosen[-2]["role"] == "user"
        answers = (chosen[-1:], rejected[-1:])
        if alike and all(a[0]["role"] == "assistant" and a[0]["content"] for a in answers) and answers[0] != answers[1]:
            pairs.append({"prompt": chosen[:-1], "chosen": answers[0], "rejected": answers[1]})
    return pairs


def turns(transcript: str) -> list[dict[str, str]]:
    """The turns of a transcript as messages."""
    _, *parts = TURN.split(transcript)
    return [{"role": ROLES[role], "content": text.strip()} for role, text in zip(parts[::2], parts[1::2])]
