"""The oracle: what an answer is worth, and why, for any two strings.

It cuts the answer into sentences, looks each up among the sentences the world knows, and adds up what it finds.
There is nothing learned in it, so a person can check every number by hand.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .language import TASKS, Task
from .tasks import BAD_TIPS, FILLERS, OFF_TOPIC, POLITE_CLOSINGS, POLITE_OPENINGS, RUDE_CLOSINGS, RUDE_OPENINGS

ALL_STEPS = 4.0
"""Reward of a complete list of right steps; each step earns its share."""

WEIGHTS = {
    "out_of_order": -0.8,
    "wrong": -0.6,
    "repeated": -0.4,
    "off_question": -0.6,
    "filler": -0.4,
    "rude": -1.0,
    "bad_tip": -0.8,
    "courtesy": 0.5,
    "unreadable": -0.6,
    "empty": -1.0,
}
"""Reward of one occurrence of each part."""

BEST, FLOOR = ALL_STEPS + 2 * WEIGHTS["courtesy"], -4.0
"""The highest total there is, and the lowest: below it, worse is not told from bad."""

_NUMBERING = re.compile(r"(?:(?<=\s)|^)\d{1,2}[.)](?=\s)")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_CONNECTIVE = re.compile(r"^(?:first|then|next|after that|finally), ")


@dataclass(frozen=True)
class Score:
    """What an answer is worth.

    total:   sum of the parts, not below `FLOOR`; at most `BEST`.
    parts:   reward by part: "steps" and every name in `WEIGHTS` (0 where there is nothing of it).
    valid:   there is an answer, and every sentence of it belongs to the language.
    defects, merits: what is bad and what is good about it, in words.
    """

    total: float
    parts: dict[str, float]
    valid: bool
    defects: tuple[str, ...]
    merits: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Defects, then merits, in one line: "step 3 is missing; a rude closing"."""
        return "; ".join((*self.defects, *self.merits))


def score(prompt: str, answer: str) -> Score:
    """What `answer` is worth as an answer to `prompt`. Defined for all strings; linear in their length.

    Style is free: numbering, line breaks and "First, ... Then, ..." count for nothing. A question the world does not
    know has no right steps, so every step is off the question.
    """
    task = task_of(prompt)
    found = list(_sentences(answer))
    kinds = [_kind(sentence, task, first=i == 0, last=i == len(found) - 1) for i, sentence in enumerate(found)]
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    right: list[int] = []
    wrong: dict[int, str] = {}
    polite: list[str] = []
    for sentence, (kind, number) in zip(found, kinds):
        if kind in ("right", "courtesy") and sentence in seen:
            counts["repeated"] += 1
        elif kind == "right":
            right.append(number)
        else:
            counts[kind] += 1
            if kind == "wrong":
                wrong[number] = sentence
            elif kind == "courtesy":
                polite.append(("opening", "closing")[number])
        seen.add(sentence)
    counts["out_of_order"] = len(right) - _longest_rising(right)
    counts["empty"] = int(not found)
    total_steps = len(task.right) if task else 0
    parts = {"steps": ALL_STEPS * len(right) / total_steps if total_steps else 0.0}
    parts |= {name: weight * counts[name] for name, weight in WEIGHTS.items()}
    missing = [n for n in range(total_steps) if n not in right and n not in wrong]
    defects = tuple(_defects(counts, kinds, missing, wrong, total_steps))
    merits = tuple(_merits(polite, len(right), total_steps, counts["out_of_order"]))
    return Score(round(max(FLOOR, sum(parts.values())), 6), parts, bool(found) and not counts["unreadable"], defects, merits)


def task_of(prompt: str) -> Task | None:
    """The task a prompt asks for, in whatever words around it; None where the world knows none."""
    found = _asks()[0].search(" ".join(prompt.split()).casefold())
    return _asks()[1][found.group()] if found else None


@cache
def _asks() -> tuple[re.Pattern[str], dict[str, Task]]:
    asks = {task.ask.casefold(): task for task in TASKS}
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(asks, key=len, reverse=True))) + r")\b"), asks


