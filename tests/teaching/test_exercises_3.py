"""The exercises of lessons 07, 08 and 10: right answers are accepted, misconceptions are rejected with their reason."""

from __future__ import annotations

from typing import Any

import pytest

from lab.teaching.exercises import check, lesson07
from lab.teaching.lessons import FAULTS, NAMES, UNITS, faulty_run
from tests.teaching.judging import assert_right, assert_unanswered, assert_wrong

# What the runs of lesson 07 showed when they were made; the executed lesson is compared with its faults as well.
COLUMNS = ("loss, change", "h", "log X₂", "first push", "pairs without push", "gradient norm, growth", "cosine", "epochs")
COLUMNS += ("accuracy, training", "accuracy, held out", "KL", "length, growth", "reward, change")
MEASURED = {
    1: (-0.002, 3.77, -6.2, 0.0005, 0.0, 1.09, -0.21, 0.17, 0.83, 0.81, 4.5, 1.20, 0.47),
    2: (1.489, 35.7, -322, 0.05, 0.48, 5.80, -0.73, 0.17, 0.65, 0.67, 624, 1.66, -5.90),
    3: (0.960, 1.37, -1.7, 2.5, 0.64, 0.69, 0.08, 0.17, 0.81, 0.81, 1.3, 1.18, 0.28),
    4: (0.0, 0.001, 0.0, 0.05, 0.0, 0.90, -0.05, 0.17, 0.85, 0.78, 0.0, 1.08, -0.14),
    5: (-0.137, 3.59, -7.3, 0.05, 0.0, 0.90, -0.48, 0.17, 0.84, 0.78, 4.0, 0.85, -3.02),
    6: (-0.654, 38.0, -41, 0.05, 0.51, 0.13, -0.45, 16.8, 1.0, 0.50, 8.6, 0.91, -1.24),
    7: (-0.263, 6.88, -9.1, 0.05, 0.0, 0.90, -0.36, 0.62, 0.91, 0.96, 4.6, 1.71, -0.86),
    8: (-0.678, 49.5, -56, 0.05, 0.83, 0.08, -0.73, 0.92, 1.0, 0.50, 6.8, 0.95, -0.91),
    9: (-0.591, 26.1, -34, 0.05, 0.06, 0.28, -0.80, 0.50, 0.99, 1.0, 10.7, 0.92, -1.55),
    10: (0.059, -2.65, -2.3, -485_000, 1.0, 0.0, -0.35, 0.17, 0.68, 0.65, 3.5, 1.00, -2.92),
}
CLUES = {number: dict(zip(COLUMNS, values, strict=True)) for number, values in MEASURED.items()}
HEALTHY = dict(zip(COLUMNS, (-0.136, 3.48, -5.4, 0.05, 0.0, 0.89, -0.32, 0.17, 0.81, 0.81, 3.9, 1.23, 0.61), strict=True))


def named(*numbers: int, **changes: str) -> dict[int, str]:
    """The true names of some runs, with changes given as run_5="..."."""
    changed = {int(key.removeprefix("run_")): name for key, name in changes.items()}
    return {number: FAULTS[number].name for number in numbers} | changed


RIGHT = [
    ("07.1", named(1, 2, 3, 4)),
    ("07.2", named(5, 6, 7, 8)),
    ("07.3", named(9, 10)),
    ("08.1", 0.29),
    ("08.2", "c"),
    ("08.3", 130),
    ("10.1", 16 * (576 + 1536)),
    ("10.2", 16 * 134.515008e6 / 1e9),
    ("10.3", "b"),
    ("10.3", "B"),
]

