"""The language: format of the samples, and held-out prompts made of known words."""

from __future__ import annotations

import random
import re
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.world import PLAIN, score
from lab.world.build import held_out_questions
from lab.world.language import DEFECTS, STYLES, TASKS, perfect, split_tasks, write_answer
from lab.world.tasks import (
    BAD_TIPS,
    FILLERS,
    NEW_PHRASINGS,
    OFF_TOPIC,
    PHRASINGS,
    POLITE_CLOSINGS,
    POLITE_OPENINGS,
    RUDE_CLOSINGS,
    RUDE_OPENINGS,
)

tasks = st.sampled_from(TASKS)
styles = st.sampled_from(STYLES)
rngs = st.integers(0, 2**32).map(random.Random)


def message(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)}


def test_no_sentence_has_two_meanings() -> None:
    fixed = [
        s for group in (POLITE_OPENINGS, POLITE_CLOSINGS, RUDE_OPENINGS, RUDE_CLOSINGS, FILLERS, OFF_TOPIC, BAD_TIPS) for s in group
    ]
    by_method = {task.method.ask: task for task in TASKS}.values()
    steps = [s for task in by_method for s in task.right + task.wrong + task.why]
    assert len(set(map(str.casefold, fixed + steps))) == len(fixed + steps)


def test_the_perfect_answer_is_the_best_in_every_style() -> None:
    rng = random.Random(0)
    for task in TASKS:
        for phrasing in PHRASINGS + NEW_PHRASINGS:
            found = score(task.question(phrasing), perfect(task, rng).text(rng.choice(STYLES)))
            assert (found.total, found.valid, found.defects) == (PLAIN.best, True, ()), task.ask


@pytest.mark.parametrize("name", DEFECTS)
def test_every_single_defect_costs_something_and_is_named(name: str) -> None:
    rng = random.Random(0)
    for task in TASKS:
        for style in STYLES:
            spoiled = DEFECTS[name][0](perfect(task, rng), task, rng)
            found = score(task.question(PHRASINGS[0]), spoiled.text(style))
            assert found.total <= PLAIN.best - 0.4 + 1e-9, (task.ask, name)
            assert found.valid
            assert found.defects


@given(
    tasks, styles, rngs, st.lists(st.sampled_from(["wrong step", "filler", "off topic", "bad tip", "rude opening", "rude closing"]))
)
def test_one_more_defect_never_makes_an_answer_better(task, style, rng, names) -> None:
    draft = perfect(task, rng)
    last = PLAIN.best
    for name in names:
        draft = DEFECTS[name][0](draft, task, rng)
        now = score(task.question(PHRASINGS[0]), draft.text(style)).total
        assert now <= last + 1e-9
        last = now


@given(tasks, rngs, st.floats(0, 1))
def test_style_counts_for_nothing_and_answers_are_in_the_language(task, rng, quality) -> None:
    prompt = task.question(PHRASINGS[0])
    assert score(prompt, write_answer(task, quality, rng)).valid
    draft = perfect(task, rng)
    for name in rng.choices(list(DEFECTS), k=3):
        draft = DEFECTS[name][0](draft, task, rng)
    assert len({score(prompt, draft.text(style)).total for style in STYLES}) == 1


def test_quality_raises_the_reward() -> None:
    rng = random.Random(0)
    means = []
    for quality in (0.0, 0.25, 0.5, 0.75, 1.0):
        answers = [(task, write_answer(task, quality, rng)) for task in TASKS for _ in range(8)]
        means.append(fmean(score(task.question(PHRASINGS[0]), answer).total for task, answer in answers))
    assert means == sorted(means)
    assert means[0] < 1.5
    assert means[-1] == PLAIN.best


@given(rngs)
def test_held_out_tasks_are_new_combinations_of_known_words(rng) -> None:
    known, new = split_tasks(rng)
    assert len(known) == 60
    assert len(new) == 15
    assert not set(known) & set(new)
    assert {t.thing for t in new} <= {t.thing for t in known}
    assert {t.method for t in new} == {t.method for t in known}
    assert message([s for t in new for s in t.right + t.wrong]) <= message([s for t in known for s in t.right + t.wrong])


@given(rngs)
def test_held_out_prompts_are_new_but_their_words_are_known(rng) -> None:
    known, new = split_tasks(rng)
    train = {task.question(phrasing) for task in known for phrasing in PHRASINGS}
    held_out = held_out_questions(known, new, 100, rng)
    prompts = [prompt for _, prompt, _ in held_out]
    assert len(set(prompts)) == 100
    assert not train & set(prompts)
    assert message(prompts) <= message(list(train))
    assert [group for _, _, group in held_out].count("new task") == 40
