"""Judging sampled answers."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from lab.world import evaluate_answers
from lab.world.language import TASKS, perfect
from lab.world.tasks import PHRASINGS


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