WRONG = [
    ("07.1", named(1, 2, 3, 4, run_1="learning rate too low"), "Run 1: With the fault 'learning rate too low'"),
    ("07.1", named(1, 2, 3, 4, run_4="beta too small"), "here: h 0.001 nats"),
    ("07.1", named(1, 2, 3, 4, run_3="learning rate too high"), "more than 50 nats"),
    ("07.1", named(1, 2, 3, 4, run_2="beta too big"), "Did you mean 'beta too large'?"),
    ("07.1", "beta too small", '{1: "...", 2: "...", 3: "...", 4: "..."}'),
    ("07.1", named(1, 2, 3), "dictionary"),
    ("07.2", named(5, 6, 7, 8, run_5="length decides the labels"), "length, growth 0.85 times"),
    ("07.2", named(5, 6, 7, 8, run_8="few pairs, many epochs"), "epochs 0.92"),
    ("07.2", named(5, 6, 7, 8, run_6="copies of the same pairs"), "epochs 16.8"),
    ("07.3", named(9, 10, run_10="labels flipped"), "h -2.65 nats"),
    ("07.3", named(9, 10, run_9="labels flipped"), "by some nats, not by tens"),
    ("07.3", named(9, 10, run_9="few pairs, many epochs"), "more than twice"),
    ("08.1", 0.35, "sum"),
    ("08.1", 0.32, "are right then"),
    ("08.1", 0.17, "stay wrong"),
    ("08.1", 29, "between 0 and 1"),
    ("08.2", "a", "hold h at 0"),
    ("08.2", "b", "counts double"),
    ("08.3", 90, "after dropping"),
    ("08.3", 50, "Not every pair"),
    ("08.3", 40, "not on the list"),
    ("08.3", 99, "stay as they are"),
    ("10.1", 576 * 1536, "layer itself"),
    ("10.1", 16 * 576, "first of two"),
    ("10.1", 576 + 1536, "rank 1"),
    ("10.1", 576 * 1536 / 16, "divide"),
    ("10.1", 40_000, "Two matrices"),
    ("10.2", 0.538, "weights alone"),
    ("10.2", 1.076, "AdamW"),
    ("10.2", 1.614, "two moments"),
    ("10.2", 2.69, "reference"),
    ("10.2", 0.577, "LoRA"),
    ("10.2", "2.15", "not a number"),
    ("10.3", "a", "both are the exported model"),
    ("10.3", "c", "whatever that was trained on"),
]


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs of lesson 07 have the clues above."""
    monkeypatch.setattr(lesson07, "clues_of_latest", CLUES.get)


@pytest.mark.parametrize(("exercise", "answer"), RIGHT)
def test_a_right_answer_is_accepted(exercise: str, answer: Any) -> None:
    assert_right(exercise, answer)


@pytest.mark.parametrize(("exercise", "answer", "reason"), WRONG)
def test_a_wrong_answer_is_rejected_with_its_reason(exercise: str, answer: Any, reason: str) -> None:
    assert_wrong(exercise, answer, reason)


@pytest.mark.parametrize("exercise", sorted({exercise for exercise, _ in RIGHT}))
def test_a_placeholder_is_not_answered_yet(exercise: str) -> None:
    assert_unanswered(exercise)
    assert sum(exercise == other for other, _, _ in WRONG) >= 2


@pytest.mark.parametrize("number", FAULTS)
def test_the_clues_of_a_run_exclude_every_fault_but_its_own(number: int) -> None:
    possible = [fault.name for fault in FAULTS.values() if not fault.contradiction(CLUES[number])]
    assert possible == [FAULTS[number].name]


def test_a_healthy_run_shows_no_fault() -> None:
    assert all(fault.contradiction(HEALTHY) for fault in FAULTS.values())


def test_a_run_that_is_not_trained_yet_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lesson07, "clues_of_latest", lambda number: None)
    assert check("07.3", named(9, 10)).why.startswith("Run 9 has not finished; run the cells")


def test_faults_are_declared_soundly() -> None:
    assert len(NAMES) == len(set(NAMES)) == 10
    assert {sign.clue for fault in FAULTS.values() for sign in fault.signs} <= UNITS.keys()
    assert set(COLUMNS) <= UNITS.keys()
    for number, fault in FAULTS.items():
        assert fault.settings or fault.pairs
        assert fault.name not in faulty_run_name(number)


def faulty_run_name(number: int) -> str:
    """Name of a run whose pairs are the world's own."""
    return str(faulty_run(number)["name"]) if FAULTS[number].pairs is None else ""


def test_an_unknown_run_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no run 11; give a number from 1 to 10"):
        faulty_run(11)
