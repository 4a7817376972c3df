"""Which pairs a step sees: a pure function of the seed, the step and the changes of the pair set, so that nothing is remembered.

Every epoch is a fresh permutation of its pairs. When the set changes in mid-run, the epoch goes on: pairs that were dropped
are passed over, edited ones keep their place, and pairs that came in (restored ones) take part from the next epoch on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .batches import shuffled


@dataclass(frozen=True)
class Leg:
    """A stretch of the run with one set of pairs, from step `after` + 1 on: what `epoch` still has to give, then whole epochs."""

    after: int
    epoch: int
    rest: tuple[int, ...]
    members: tuple[int, ...]


@dataclass(frozen=True)
class Order:
    """Numbers of the pairs that every step sees; the pairs of a run are numbered from 0, those that come in later behind them."""

    batch_size: int
    seed: int
    legs: tuple[Leg, ...]

    @classmethod
    def of(cls, count: int, batch_size: int, seed: int) -> Order:
        """The order over `count` pairs from the first step on."""
        return cls(batch_size, seed, (Leg(0, 0, tuple(shuffled(count, seed, 0)), tuple(range(count))),))

    def changed(self, after: int, members: Sequence[int]) -> Order:
        """The order that goes on with other pairs once `after` steps are done."""
        leg = self.legs[-1]
        taken = (after - leg.after) * self.batch_size
        epoch, rest = leg.epoch, leg.rest[taken:]
        if taken > len(leg.rest):
            more, place = divmod(taken - len(leg.rest) - 1, len(leg.members))
            epoch += 1 + more
            rest = tuple(leg.members[i] for i in shuffled(len(leg.members), self.seed, epoch)[place + 1 :])
        staying = set(members)
        return Order(
            self.batch_size,
            self.seed,
            (*self.legs, Leg(after, epoch, tuple(i for i in rest if i in staying), tuple(members))),
        )

    @property
    def members(self) -> tuple[int, ...]:
        """The pairs of the latest set."""
        return self.legs[-1].members

    def batch(self, step: int) -> list[int]:
        """The pairs of optimizer step `step` (1-based). A batch that crosses the end of an epoch takes the rest from the next."""
        return [self._pair(step, place) for place in range(self.batch_size)]

    def epoch(self, step: int) -> float:
        """How often the pairs were seen once `step` steps are done."""
        leg = self._leg(step)
        whole = len(leg.members)
        return ((leg.epoch + 1) * whole - len(leg.rest) + (step - leg.after) * self.batch_size) / whole

    def begins_epoch(self, step: int) -> bool:
        """Whether step `step` is the first that begins in its epoch."""
        return step == 1 or self._place(step)[0] > self._place(step - 1)[0]

    def _leg(self, step: int) -> Leg:
        return next(leg for leg in reversed(self.legs) if leg.after < step or leg.after == 0)

    def _place(self, step: int, place: int = 0) -> tuple[int, int]:
        """Epoch of the pair at a place of a step's batch, and its place in what that epoch gives from this leg on."""
        leg = self._leg(step)
        number = (step - 1 - leg.after) * self.batch_size + place
        if number < len(leg.rest):
            return leg.epoch, number
        more, number = divmod(number - len(leg.rest), len(leg.members))
        return leg.epoch + 1 + more, number

    def _pair(self, step: int, place: int) -> int:
        leg = self._leg(step)
        epoch, number = self._place(step, place)
        return leg.rest[number] if epoch == leg.epoch else leg.members[shuffled(len(leg.members), self.seed, epoch)[number]]
