"""The oracle: the reward of an answer to a prompt, with reasons, for any two strings.

It splits the answer into sentences, looks each up among the sentences of the world, and adds up the weights of the world's kind.
Nothing is learned, so every number can be checked by hand.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .kinds import PLAIN, Kind
from .language import TASKS, Task
from .tasks import BAD_TIPS, FILLERS, OFF_TOPIC, POLITE_CLOSINGS, POLITE_OPENINGS, RUDE_CLOSINGS, RUDE_OPENINGS

_NUMBERING = re.compile(r"(?:(?<=\s)|^)\d{1,2}[.)](?=\s)")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_CONNECTIVE = re.compile(r"^(?:first|then|next|after that|finally), ")


@dataclass(frozen=True)
class Score:
    """Reward of an answer, with its parts and reasons.

    total:   Sum of the parts, at least the kind's floor and at most its best.
    parts:   Reward by part: "steps", "explained" where the kind has explanations, and every name in its weights (0 where it
             does not occur).
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


def score(prompt: str, answer: str, kind: Kind = PLAIN) -> Score:
    """Compute the reward of an answer to a prompt, for any two strings, in time linear in their length.

    Style does not count: numbering, line breaks and "First, ... Then, ..." are ignored. A question that the world does not have
    has no right steps, so every step is off the question. An explanation counts as explained directly after its right step, and
    as misplaced anywhere else, also after the wrong version of its step.
    """
    task = task_of(prompt)
    sentences = list(_sentences(answer))
    last = len(sentences) - 1
    parsed = [_part(sentence, task, kind, first=i == 0, last=i == last) for i, sentence in enumerate(sentences)]
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    right: list[int] = []
    wrong: dict[int, str] = {}
    polite: list[str] = []
    before = ("", -1)
    for sentence, (part, number) in zip(sentences, parsed):
        if part in ("right", "courtesy", "why") and sentence in seen:
            counts["repeated"] += 1
        elif part == "right":
            right.append(number)
        elif part == "why":
            counts["explained" if before == ("right", number) else "misplaced"] += 1
        else:
            counts[part] += 1
            if part == "wrong":
                wrong[number] = sentence
            elif part == "courtesy":
                polite.append(("opening", "closing")[number])
        seen.add(sentence)
        before = (part, number)
    counts["out_of_order"] = len(right) - _longest_rising(right)
    counts["empty"] = int(not sentences)
    total_steps = len(task.right) if task else 0
    parts = {"steps": kind.all_steps * len(right) / total_steps if total_steps else 0.0}
    if kind.all_explained is not None:
        parts["explained"] = kind.all_explained * counts["explained"] / total_steps if total_steps else 0.0
    parts |= {name: weight * counts[name] for name, weight in kind.weights.items()}
    missing = [n for n in range(total_steps) if n not in right and n not in wrong]
    defects = tuple(_defects(counts, parsed, missing, wrong, total_steps))
    merits = tuple(_merits(polite, len(right), total_steps, counts))
    total, valid = round(max(kind.floor, sum(parts.values())), 6), bool(sentences) and not counts["unreadable"]
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
def _known(kind: Kind) -> dict[str, str]:
    """Part of every sentence of the world; for the steps of the task at hand see `_steps`."""
    why = () if kind.all_explained is None else tuple(reason for task in TASKS for reason in task.why)
    parts = {
        "opening": POLITE_OPENINGS,
        "closing": POLITE_CLOSINGS,
        "rude": RUDE_OPENINGS + RUDE_CLOSINGS,
        "filler": FILLERS,
        "off_question": OFF_TOPIC + tuple(step for task in TASKS for step in task.right + task.wrong) + why,
        "bad_tip": BAD_TIPS,
    }
    return {sentence.casefold(): part for part, sentences in parts.items() for sentence in sentences}


@cache
def _steps(task: Task, kind: Kind) -> dict[str, tuple[str, int]]:
    parts = {"right": task.right, "wrong": task.wrong} | ({} if kind.all_explained is None else {"why": task.why})
    return {text.casefold(): (part, number) for part, texts in parts.items() for number, text in enumerate(texts)}


def _sentences(answer: str) -> Iterator[str]:
    """Sentences in lower case, without numbering, connectives and extra spaces; punctuation alone counts as a sentence."""
    for match in _SENTENCE.finditer(_NUMBERING.sub("", answer.casefold())):
        sentence = " ".join(match.group().split())
        if sentence:
            yield _CONNECTIVE.sub("", sentence)


def _part(sentence: str, task: Task | None, kind: Kind, *, first: bool, last: bool) -> tuple[str, int]:
    """Part that a sentence counts for, and the number of its step (of courtesy 0 for an opening, 1 for a closing; else -1)."""
    if task and sentence in _steps(task, kind):
        return _steps(task, kind)[sentence]
    part = _known(kind).get(sentence, "unreadable")
    if part in ("opening", "closing"):
        # Courtesy in the wrong place counts as filler.
        in_place = first if part == "opening" else last
        return ("courtesy", int(part == "closing")) if in_place else ("filler", -1)
    return part, -1


def _longest_rising(numbers: list[int]) -> int:
    tails: list[int] = []
    for number in numbers:
        at = bisect_left(tails, number)
        tails[at : at + 1] = [number]
    return len(tails)


def _defects(
    counts: Counter[str],
    parsed: list[tuple[str, int]],
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
        ends = [name for at, name in ((0, "opening"), (-1, "closing")) if parsed[at][0] == "rude"]
        yield f"a rude {' and '.join(ends[: counts['rude']])}" if ends else "a rude remark"
    for name, one, many in (
        ("misplaced", "an explanation without its step", f"{counts['misplaced']} explanations without their steps"),
        ("filler", "idle talk", "much idle talk"),
        ("off_question", "a sentence off the question", f"{counts['off_question']} sentences off the question"),
        ("bad_tip", "a bad tip", "bad tips"),
        ("unreadable", "an unreadable sentence", f"{counts['unreadable']} unreadable sentences"),
    ):
        if counts[name]:
            yield one if counts[name] == 1 else many


def _merits(polite: list[str], right: int, total_steps: int, counts: Counter[str]) -> Iterator[str]:
    if total_steps and right == total_steps:
        yield f"all {total_steps} steps" + ("" if counts["out_of_order"] else " in order")
    elif right:
        yield f"{right} of {total_steps} steps right"
    if counts["explained"]:
        yield "one of them explained" if counts["explained"] == 1 else f"{counts['explained']} of them explained"
    if polite:
        yield f"a polite {' and '.join(polite)}"


def _list_steps(numbers: list[int]) -> str:
    steps = [str(number + 1) for number in numbers]
    if len(steps) == 1:
        return f"step {steps[0]} is"
    return f"steps {', '.join(steps[:-1])} and {steps[-1]} are"
