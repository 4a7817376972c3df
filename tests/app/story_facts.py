"""Numbers of a story's step computed with the library, and the check that no number in its text is left uncomputed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import pytest
import torch

from app.views.learn.stories import Step, load_stories
from app.views.playground.links import read_objective
from lab.objectives import Objective, PairLogps, State, field, make_objective, with_credit

STORIES = {story.id: story for story in load_stories()}
NUMBER = re.compile(r"(?<![\w.])[−-]?\d(?:[\d,]*\d)?(?:\.\d+)?")
EVERYWHERE = [(float(x), float(y)) for x, y in product(range(-9, 10, 3), repeat=2)]
"""Points spread over the usual plane."""


@dataclass(frozen=True)
class PlaneNumbers:
    """Ranges, lengths, reference and seed of the plane of a step."""

    log_x1: tuple[float, ...]
    log_x2: tuple[float, ...]
    tokens: tuple[int, ...]
    ref: tuple[float, ...]
    seed: int


def plane_of(step: Step) -> PlaneNumbers:
    """The plane of a step; what its state leaves out is as on the page."""

    def numbers(name: str, usual: str) -> tuple[float, ...]:
        return tuple(float(part) for part in step.state.get(name, usual).split(","))

    lengths = tuple(int(n) for n in numbers("tokens", "8,8"))
    ranges = numbers("log_x1", "-10,10"), numbers("log_x2", "-10,10")
    return PlaneNumbers(*ranges, lengths, numbers("ref", "-2,-2"), int(step.state.get("seed", "0")))


def objective(step: Step, slot: str = "A") -> Objective:
    """The objective in a slot of the page."""
    return make_objective(**read_objective(step.state[slot]))


def rows_of(step: Step) -> list[tuple[float, ...]]:
    return [tuple(float(number) for number in row.split(",")) for row in step.state["batch"].split(";")]


def batch_of(rows: list[tuple[float, ...]]) -> PairLogps:
    """Pairs given as numbers: the tokens of a side share its log-ratio evenly."""
    longest = int(max(max(row[2:4]) for row in rows))
    sides = {}
    for name, side in (("chosen", 0), ("rejected", 1)):
        mask = torch.tensor([[t < row[2 + side] for t in range(longest)] for row in rows])
        ref = torch.tensor([[row[4 + side]] * longest for row in rows], dtype=torch.float64)
        each = torch.tensor([[row[side] / row[2 + side]] for row in rows], dtype=torch.float64)
        sides |= {name: torch.where(mask, ref + each, 0.0), f"{name}_mask": mask, f"ref_{name}": torch.where(mask, ref, 0.0)}
    return PairLogps(**sides)


def table(of: Objective, rows: list[tuple[float, ...]]) -> dict[str, list[float]]:
    """Terms of every pair when the batch is the first one of a training."""
    pairs = batch_of(rows)
    terms = with_credit(of, pairs, of.initial_state(), {}, training=True).outcome.terms
    return {name: value.tolist() for name, value in terms.items()}


def statistics(step: Step, of: Objective) -> State:
    """Moving statistics after the batch of the step."""
    if not of.initial_state():
        return {}
    return of(batch_of(rows_of(step)), of.initial_state(), {}, training=True)[1]


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
    pairs = batch_of([(*point, *plane.tokens, *plane.ref)])
    draws = of.draw(pairs, torch.Generator().manual_seed(plane.seed))
    outcome = with_credit(of, pairs, statistics(step, of), draws, training=False).outcome
    return {name: float(value[0]) for name, value in outcome.terms.items()}


def moved(rows: list[tuple[float, ...]], pair: int, log_x1: float) -> list[tuple[float, ...]]:
    """The batch with another log X₁ of one pair, counted from 1."""
    return [(log_x1, *row[1:]) if number == pair else row for number, row in enumerate(rows, 1)]


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
