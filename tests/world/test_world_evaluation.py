"""Judging sampled answers."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.world import evaluate_answers, mean_interval, win_rate
from lab.world.language import TASKS, perfect
from lab.world.tasks import PHRASINGS

rewards = st.lists(st.floats(-5, 5).map(lambda x: round(x, 1)), min_size=1, max_size=6)


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
    else:
        assert math.isnan(one.low)
        assert math.isnan(one.high)


def test_interval_covers_the_truth_in_95_of_100() -> None:
    rng = random.Random(0)
    found = [mean_interval([rng.gauss(2, 1) for _ in range(100)]) for _ in range(1000)]
    assert 0.93 < sum(i.low <= 2 <= i.high for i in found) / 1000 < 0.97


def test_evaluation_by_group_against_a_reference() -> None:
    rng = random.Random(0)
    prompts = [task.question(PHRASINGS[0]) for task in TASKS[:8]]
    good = [[perfect(task, rng).text("plain")] for task in TASKS[:8]]
    bad = [["You again.", "gibberish"] for _ in prompts]
    world = SimpleNamespace(held_out_groups={prompt: "new task" if i < 3 else "new phrasing" for i, prompt in enumerate(prompts)})
    found = evaluate_answers(world, prompts, good, bad)
    assert (found.reward.mean, found.valid, found.win.mean) == (5, 1, 1)
    assert set(found.groups) == {"new task", "new phrasing"}
    worse = evaluate_answers(world, prompts, bad[:3] + good[3:], good)
    assert worse.groups["new task"].valid == 0.5
    assert worse.groups["new task"].win.mean == 0
    assert worse.groups["new phrasing"].win.mean == 0.5
    assert worse.win.mean == pytest.approx(5 * 0.5 / 8)
    assert evaluate_answers(None, prompts, good).groups == {}


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="2 prompts but answers to 1"):
        evaluate_answers(None, ["a", "b"], [["x"]])
    with pytest.raises(ValueError, match="Prompt 2 has no reference answers"):
        evaluate_answers(None, ["a", "b"], [["x"], ["y"]], [["x"], []])
    with pytest.raises(ValueError, match="no prompts"):
        evaluate_answers(None, [], [])
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="at least one of each"):
        win_rate([], [1.0])