@cache
def _known() -> dict[str, str]:
    """Kind of every sentence that means the same in any answer; steps are told by the task."""
    kinds = {
        "opening": POLITE_OPENINGS,
        "closing": POLITE_CLOSINGS,
        "rude": RUDE_OPENINGS + RUDE_CLOSINGS,
        "filler": FILLERS,
        "off_question": OFF_TOPIC + tuple(step for task in TASKS for step in task.right + task.wrong),
        "bad_tip": BAD_TIPS,
    }
    return {sentence.casefold(): kind for kind, sentences in kinds.items() for sentence in sentences}


@cache
def _steps(task: Task) -> dict[str, tuple[str, int]]:
    right = {step.casefold(): ("right", number) for number, step in enumerate(task.right)}
    return right | {step.casefold(): ("wrong", number) for number, step in enumerate(task.wrong)}


def _sentences(answer: str) -> Iterator[str]:
    """Sentences in lower case, without numbering, connectives and spare blanks; a piece of punctuation alone counts as one."""
    for found in _SENTENCE.finditer(_NUMBERING.sub("", answer.casefold())):
        sentence = " ".join(found.group().split())
        if sentence:
            yield _CONNECTIVE.sub("", sentence)


def _kind(sentence: str, task: Task | None, *, first: bool, last: bool) -> tuple[str, int]:
    """(part the sentence counts for, number of the step; of courtesy 0 for an opening, 1 for a closing; else -1)."""
    if task and sentence in _steps(task):
        return _steps(task)[sentence]
    kind = _known().get(sentence, "unreadable")
    if kind in ("opening", "closing"):
        # Courtesy in the wrong place is idle talk.
        in_place = first if kind == "opening" else last
        return ("courtesy", int(kind == "closing")) if in_place else ("filler", -1)
    return kind, -1


def _longest_rising(numbers: list[int]) -> int:
    tails: list[int] = []
    for number in numbers:
        at = bisect_left(tails, number)
        tails[at : at + 1] = [number]
    return len(tails)


def _defects(
    counts: Counter[str],
    kinds: list[tuple[str, int]],
    missing: list[int],
    wrong: dict[int, str],
    total_steps: int,
) -> Iterator[str]:
    if counts["empty"]:
        yield "it says nothing"
    if total_steps == 0:
        yield "the question is none the oracle knows"
    elif len(missing) == total_steps:
        yield "no step answers the question"
    elif missing:
        yield f"{_list_steps(missing)} missing"
    for number, sentence in sorted(wrong.items()):
        yield f'step {number + 1} is wrong ("{sentence[0].upper()}{sentence[1:]}")'
    if counts["out_of_order"]:
        yield "the steps are out of order"
    if counts["repeated"]:
        yield "a sentence comes twice" if counts["repeated"] == 1 else f"{counts['repeated']} sentences are repeated"
    if counts["rude"]:
        ends = [name for at, name in ((0, "opening"), (-1, "closing")) if kinds[at][0] == "rude"]
        yield f"a rude {' and '.join(ends[: counts['rude']])}" if ends else "a rude remark"
    for name, one, many in (
        ("filler", "idle talk", "much idle talk"),
        ("off_question", "a sentence off the question", f"{counts['off_question']} sentences off the question"),
        ("bad_tip", "a bad tip", "bad tips"),
        ("unreadable", "an unreadable sentence", f"{counts['unreadable']} unreadable sentences"),
    ):
        if counts[name]:
            yield one if counts[name] == 1 else many


def _merits(polite: list[str], right: int, total_steps: int, out_of_order: int) -> Iterator[str]:
    if total_steps and right == total_steps:
        yield f"all {total_steps} steps" + ("" if out_of_order else " in order")
    elif right:
        yield f"{right} of {total_steps} steps right"
    if polite:
        yield f"a polite {' and '.join(polite)}"


def _list_steps(numbers: list[int]) -> str:
    message = [str(number + 1) for number in numbers]
    if len(message) == 1:
        return f"step {message[0]} is"
    return f"steps {', '.join(message[:-1])} and {message[-1]} are"
