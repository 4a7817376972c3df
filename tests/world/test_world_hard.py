"""The hard world: two interacting qualities, long answers, an annotator who likes length; the first world stays what it was."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from lab.pairs import pairs_from_rows
from lab.pairs.checks import length_bias
from lab.world import HARD, KINDS, PLAIN, World, WorldSpec, annotator, ensure, preference_probability, sample_pairs, score
from lab.world.build import write_texts
from lab.world.language import STYLES, TASKS, Draft, explained, perfect, write_answer
from lab.world.tasks import PHRASINGS

SPEC = WorldSpec.named("world-hard")
QUESTIONS = [(task, task.question(phrasing)) for task in TASKS for phrasing in PHRASINGS]


def words(text: str) -> int:
    return len(text.split())


def sampled(length_bias: float, seed: int = 1) -> list[dict[str, Any]]:
    reward = annotator(HARD, length_bias)
    return sample_pairs(QUESTIONS, 1500, random.Random(seed), temperature=0.7, least_gap=0.4, kind=HARD, reward=reward)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return sampled(SPEC.length_bias)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> World:
    return ensure(WorldSpec.tiny(kind="world-hard"), cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("spec", "digests"),
    [
        (WorldSpec(), ("d357b22b00bc08e9381fd139be2315b52ee607b38785e5de5bbf631da135daf4",
                       "4aaa81fa5878e0f5c0dc51b560367dd9181a1bf782be56c7dc02845f69baec15",
                       "8651387b896cac846f76af8e9640d23af148be23272ddba5f9193b09924b8d9e")),
        (WorldSpec.tiny(), ("c9bf71ba69553e12bfe46f0a4af1d0727e2eed945485eac5b6138f5181add589",
                            "cbbf1b05de3d2288b07dd1d458f4b4fa6812f6b3e937836bd90dff49ab0b16d8",
                            "c617e738d885e32ec1706d7a40845c2949eb982e0269d4eeef87a525ad5b989b")),
    ],
    ids=["default", "tiny"],
)  # fmt: skip
def test_the_first_world_is_what_it_was(spec: WorldSpec, digests: tuple[str, ...], tmp_path: Path) -> None:
    """Results on it are comparable over versions of the lab: its pairs and prompts are the same bytes."""
    write_texts(spec, tmp_path)
    written = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("world.jsonl", "held_out.jsonl", "prompts.jsonl")
    ]
    assert tuple(written) == digests


def test_correctness_and_thoroughness_interact() -> None:
    """An explanation of a right step is worth something, the same explanation after the wrong step costs something."""
    gains: dict[str, list[float]] = {"right": [], "wrong": []}
    for task in TASKS:
        for name, steps in (("right", task.right), ("wrong", task.wrong)):
            with_reasons = tuple(f"{step} {why}" for step, why in zip(steps, task.why))
            bare, full = (score(task.question(PHRASINGS[0]), " ".join(part), HARD).total for part in (steps, with_reasons))
            gains[name].append(full - bare)
    assert fmean(gains["right"]) == pytest.approx(2.0)
    assert max(gains["wrong"]) < 0


def test_thoroughness_helps_until_it_repeats() -> None:
    rng = random.Random(0)
    means = []
    for thoroughness in (0.0, 0.3, 1.0):
        answers = [(task, explained(perfect(task, rng), task, thoroughness, rng).text("plain")) for task in TASKS for _ in range(8)]
        means.append(fmean(score(task.question(PHRASINGS[0]), answer, HARD).total for task, answer in answers))
    assert means[1] > means[0] + 1
    assert means[1] > means[2] + 1


@pytest.mark.parametrize("style", STYLES)
def test_the_best_answer_is_explained_in_every_style(style: str) -> None:
    rng = random.Random(0)
    for task in TASKS:
        answer = explained(perfect(task, rng), task, 0.0, rng).text(style)
        assert score(task.question(PHRASINGS[0]), answer, HARD).total == HARD.best - 2
        reasons = tuple(f"{step} {why}" for step, why in zip(task.right, task.why))
        draft = perfect(task, rng)
        found = score(task.question(PHRASINGS[0]), Draft(draft.before, reasons, draft.after).text(style), HARD)
        assert (found.total, found.valid, found.defects) == (HARD.best, True, ())


def test_answers_are_longer_but_not_endless() -> None:
    rng = random.Random(0)
    lengths = {
        name: [words(write_answer(task, rng.random(), rng, kind)) for task in TASKS for _ in range(8)]
        for name, kind in KINDS.items()
    }
    assert 1.6 < fmean(lengths["world-hard"]) / fmean(lengths["world"]) < 2.2
    assert max(lengths["world-hard"]) <= HARD.most_words


def test_answers_are_in_the_language() -> None:
    rng = random.Random(0)
    assert all(score(prompt, write_answer(task, rng.random(), rng, HARD), HARD).valid for task, prompt in QUESTIONS)


def test_label_noise_is_as_declared(rows: list[dict[str, Any]]) -> None:
    """Labels are Bradley-Terry on the oracle's reward and the declared reward per word, within 4 standard errors."""
    for row in rows[:500]:
        gap = row["true_gap"] + SPEC.length_bias * (words(row["chosen"]) - words(row["rejected"]))
        assert row["preference_probability"] == pytest.approx(preference_probability(gap, 0.7), abs=1e-4)
    better = [max(row["preference_probability"], 1 - row["preference_probability"]) for row in rows]
    followed = sum(row["preference_probability"] > 0.5 for row in rows)
    assert abs(followed - sum(better)) < 4 * math.sqrt(sum(p * (1 - p) for p in better))
    assert 0.12 < fmean(row["noisy"] for row in rows) < 0.22


