"""What the executed lessons 07, 08 and 10 must show: predicted numbers equal measured ones, texts agree with outputs."""

from __future__ import annotations

import math

import pytest

from lab.teaching.exercises import check
from lab.teaching.exercises.lesson07 import clues_of_latest
from lab.teaching.lessons import FAULTS
from tests.notebooks.executed import Executed


def reading_curves(notebook: Executed) -> None:
    for number, fault in FAULTS.items():
        clues = clues_of_latest(number)
        assert clues is not None
        assert not fault.contradiction(clues), (number, fault.contradiction(clues))
        others = [other.name for other in FAULTS.values() if other is not fault and not other.contradiction(clues)]
        assert others == [], f"the numbers of run {number} do not exclude {others}"
    for exercise, numbers in (("07.1", (1, 2, 3, 4)), ("07.2", (5, 6, 7, 8)), ("07.3", (9, 10))):
        assert check(exercise, {number: FAULTS[number].name for number in numbers}).right
        flipped = {number: FAULTS[numbers[index - 1]].name for index, number in enumerate(numbers)}
        assert not check(exercise, flipped).right

    inside = dict(zip((row[0] for row in notebook.table("numbers.loc[inside")), zip(*notebook.columns("numbers.loc[inside"))))
    healthy, small, _, large, low = inside["accuracy, training"]
    assert max(healthy, small, large, low) - min(healthy, small, large, low) < 0.15, "the text says so"
    assert abs(inside["loss, change"][1]) < 0.01 < 1 < inside["h"][1]
    assert abs(inside["loss, change"][4]) < 0.01 > abs(inside["h"][4])
    outside = dict(zip((row[0] for row in notebook.table("numbers.loc[outside")), zip(*notebook.columns("numbers.loc[outside"))))
    assert outside["accuracy, held out"][1] > 0.7
    assert outside["reward, after"][1] < 0.5 < outside["reward, before"][1]

    rows = {int(row[0]): row[1:] for row in notebook.table("result = pd.DataFrame")}
    assert {number: row[1] for number, row in rows.items()} == {number: fault.name for number, fault in FAULTS.items()}
    named = {number for number, row in rows.items() if row[2] == "named"}
    assert named - {9} == {1, 2, 3, 4, 6, 7, 10}, "what the text says about the diagnosis"
    listed = {number for number, row in rows.items() if "rate_too_high" in row[3]}
    assert 2 in listed
    assert 4 <= len(listed) <= 7, "the text says about half of the runs"
    assert "lower learning rate" in notebook.text('"\\nrun 5:"')
    _not_answered(notebook, "07")


def inspect_and_repair(notebook: Executed) -> None:
    rows = {row[0]: list(map(float, row[1:])) for row in notebook.table("for name, told in CHECKS")}
    recall = {name: values[3] for name, values in rows.items()}
    assert recall.pop("Flipped") == 0, "no text shows a flipped label"
    assert len(recall) >= 10
    assert min(recall.values()) > 0.6
    assert sorted(recall.values())[len(recall) // 2] > 0.95
    assert "undone is the edit of the last edited pair: True" in notebook.text("pairs.undo()")
    assert "version 2" in notebook.text("pairs.undo()")

    planted, before, estimate = notebook.numbers("suspects = lab", r"labels: (\d+)% flipped by us, (\d+)% wrong.* estimated (\d+)%")
    assert 5 < estimate < planted + before, "the text says that the estimate is lower than the truth"
    low, high = notebook.numbers("suspects = lab", r"interval of the estimate: (\d+)% to (\d+)%")
    assert high - low > 15, "the text says that the interval is wide"
    assert low < planted + before <= high
    flipped, noisy, _ = notebook.columns("count in (50, 100, 200, len(left))")
    wrong = [a + b for a, b in zip(flipped, noisy)]
    assert wrong[0] > 0.75
    assert wrong[2] > 0.6 > 2 * wrong[3] - 0.1
    assert wrong == sorted(wrong, reverse=True)
    alone = {row[0]: list(map(float, row[1:])) for row in notebook.table("alone = {}")}
    assert alone["both, weighted"][0] >= max(alone["runs alone"][0], alone["word sequences alone"][0])
    runs, words = notebook.numbers("suspects = lab", r"'runs': (\S+), 'ngrams': (\S+)\}")
    assert runs < words, "the text says that word sequences count for more"
    before, after = notebook.numbers("pairs.apply(swap", r"wrong labels: (\d+) of \d+ before, (\d+) after")
    assert after < 0.75 * before

    _, true_order, reward, *_ = notebook.columns("result.round(2)")
    assert true_order == sorted(true_order), "as it is, repaired, sound"
    assert true_order[0] < 0.72 < 0.74 < true_order[1]
    assert reward[0] + 0.2 < reward[1]
    assert reward[0] + 0.3 < reward[2]
    _not_answered(notebook, "08")


def from_the_tiny_model_to_a_real_one(notebook: Executed) -> None:
    assert "counted" in notebook.text('"read, but not counted"')
    assert notebook.text('"read, but not counted"').count("</s>") == 1, "the end is counted once, and the prompt has none"
    sizes = {row[0]: row[1:] for row in notebook.table("predicted.astype")}
    assert sizes["SmolLM2-135M, full"][0] == "134515008"
    assert sizes["SmolLM2-135M, LoRA"][0] == "2442240"
    assert notebook.table("measured / expected")
    *predicted, w, g, o = notebook.columns("measured / expected")
    assert predicted == [w, g, o]
    assert "memory   about" in notebook.text("for line in reports")

    first, apart = notebook.numbers("losses.diff", r"measured (\S+)\nlargest difference .*: (\S+)")
    assert first == pytest.approx(math.log(2), abs=1e-4)
    assert apart == 0
    assert "not stopped: 0 of" in notebook.text("losses.diff"), "no reference is computed twice"
    before, after = notebook.columns('"eval/kl": "KL [nats]"')
    assert before[0] == pytest.approx(math.log(2), abs=1e-3)
    assert before[1:] == [0, 0, 0]
    assert after[3] > 0
    differences = notebook.numbers('"export-', r"adapter .*token (\S+) nats[^$]*merged .*token (\S+) nats")
    assert max(differences) < 1e-4
    assert notebook.numbers("two processes", r"largest difference: (\S+)")[0] < 1e-5
    _not_answered(notebook, "10")


def _not_answered(notebook: Executed, lesson: str) -> None:
    for number in (1, 2, 3):
        assert "Not answered yet." in notebook.text(f'check("{lesson}.{number}"')


CHECKS = {
    "07_reading_curves": reading_curves,
    "08_inspect_and_repair": inspect_and_repair,
    "10_from_the_tiny_model_to_a_real_one": from_the_tiny_model_to_a_real_one,
}
