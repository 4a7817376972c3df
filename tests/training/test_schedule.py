"""The batch schedule: a function of seed, step and versions of the set, with every pair once per epoch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from lab.run.config import SEEDS, ConfigError, TrainConfig
from lab.training.data.random_streams import generator, shuffled
from lab.training.data.schedule import BatchSchedule


@given(count=some.integers(1, 40), size=some.integers(1, 9), seed=some.integers(0, 99))
def test_an_unchanged_set_has_one_permutation_per_epoch(count, size, seed):
    order = BatchSchedule.of(count, size, seed)
    for step in range(1, 15):
        wanted = range((step - 1) * size, step * size)
        assert order.batch(step) == [shuffled(count, seed, place // count)[place % count] for place in wanted]
        assert order.epoch(step) == step * size / count
        begins = (step - 1) * size % count < size
        assert order.begins_epoch(step) == begins or size > count


@given(
    count=some.integers(2, 30),
    size=some.integers(1, 7),
    seed=some.integers(0, 99),
    changes=some.lists(some.tuples(some.integers(0, 6), some.sets(some.integers(0, 35), min_size=1)), max_size=4),
)
def test_changes_keep_past_batches_and_complete_later_epochs(count, size, seed, changes):
    order, after = BatchSchedule.of(count, size, seed), 0
    for later, members in changes:
        after += later
        before = [order.batch(step) for step in range(1, after + 1)]
        unseen = set(order.members)
        if sorted(members) == list(order.members):  # edited pairs keep their place
            assert order.changed(after, sorted(members)) is order
            continue
        order = order.changed(after, sorted(members))
        assert [order.batch(step) for step in range(1, after + 1)] == before
        coming = [i for step in range(after + 1, after + 60) for i in order.batch(step)]
        assert set(coming) <= members
        rest = order.segments[-1].rest
        assert len(set(rest)) == len(rest)
        assert set(rest) <= unseen & members
        epoch = Counter(coming[len(rest) : len(rest) + len(members)])
        if len(coming) >= len(rest) + len(members):
            assert epoch == Counter(members)


def test_a_dropped_pair_is_skipped_and_the_others_keep_their_order():
    order = BatchSchedule.of(12, 3, seed=1)
    plain = [i for step in range(1, 5) for i in order.batch(step)]
    gone = plain[7]
    changed = order.changed(1, [i for i in range(12) if i != gone])
    assert [i for step in range(1, 5) for i in changed.batch(step)][:11] == [i for i in plain if i != gone]
    assert (changed.epoch(1), changed.epoch(2)) == (3 / 12, 6 / 11)
    assert not changed.begins_epoch(2)


def test_an_added_pair_takes_part_from_the_next_epoch():
    order = BatchSchedule.of(6, 2, seed=0).changed(1, range(7))
    seen = [order.batch(step) for step in range(2, 8)]
    assert 6 not in [i for batch in seen[:2] for i in batch]
    assert 6 in [i for batch in seen[2:] for i in batch]


def test_seeds_above_32_bits_are_refused():
    """A CPU generator distinguishes 2**32 seeds."""
    with pytest.raises(ConfigError, match=r"seed = 4294967296 does not work: it must be less than 4294967296\."):
        TrainConfig.parse(objective="dpo", seed=2**32)
    starts = {generator(seed, 0, 1).initial_seed() for seed in (0, 1, 2**19, SEEDS - 1)}
    assert len(starts) == 4


def test_seeds_steps_and_purposes_give_different_streams():
    """A CPU generator reads the lowest 32 bits of its seed, so the run's seed has to change these. Seed 0 keeps its old streams."""
    assert len({tuple(shuffled(50, seed, 0)) for seed in (0, 1, 2, 2**12, SEEDS - 1)}) == 5
    assert shuffled(50, 0, 3) == torch.randperm(50, generator=torch.Generator().manual_seed(2**22 + 3)).tolist()
    streams = {
        float(torch.rand((), generator=generator(seed, step, purpose), dtype=torch.float64))
        for seed in (0, 5, 77)
        for step in range(40)
        for purpose in range(1, 9)
    }
    assert len(streams) == 3 * 40 * 8
