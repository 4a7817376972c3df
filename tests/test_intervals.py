"""Means, shares and win rates with their intervals."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.intervals import mean_interval, positive_interval, share_interval, standard_error, win_rate

rewards = st.lists(st.floats(-5, 5).map(lambda x: round(x, 1)), min_size=1, max_size=6)
shares = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=60)


@given(rewards, rewards)
def test_win_rate_is_a_fair_game(ours: list[float], theirs: list[float]) -> None:
    assert 0 <= win_rate(ours, theirs) <= 1
    assert math.isclose(win_rate(ours, theirs) + win_rate(theirs, ours), 1)
    assert win_rate(ours, ours) == 0.5
    assert win_rate([11.0], theirs) == 1


@given(rewards, st.floats(-3, 3))
def test_interval_moves_with_the_values(values: list[float], shift: float) -> None:
    one, other = mean_interval(values), mean_interval([v + shift for v in values])
    assert math.isclose(one.mean + shift, other.mean, abs_tol=1e-9)
    if len(values) > 1:
        assert one.low <= one.mean <= one.high
        assert math.isclose(one.high - one.low, other.high - other.low, abs_tol=1e-6)
        assert math.isclose(one.high - one.mean, 1.959964 * standard_error(values), rel_tol=1e-6, abs_tol=1e-12)
    else:
        assert math.isnan(one.low)
        assert math.isnan(one.high)


def test_interval_covers_the_truth_in_95_of_100() -> None:
    rng = random.Random(0)
    found = [mean_interval([rng.gauss(2, 1) for _ in range(100)]) for _ in range(1000)]
    assert 0.93 < sum(i.low <= 2 <= i.high for i in found) / 1000 < 0.97


@given(shares)
def test_a_share_stays_between_0_and_1_and_is_never_certain(values: list[float]) -> None:
    found = share_interval(values)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.high - found.low > 0.01
    mirrored = share_interval([1 - value for value in values])
    assert math.isclose(found.low, 1 - mirrored.high, abs_tol=1e-9)


def test_a_share_of_yes_and_no_has_wilsons_interval() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for wins, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = share_interval([1.0] * wins + [0.0] * (count - wins))
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize("comparisons", [1, 4])
def test_a_share_covers_the_truth_in_95_of_100_also_where_prompts_are_compared_several_times(comparisons: int) -> None:
    rng, hits = random.Random(1), 0
    for _ in range(1000):
        values = [sum(rng.random() < 0.7 for _ in range(comparisons)) / comparisons for _ in range(100)]
        found = share_interval(values)
        hits += found.low <= 0.7 <= found.high
    assert 0.92 < hits / 1000 < 0.98


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least one of each"):
        win_rate([], [1.0])
    for wrong in ([], [0.5, 1.5], [math.nan]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            share_interval(wrong)


@given(st.lists(st.floats(0, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=40), st.floats(1e-3, 1e3))
def test_a_positive_interval_stays_positive_and_knows_no_unit(values: list[float], unit: float) -> None:
    found, other = positive_interval(values), positive_interval([unit * value for value in values])
    assert math.isclose(found.mean * unit, other.mean, rel_tol=1e-9, abs_tol=1e-300)
    if len(values) > 1:
        assert 0 <= found.low <= found.mean <= found.high <= 7.1 * found.mean
        assert math.isclose(found.high * unit, other.high, rel_tol=1e-6, abs_tol=1e-300)
    elif found.mean > 0:
        assert math.isnan(found.low)


def test_a_positive_interval_is_the_normal_one_where_there_are_many_values() -> None:
    rng = random.Random(0)
    values = [rng.expovariate(0.5) for _ in range(20_000)]
    found, normal = positive_interval(values), mean_interval(values)
    assert math.isclose(found.low, normal.low, rel_tol=2e-3)
    assert math.isclose(found.high, normal.high, rel_tol=2e-3)
    with pytest.raises(ValueError, match="never negative"):
        positive_interval([1.0, -1e-9])


def test_a_positive_interval_covers_more_of_few_uneven_values_than_the_normal_one() -> None:
    rng, covered, below = random.Random(0), [0, 0], 0
    for _ in range(2000):
        values = [rng.lognormvariate(0, 1) for _ in range(8)]
        for number, interval in enumerate((positive_interval(values), mean_interval(values))):
            covered[number] += interval.low <= math.exp(0.5) <= interval.high
            below += interval.low < 0
    assert covered[0] > covered[1]
    assert covered[0] / 2000 > 0.8
    assert below > 0  # what the other one did with so few
