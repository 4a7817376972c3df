"""SPO on one answer: what every degree removes, and what a run's head says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lab
from lab.pairs import Pair, degrade
from lab.teaching import degraded_answers, head_probabilities
from lab.whatif import free
from lab.whatif.degrees import degree_guesses

TEXT = "Mix the strong flour with warm water, knead the soft dough, and bake the round bread in a hot oven."


def test_each_degree_lacks_the_phrases_that_are_marked() -> None:
    table = degraded_answers(TEXT, 4)
    assert table["text"].tolist() == degrade(TEXT, 4)
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table["share"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert not any(phrase.removed for phrase in table["phrases"][0])
    for row in table.itertuples():
        scores = [phrase.score for phrase in row.phrases]
        assert scores == sorted(scores, reverse=True)
        for phrase in row.phrases:
            assert TEXT[phrase.start : phrase.end] == phrase.text
            assert (phrase.text not in row.text) == phrase.removed
        assert [phrase.removed for phrase in row.phrases] == sorted((p.removed for p in row.phrases), reverse=True)
    assert table["removed"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("text", "degrees", "message"),
    [
        ("the and of", 4, "0 different key phrases, too few for 4"),
        ("", 2, "0 different key phrases"),
        (TEXT, 12, "too few for 12"),
        (TEXT, 1, "at least 2"),
        ("word " * 5000, 3, "25,000 characters"),
    ],
)
def test_a_text_that_cannot_be_degraded_is_refused(text: str, degrees: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        degraded_answers(text, degrees)


@pytest.mark.parametrize("source", ["rejected", "both"])
def test_the_head_of_a_run_answers_for_every_degree(source: str, model_folder: Any, rows: list[dict[str, str]]) -> None:
    run = lab.train(
        {"name": "spo", "degrees": 3, "degraded_source": source},
        rows[:4],
        model_folder("llama"),
        steps=1,
        batch_size=2,
        device="cpu",
        evaluate=False,
        probe_budget=0.0,
        background=False,
    )
    assert run.state == "finished", run.error
    model = lab.examine(run)
    table = head_probabilities(model, TEXT)
    assert table.columns.tolist() == ["p0", "p1", "p2", "predicted"]
    assert table.index.tolist() == [0, 1, 2]
    np.testing.assert_allclose(table[["p0", "p1", "p2"]].sum(axis=1), 1, rtol=1e-5)
    prompt = model.pairs()[0].prompt
    guesses = degree_guesses(model, Pair("x", prompt, TEXT, TEXT))
    np.testing.assert_allclose(table.loc[2, ["p0", "p1", "p2"]].astype(float), guesses[2].probabilities, rtol=1e-5)
    with pytest.raises(ValueError, match="too few for 3"):
        head_probabilities(model, "the")
    free()


def test_a_run_without_a_head_is_refused() -> None:
    folder: Any = SimpleNamespace(name="plain")
    model: Any = SimpleNamespace(degraded_spec=None, degree_head=None, run_dir=folder)
    with pytest.raises(ValueError, match="plain has no degree head"):
        head_probabilities(model, TEXT)
    sampled: Any = SimpleNamespace(degraded_spec=SimpleNamespace(source="sampled", degrees=3), degree_head=object(), run_dir=folder)
    with pytest.raises(ValueError, match="that it samples"):
        head_probabilities(sampled, TEXT)
