"""The world's language: tasks, questions, and answers of any quality.

An answer starts as a perfect draft to which defects are added, so its defects are known by construction.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle

from .kinds import PLAIN, Kind
from .tasks import (
    BAD_TIPS,
    FILLERS,
    GROUPS,
    OFF_TOPIC,
    POLITE_CLOSINGS,
    POLITE_OPENINGS,
    RUDE_CLOSINGS,
    RUDE_OPENINGS,
    Group,
    Method,
)

STYLES = ("plain", "numbered", "worded")


@dataclass(frozen=True)
class Task:
    """One method applied to one thing, for example to clean a kettle with vinegar."""

    group: Group
    method: Method
    thing: str

    @property
    def ask(self) -> str:
        """The task as a question contains it: "clean a kettle with vinegar"."""
        return self.method.ask.format(a=self.group.article + self.thing)

    @property
    def right(self) -> tuple[str, ...]:
        """The right steps, in order."""
        return tuple(step.right.format(o=self.thing) for step in self.method.steps)

    @property
    def wrong(self) -> tuple[str, ...]:
        """The wrong version of each step, in the same order."""
        return tuple(step.wrong.format(o=self.thing) for step in self.method.steps)

    @property
    def why(self) -> tuple[str, ...]:
        """The explanation of each right step, in the same order."""
        return tuple(step.why.format(o=self.thing) for step in self.method.steps)

    def question(self, phrasing: str) -> str:
        """Return the prompt, one line that ends with a line break."""
        return phrasing.format(task=self.ask) + "\n"


TASKS = tuple(Task(group, method, thing) for group in GROUPS for method in group.methods for thing in group.things)


def split_tasks(rng: random.Random) -> tuple[list[Task], list[Task]]:
    """Split the tasks into (training tasks, held-out tasks).

    Each method has one held-out thing, a different one within its group, so that a held-out task is a new combination of a
    method and a thing that both occur in training.
    """
    held_out = set()
    for group in GROUPS:
        for method, thing in zip(group.methods, rng.sample(group.things, len(group.methods))):
            held_out.add(Task(group, method, thing))
    return [t for t in TASKS if t not in held_out], [t for t in TASKS if t in held_out]


@dataclass(frozen=True)
class Draft:
    """An answer as lists of sentences: before the steps, the steps, and after them."""

    before: tuple[str, ...]
    steps: tuple[str, ...]
    after: tuple[str, ...]

    def text(self, style: str) -> str:
        """Write the answer as "plain" sentences, a "numbered" list, or "worded" (First, ... Then, ... Finally, ...)."""
        if style == "numbered":
            lines = [f"{number}. {step}" for number, step in enumerate(self.steps, 1)]
            return "\n".join(
                [*([" ".join(self.before)] if self.before else []), *lines, *([" ".join(self.after)] if self.after else [])]
            )
        steps = _worded(self.steps) if style == "worded" else self.steps
        return " ".join((*self.before, *steps, *self.after))


def _worded(steps: tuple[str, ...]) -> list[str]:
    middle = cycle(("Then", "Next", "After that"))
    last = len(steps) - 1
    starts = ["First" if i == 0 else "Finally" if i == last else next(middle) for i in range(len(steps))]
    return [f"{start}, {step[0].lower()}{step[1:]}" for start, step in zip(starts, steps)]


def perfect(task: Task, rng: random.Random) -> Draft:
    """Return the draft with every right step in order, a polite opening and a polite closing."""
    return Draft((rng.choice(POLITE_OPENINGS),), task.right, (rng.choice(POLITE_CLOSINGS),))


def _missing(draft: Draft, task: Task, rng: random.Random) -> Draft:
    at = rng.randrange(len(draft.steps))
    return replace(draft, steps=draft.steps[:at] + draft.steps[at + 1 :]) if len(draft.steps) > 1 else draft


def _wrong(draft: Draft, task: Task, rng: random.Random) -> Draft:
    right = [i for i, step in enumerate(draft.steps) if step in task.right]
    if not right:
        return draft
    at = rng.choice(right)
    wrong = task.wrong[task.right.index(draft.steps[at])]
    return replace(draft, steps=(*draft.steps[:at], wrong, *draft.steps[at + 1 :]))


def _repeated(draft: Draft, task: Task, rng: random.Random) -> Draft:
    at = rng.randrange(len(draft.steps))
    to = rng.randint(at + 1, len(draft.steps))
    return replace(draft, steps=(*draft.steps[:to], draft.steps[at], *draft.steps[to:]))


def _shuffled(draft: Draft, task: Task, rng: random.Random) -> Draft:
    if len(draft.steps) < 2:
        return draft
    steps = list(draft.steps)
    i, j = rng.sample(range(len(steps)), 2)
    steps[i], steps[j] = steps[j], steps[i]
    return replace(draft, steps=tuple(steps))


def _rude_opening(draft: Draft, task: Task, rng: random.Random) -> Draft:
    return replace(
        draft, before=(rng.choice(RUDE_OPENINGS), *(s for s in draft.before if s not in POLITE_OPENINGS + RUDE_OPENINGS))
    )


def _rude_closing(draft: Draft, task: Task, rng: random.Random) -> Draft:
    return replace(draft, after=(*(s for s in draft.after if s not in POLITE_CLOSINGS + RUDE_CLOSINGS), rng.choice(RUDE_CLOSINGS)))


def _filler(draft: Draft, task: Task, rng: random.Random) -> Draft:
    return replace(draft, before=(*draft.before, _new(FILLERS, draft.before, rng)))


def _off_topic(draft: Draft, task: Task, rng: random.Random) -> Draft:
    return replace(draft, after=(_new(OFF_TOPIC, draft.after, rng), *draft.after))


def _bad_tip(draft: Draft, task: Task, rng: random.Random) -> Draft:
    return replace(draft, after=(_new(BAD_TIPS, draft.after, rng), *draft.after))


def _new(sentences: tuple[str, ...], used: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([s for s in sentences if s not in used] or sentences)


Defect = Callable[[Draft, Task, random.Random], Draft]

DEFECTS: dict[str, tuple[Defect, float]] = {
    "missing step": (_missing, 3.0),
    "wrong step": (_wrong, 4.0),
    "repeated step": (_repeated, 1.0),
    "shuffled steps": (_shuffled, 1.5),
    "rude opening": (_rude_opening, 1.0),
    "rude closing": (_rude_closing, 1.0),
    "filler": (_filler, 1.0),
    "off topic": (_off_topic, 1.0),
    "bad tip": (_bad_tip, 1.0),
}
"""Every defect by name: the function that adds it to a draft, and its relative frequency."""


def explained(draft: Draft, task: Task, thoroughness: float, rng: random.Random) -> Draft:
    """Explain each step of a draft, right or wrong, with probability min(1, 3 thoroughness).

    Thoroughness becomes repetition: above 0.3, a step is repeated three times with probability 1.5 (thoroughness - 0.3).
    """
    for _ in range(3):
        if rng.random() < 1.5 * (thoroughness - 0.3):
            draft = _repeated(draft, task, rng)
    why = {step: reason for steps in (task.right, task.wrong) for step, reason in zip(steps, task.why)}
    steps = (f"{step} {why[step]}" if step in why and rng.random() < 3 * thoroughness else step for step in draft.steps)
    return replace(draft, steps=tuple(steps))


def write_answer(task: Task, quality: float, rng: random.Random, kind: Kind = PLAIN) -> str:
    """Write an answer of some quality in [0, 1], in a random style.

    The number of defects is binomial with `kind.most_defects` trials and probability 0.75 (1 - quality). The polite opening and
    the polite closing are each omitted, which is not a defect, with probability 0.6 (1 - quality). In a kind with explanations
    the thoroughness (see `explained`) is drawn from [0, 1], independently of the quality.
    """
    while True:
        draft = _draft(task, quality, rng, kind)
        if kind.all_explained is not None:
            draft = explained(draft, task, rng.random(), rng)
        answer = draft.text(rng.choice(STYLES))
        if kind.most_words is None or len(answer.split()) <= kind.most_words:
            return answer


def _draft(task: Task, quality: float, rng: random.Random, kind: Kind) -> Draft:
    draft = perfect(task, rng)
    if rng.random() < 0.6 * (1 - quality):
        draft = replace(draft, before=())
    if rng.random() < 0.6 * (1 - quality):
        draft = replace(draft, after=())
    count = sum(rng.random() < 0.75 * (1 - quality) for _ in range(kind.most_defects))
    for name in rng.choices(list(DEFECTS), [weight for _, weight in DEFECTS.values()], k=count):
        draft = DEFECTS[name][0](draft, task, rng)
    return draft
