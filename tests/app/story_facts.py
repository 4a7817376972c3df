"""Numbers of a story's step computed with the library, and the check that no number in its text is left uncomputed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import pytest
import torch

from app.state.learn.learn_address import read_objective, read_state
from app.state.recipe import build_objective
from app.views.learn.stories import Step, load_stories
from lab.objectives import Objective, State, field, with_credit
from lab.teaching import PairNumbers, Plane, pair_logps, state_of

STORIES = {story.id: story for story in load_stories()}
NUMBER = re.compile(r"(?<![\w.])[−-]?\d(?:[\d,]*\d)?(?:\.\d+)?")
EVERYWHERE = [(float(x), float(y)) for x, y in product(range(-9, 10, 3), repeat=2)]
"""Points spread over the usual plane."""


def plane_of(step: Step) -> Plane:
    """The plane that the page shows at a step."""
    return read_state(step.state)[0].plane


def objective(step: Step, slot: str = "A") -> Objective:
    """The objective in a slot of the page."""
    return build_objective(read_objective(step.state[slot]))


def pairs_of(step: Step) -> tuple[PairNumbers, ...]:
    """The small batch of a step."""
    return plane_of(step).batch


def moved(pairs: Sequence[PairNumbers], pair: int, log_x1: float) -> list[PairNumbers]:
    """The batch with another log X₁ of one pair, counted from 1."""
    return [replace(numbers, log_x1=log_x1) if number == pair else numbers for number, numbers in enumerate(pairs, 1)]


def table(of: Objective, pairs: Sequence[PairNumbers]) -> dict[str, list[float]]:
    """Terms of every pair when the batch is the first one of a training."""
    batch = pair_logps(pairs, of)
    terms = with_credit(of, batch, of.initial_state(), {}, training=True).outcome.terms
    return {name: value.tolist() for name, value in terms.items()}


def statistics(step: Step, of: Objective) -> State:
    """Moving statistics after one training step on the small batch."""
    return state_of(of, pairs_of(step))


class Here:
    """Numbers of an objective at one point of the plane: loss, push_chosen, push_rejected, ratio, pushes."""

    def __init__(self, step: Step, of: Objective, point: tuple[float, float]) -> None:
        plane = plane_of(step)
        x1, x2 = (torch.tensor([value], dtype=torch.float64) for value in point)
        data = field(of, x1, x2, tokens=plane.tokens, ref=plane.ref, state=statistics(step, of))
        self.loss, self.ratio, self.pushes = (float(v[0, 0]) for v in (data.value, data.ratio, data.log_space_ratio))
        self.push_chosen, self.push_rejected = -float(data.d_log_x1[0, 0]), float(data.d_log_x2[0, 0])


def terms_at(step: Step, of: Objective, point: tuple[float, float]) -> dict[str, float]:
    """Terms of the pair at a point of the plane, in the step's lengths and reference."""
    plane = plane_of(step)
    pairs = pair_logps([PairNumbers(*point, plane.tokens, plane.ref)], of)
    draws = of.draw(pairs, torch.Generator().manual_seed(plane.seed))
    outcome = with_credit(of, pairs, statistics(step, of), draws, training=False).outcome
    return {name: float(value[0]) for name, value in outcome.terms.items()}


class Facts:
    """A step and the numbers in its text that no line of the test has computed yet."""

    def __init__(self, step: Step) -> None:
        self.step, self.right = step, step.choices[step.answer]
        self.text = " ".join((step.look, step.question, self.right, step.because))
        self.open = NUMBER.findall(self.text)

    def states(self, text: str, value: float) -> None:
        """Check that the text contains this number and that it is `value`, rounded."""
        self.given(text)
        digits = len(text.partition(".")[2])
        written = float(text.replace("−", "-").replace(",", ""))
        assert value == pytest.approx(written, abs=0.5 * 10**-digits + 1e-9), f"{text} in the text is {value:.6g}"

    def given(self, *texts: str) -> None:
        """Name numbers that are settings or instructions."""
        for text in texts:
            assert text in NUMBER.findall(self.text), f"{text} is not in the text"
            self.open = [number for number in self.open if number != text]

    def point(self, text: str) -> tuple[float, float]:
        """Return a point that the text names."""
        assert text in self.text
        numbers = NUMBER.findall(text)
        self.given(*numbers)
        one, other = (float(number.replace("−", "-")) for number in numbers)
        return one, other

    def at(self, text: str, slot: str = "A") -> Here:
        """Return the numbers of the objective in a slot at a point that the text names."""
        return Here(self.step, objective(self.step, slot), self.point(text))

    def answers(self, text: str) -> None:
        """Check that the right choice begins with this text."""
        assert self.right.startswith(text)


@contextmanager
def facts(story: str, number: int) -> Iterator[Facts]:
    checked = Facts(STORIES[story].steps[number - 1])
    yield checked
    assert checked.open == [], f"no line computes {checked.open}"