def longer_wins(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Share of pairs in which the longer answer is chosen, and in which the oracle prefers it."""
    gaps = [(words(row["chosen"]) - words(row["rejected"]), row["true_gap"]) for row in rows]
    gaps = [gap for gap in gaps if gap[0]]
    return fmean(length > 0 for length, _ in gaps), fmean(length * true > 0 for length, true in gaps)


def test_the_longer_answer_wins_more_often_than_the_oracle_says(rows: list[dict[str, Any]]) -> None:
    chosen, better = longer_wins(rows)
    assert chosen > better + 0.1
    assert 0.45 < better < 0.55, "for the oracle length means nothing"
    chosen, better = longer_wins(sampled(0.0))
    assert abs(chosen - better) < 0.03, "without the bias labels follow the oracle"


def test_the_checks_of_the_data_find_the_length_bias(rows: list[dict[str, Any]]) -> None:
    bias = length_bias(pairs_from_rows(rows))
    assert bias.chosen_longer == pytest.approx(longer_wins(rows)[0])
    assert bias.sentence.startswith("The longer answer is chosen in")


def test_its_held_out_tasks_are_held_out(tiny: World) -> None:
    trained = {row["task"] for row in tiny.pairs()}
    assert not {row["prompt"] for row in tiny.pairs()} & set(tiny.held_out_prompts)
    new = [prompt for prompt, group in tiny.held_out_groups.items() if group == "new task"]
    assert len(new) == 4
    assert not any(task in prompt for task in trained for prompt in new)


def test_a_world_is_judged_by_its_own_rules(tiny: World) -> None:
    assert tiny.spec.rules is HARD
    assert tiny.pairs_path.name == "world-hard.jsonl"
    row = next(row for row in tiny.pairs() if "explained" in row["why_chosen"])
    assert tiny.oracle(row["prompt"], row["chosen"]).total == pytest.approx(row["reward_chosen"], abs=1e-4)
    assert score(row["prompt"], row["chosen"], PLAIN).valid is False
    assert "+0.06 per word" in tiny.describe()
