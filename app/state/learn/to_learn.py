"""Addresses of the Learn page for pairs of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from app.pages import LEARN
from app.state.access import may_edit
from app.state.learn.learn_address import LearnState, write_state
from app.state.navigation import leave_for
from app.state.objective_in_use import objective_at
from app.state.recipe import changed_parameters
from lab.run.handle import Run
from lab.teaching import MOST_PAIRS, PairNumbers, Plane, pair_of_run, pairs_of_run

MARGIN = 1.2
"""The plane reaches this far beyond a point that lies outside the usual one."""


def open_pair_in_learn(run: Run, pair: str, step: int | None) -> None:
    """Go to the Learn page with a pair as a run last computed it up to a step. Raises RunError or ValueError with one sentence."""
    numbers = pair_of_run(run, step, pair, fetch=may_edit())
    leave_for(LEARN, write_state(_state(run, step, numbers, (numbers,), "field")))


def open_batch_in_learn(run: Run, step: int) -> None:
    """Go to the Learn page with the batch of a step. Raises RunError or ValueError with one sentence."""
    pairs = pairs_of_run(run, step, limit=MOST_PAIRS, fetch=may_edit())
    leave_for(LEARN, write_state(_state(run, step, pairs[0], pairs, "batch")))


def _state(run: Run, step: int | None, pair: PairNumbers, batch: Sequence[PairNumbers], view: str) -> LearnState:
    usual = Plane()
    furthest = MARGIN * max(abs(pair.log_x1), abs(pair.log_x2))
    reach = math.ceil(furthest) if furthest > usual.log_x1[1] else usual.log_x1[1]
    plane = Plane((-reach, reach), (-reach, reach), tokens=pair.tokens, ref=pair.ref, batch=tuple(batch))
    objective = objective_at(run, step)
    return LearnState(
        objectives={"A": {"name": objective.name, **changed_parameters(objective)}},
        plane=plane,
        point=(pair.log_x1, pair.log_x2),
        view=view,
    )
