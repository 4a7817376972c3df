"""Sampled pairs: labels calibrated to Bradley-Terry, and correct columns."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.world import preference_probability, sample_pairs, score
from lab.world.language import TASKS
from lab.world.tasks import PHRASINGS

QUESTIONS = [(task, task.question(phrasing)) for task in TASKS for phrasing in PHRASINGS]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return sample_pairs(QUESTIONS, 4000, random.Random(1), temperature=0.7, least_gap=0.4)


@given(st.floats(-1e6, 1e6), st.floats(0.01, 100))
def test_preference_probability_is_the_logistic_function(gap: float, temperature: float) -> None:
    p = preference_probability(gap, temperature)
    assert math.isclose(p + preference_probability(-gap, temperature), 1)
    if abs(gap / temperature) < 30:
        assert math.isclose(p, 1 / (1 + math.exp(-gap / temperature)), abs_tol=1e-12)


def test_label_noise_is_calibrated(rows: list[dict]) -> None:
    """In every band of gaps the better answer is chosen as often as Bradley-Terry says (within 4 standard errors)."""
    for low, high in ((0.4, 0.8), (0.8, 1.4), (1.4, 2.2), (2.2, 9.0)):
        band = [row for row in rows if low <= abs(row["true_gap"]) < high]
        wanted = [preference_probability(abs(row["true_gap"]), 0.7) for row in band]
        spread = math.sqrt(sum(p * (1 - p) for p in wanted))
        assert len(band) > 200
        assert abs(sum(not row["noisy"] for row in band) - sum(wanted)) < 4 * spread


def test_some_labels_are_noisy_but_most_pairs_are_clear(rows: list[dict]) -> None:
    assert 0.05 < fmean(row["noisy"] for row in rows) < 0.15
    assert fmean(abs(row["true_gap"]) for row in rows) > 1.5
    assert abs(fmean(len(r["chosen"].split()) - len(r["rejected"].split()) for r in rows)) < 2, (
        "length must not give the label away"
    )


def test_columns_tell_the_truth(rows: list[dict]) -> None:
    for row in rows[:500]:
        chosen, rejected = score(row["prompt"], row["chosen"]), score(row["prompt"], row["rejected"])
        assert row["reward_chosen"] == pytest.approx(chosen.total)
        assert row["true_gap"] == pytest.approx(chosen.total - rejected.total)
        assert row["preference_probability"] == pytest.approx(preference_probability(row["true_gap"], 0.7), abs=1e-5)
        assert row["noisy"] == (rejected.total > chosen.total) == (row["preference_probability"] < 0.5)
        assert (row["why_chosen"], row["why_rejected"]) == (chosen.reason, rejected.reason)
        assert row["task"] in row["prompt"]


def test_no_pair_comes_twice(rows: list[dict]) -> None:
    assert len({(row["prompt"], *sorted((row["chosen"], row["rejected"]))) for row in rows}) == len(rows)


def test_an_annotator_of_ones_own() -> None:
    """One who likes long answers labels by length; the columns still say what the oracle thinks."""

    def long_winded(prompt: str, answer: str) -> float:
        return 2.0 * len(answer.split())

    rows = sample_pairs(QUESTIONS, 300, random.Random(2), temperature=0.7, reward=long_winded)
    assert fmean(len(r["chosen"]) - len(r["rejected"]) for r in rows) > 40
    assert fmean(r["noisy"] for r in rows) > 0.25
