"""Batch schedule: the pairs of every step, a pure function of the seed, the step and the changes of the pair set.

Every epoch is a new permutation of the pairs. When the set changes in mid-run, the epoch continues: dropped pairs are skipped,
edited ones keep their place, and added (restored) ones take part from the next epoch on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .random_streams import shuffled


@dataclass(frozen=True)
class Segment:
    """The part of a run that trains on one version of the pair set.

    Attributes:
        after: Steps done when it begins.
        epoch: The epoch (from 0) that is running then.
        rest: Pairs left in that epoch, in their order; whole epochs follow.
        members: All pairs of the set.
    """

    after: int
    epoch: int
    rest: tuple[int, ...]
    members: tuple[int, ...]


@dataclass(frozen=True)
class BatchSchedule:
    """Numbers of the pairs of every batch; the pairs of a run are numbered from 0, added ones after them.

    Attributes:
        batch_size: Pairs per optimizer step.
        seed: Seed of the run.
        segments: The parts of the run with one version of the pair set each, in their order.
    """

    batch_size: int
    seed: int
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, count: int, batch_size: int, seed: int) -> BatchSchedule:
        """Return the schedule of `count` pairs from the first step on."""
        return cls(batch_size, seed, (Segment(0, 0, tuple(shuffled(count, seed, 0)), tuple(range(count))),))

    def changed(self, after: int, members: Sequence[int]) -> BatchSchedule:
        """Return the schedule that continues with the pairs `members` after step `after`; itself where they stay the same."""
        segment = self.segments[-1]
        if tuple(members) == segment.members:
            return self
        taken = (after - segment.after) * self.batch_size
        epoch, rest = segment.epoch, segment.rest[taken:]
        if taken > len(segment.rest):
            more, place = divmod(taken - len(segment.rest) - 1, len(segment.members))
            epoch += 1 + more
            rest = tuple(segment.members[i] for i in shuffled(len(segment.members), self.seed, epoch)[place + 1 :])
        staying = set(members)
        return BatchSchedule(
            self.batch_size,
            self.seed,
            (*self.segments, Segment(after, epoch, tuple(i for i in rest if i in staying), tuple(members))),
        )

    @property
    def members(self) -> tuple[int, ...]:
        """The pairs of the latest version of the set."""
        return self.segments[-1].members

    def batch(self, step: int) -> list[int]:
        """Return the pairs of optimizer step `step` (1-based); a batch at the end of an epoch is filled from the next."""
        return [self._pair(step, place) for place in range(self.batch_size)]

    def epoch(self, step: int) -> float:
        """Return the number of epochs (fractional) done after `step` steps."""
        segment = self._segment(step)
        whole = len(segment.members)
        return ((segment.epoch + 1) * whole - len(segment.rest) + (step - segment.after) * self.batch_size) / whole

    def begins_epoch(self, step: int) -> bool:
        """Return whether step `step` is the first that begins in its epoch."""
        return step == 1 or self._place(step)[0] > self._place(step - 1)[0]

    def _segment(self, step: int) -> Segment:
        return next(segment for segment in reversed(self.segments) if segment.after < step or segment.after == 0)

    def _place(self, step: int, place: int = 0) -> tuple[int, int]:
        """Return the epoch of the pair at `place` in a step's batch, and its index among that epoch's pairs in this segment."""
        segment = self._segment(step)
        number = (step - 1 - segment.after) * self.batch_size + place
        if number < len(segment.rest):
            return segment.epoch, number
        more, number = divmod(number - len(segment.rest), len(segment.members))
        return segment.epoch + 1 + more, number

    def _pair(self, step: int, place: int) -> int:
        segment = self._segment(step)
        epoch, number = self._place(step, place)
        return (
            segment.rest[number]
            if epoch == segment.epoch
            else segment.members[shuffled(len(segment.members), self.seed, epoch)[number]]
        )
