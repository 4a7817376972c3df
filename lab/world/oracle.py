"""The oracle: the reward of an answer to a prompt, with reasons, for any two strings.

It splits the answer into sentences, looks each up among the sentences of the world, and adds up their weights. Nothing is learned,
so every number can be checked by hand.
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
"""Reward of a complete list of right steps; each step has an equal share."""

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
"""Highest and lowest total; lower sums are raised to `FLOOR`."""

_NUMBERING = re.compile(r"(?:(?<=\s)|^)\d{1,2}[.)](?=\s)")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_CONNECTIVE = re.compile(r"^(?:first|then|next|after that|finally), ")


@dataclass(frozen=True)
class Score:
    """Reward of an answer, with its parts and reasons.

    total:   Sum of the parts, at least `FLOOR` and at most `BEST`.
    parts:   Reward by part: "steps" and every name in `WEIGHTS` (0 where it does not occur).
    valid:   Whether the answer is not empty and every sentence belongs to the language.
    defects, merits: The reasons as short texts.
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
    """Compute the reward of an answer to a prompt, for any two strings, in time linear in their length.

    Style does not count: numbering, line breaks and "First, ... Then, ..." are ignored. A question that the world does not have
    has no right steps, so every step is off the question.
    """
    task = task_of(prompt)
    sentences = list(_sentences(answer))
    kinds = [_kind(sentence, task, first=i == 0, last=i == len(sentences) - 1) for i, sentence in enumerate(sentences)]
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    right: list[int] = []
    wrong: dict[int, str] = {}
    polite: list[str] = []
    for sentence, (kind, number) in zip(sentences, kinds):
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
    counts["empty"] = int(not sentences)
    total_steps = len(task.right) if task else 0
    parts = {"steps": ALL_STEPS * len(right) / total_steps if total_steps else 0.0}
    parts |= {name: weight * counts[name] for name, weight in WEIGHTS.items()}
    missing = [n for n in range(total_steps) if n not in right and n not in wrong]
    defects = tuple(_defects(counts, kinds, missing, wrong, total_steps))
    merits = tuple(_merits(polite, len(right), total_steps, counts["out_of_order"]))
    total, valid = round(max(FLOOR, sum(parts.values())), 6), bool(sentences) and not counts["unreadable"]
    return Score(total, parts, valid, defects, merits)


def task_of(prompt: str) -> Task | None:
    """Return the task that a prompt contains, whatever the text around it; None where it contains none."""
    pattern, tasks = _asks()
    match = pattern.search(" ".join(prompt.split()).casefold())
    return tasks[match.group()] if match else None


@cache
def _asks() -> tuple[re.Pattern[str], dict[str, Task]]:
    asks = {task.ask.casefold(): task for task in TASKS}
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(asks, key=len, reverse=True))) + r")\b"), asks


@cache
def _known() -> dict[str, str]:
    """Kind of every sentence of the world; for the steps of the task at hand see `_steps`."""
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
    """Sentences in lower case, without numbering, connectives and extra spaces; punctuation alone counts as a sentence."""
    for match in _SENTENCE.finditer(_NUMBERING.sub("", answer.casefold())):
        sentence = " ".join(match.group().split())
        if sentence:
            yield _CONNECTIVE.sub("", sentence)


def _kind(sentence: str, task: Task | None, *, first: bool, last: bool) -> tuple[str, int]:
    """Part that a sentence counts for, and the number of its step (of courtesy 0 for an opening, 1 for a closing; else -1)."""
    if task and sentence in _steps(task):
        return _steps(task)[sentence]
    kind = _known().get(sentence, "unreadable")
    if kind in ("opening", "closing"):
        # Courtesy in the wrong place counts as filler.
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
    steps = [str(number + 1) for number in numbers]
    if len(steps) == 1:
        return f"step {steps[0]} is"
    return f"steps {', '.join(steps[:-1])} and {steps[-1]} are"
