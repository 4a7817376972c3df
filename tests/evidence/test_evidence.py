"""Evidence from training: numbers of trajectories, one run's evidence, and flipped labels found by short runs."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

import lab
from lab.evidence import evidence_of, flip_findings, held_out_leaks, plant, run_findings, share_sentence, trajectory_numbers
from lab.evidence.combining import combine
from lab.evidence.ngram_model import ngram_margins
from lab.evidence.run_evidence import WRONG_LABELS
from lab.evidence.short_runs import draw_folds, steps_for
from lab.pairs import Pair, PairsError, pair_of
from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.data.training_pairs import divide
from lab.training.run_folder import create_run
from tests.bench.bench_flips import average_precision_at, flipped_set
from tests.bench.bench_states import counts, known_set, states_of


def test_trajectory_numbers():
    visits = pd.DataFrame(
        [("a", 1, -1.0), ("b", 1, 2.0), ("a", 3, 1.0), ("a", 2, 3.0), ("a", 4, -2.0), ("a", 5, 0.0)],
        columns=["pair", "step", "margin"],
    )
    table = trajectory_numbers(visits)
    assert list(table.index) == ["a", "b"]
    a, b = table.loc["a"], table.loc["b"]
    sigmoids = 1 / (1 + np.exp([1.0, -3.0, -1.0, 2.0, 0.0]))
    assert a["visits"] == 5
    assert a["confidence"] == pytest.approx(sigmoids.mean())
    assert a["variability"] == pytest.approx(sigmoids.std(ddof=1))
    assert (a["correctness"], a["aum"], a["forgotten"], a["first_margin"], a["last_margin"]) == (0.4, 0.2, 1, -1.0, 0.0)
    assert (b["visits"], b["forgotten"]) == (1, 0)
    assert np.isnan(b["variability"])
    assert trajectory_numbers(visits[:0]).empty


def good_or_bad(count: int, seed: int = 0) -> list[Pair]:
    """Pairs whose chosen answer has a good word where the rejected one has a bad word."""
    rng = random.Random(seed)
    good, bad, other = ("please", "gladly", "kindly"), ("never", "stupid", "awful"), ("the", "pot", "water", "egg", "salt", "time")

    def answer(words: tuple[str, ...]) -> str:
        return " ".join(rng.sample([*rng.choices(other, k=7), rng.choice(words)], 8))

    return [pair_of({"prompt": f"Question {i}?", "chosen": answer(good), "rejected": answer(bad)}) for i in range(count)]


def test_flipped_labels_are_found_by_their_words():
    planted = plant(good_or_bad(300), {"flipped": 30}, seed=4)
    folds = draw_folds(300, 5, 0)
    margins = ngram_margins(planted.pairs, folds)
    flipped = np.array([pair.id in planted.ids("flipped") for pair in planted.pairs])
    assert set(np.argsort(margins.held_out)[:30]) == set(np.flatnonzero(flipped))
    chance = np.random.default_rng(0).normal(size=300)
    combined = combine({"words": margins.held_out, "chance": chance}, {"words": margins.everywhere, "chance": chance})
    assert combined.weights["words"] > 5 * combined.weights["chance"]
    assert combined.noise == pytest.approx(0.1, abs=0.05)
    low, high = combined.interval
    assert 0.02 < low < combined.noise < high < 0.2
    assert combined.probability[flipped].mean() > 0.5
    assert combined.probability[~flipped].mean() < 0.1


def test_folds_are_even_and_drawn_by_the_seed():
    folds = draw_folds(10, 3, 1)
    assert sorted(np.bincount(folds)) == [3, 3, 4]
    assert (folds == draw_folds(10, 3, 1)).all()
    assert (folds != draw_folds(10, 3, 2)).any()
    assert steps_for(300, 3, 16, 1.0) == 13


def test_suspects(model_folder):
    planted = plant(good_or_bad(48), {"flipped": 5}, seed=4)
    stages = []
    settings = {"batch_size": 8, "learning_rate": 3e-3, "max_length": 64, "device": "cpu"}
    table = lab.suspects(planted.pairs, model_folder("llama"), folds=2, progress=lambda *stage: stages.append(stage), **settings)
    assert set(table["pair_id"]) == {pair.id for pair in planted.pairs}
    assert table["margin"].is_monotonic_increasing
    assert table["probability"].between(0, 1).all()
    assert (table["confidence"].between(0, 1) & (table["variability"] >= 0)).all()
    assert set(table["pair_id"][:6]) & planted.ids("flipped")
    assert stages[0] == ("loading the model", 0.0)
    assert any("short run 2 of 2" in stage for stage, _ in stages)
    assert all(0 <= share <= 1 for _, share in stages)
    found = flip_findings(table, 0.0)
    assert [finding.pair_id for finding in found] == list(table["pair_id"])
    assert {(finding.check, finding.remedy) for finding in found} == {("probably_flipped", "swap")}
    assert flip_findings(table, 1.01) == []
    low, high = table.attrs["noise_interval"]
    assert low <= table.attrs["noise"] <= high
    assert table["probability"].is_monotonic_decreasing
    assert share_sentence(table)


def test_suspects_need_enough_pairs():
    with pytest.raises(PairsError, match="too few"):
        lab.suspects(good_or_bad(20), folds=3)
    with pytest.raises(PairsError, match="at least 2 folds"):
        lab.suspects(good_or_bad(60), folds=1)


def test_labels_by_chance_are_no_suspects(model_folder):
    words = ["pot", "salt", "egg", "time", "water", "oven", "bread"]
    rng = random.Random(1)
    pairs = [
        pair_of({"prompt": f"Q {i}?", "chosen": " ".join(rng.sample(words, 6)), "rejected": rng.choice(words)}) for i in range(20)
    ]
    flipped = [Pair(f"{pair.id}-r", pair.prompt, pair.rejected, pair.chosen) for pair in pairs]
    with pytest.raises(PairsError, match="labels cannot be told"):
        lab.suspects([*pairs, *flipped], model_folder("llama"), folds=2, batch_size=8, max_length=64, device="cpu")


def test_evidence_of_a_run(model_folder, tmp_path):
    pairs = good_or_bad(16)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    settings = {"steps": 12, "batch_size": 4, "learning_rate": 1e-2, "eval_prompts": 0, "eval_every": 4, "held_out": 0.2}
    run = lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / "run", background=False, queue=False, **settings)
    table = evidence_of(run)
    stored = lab.open_pairs(rows)
    assert set(table["pair_id"]) == set(stored.ids())
    held_out = set(table["pair_id"][table["held_out"]])
    assert held_out == set(run.held_out()["pair"])
    assert (table["state"][table["held_out"]] == "held out").all()
    trained = table[~table["held_out"]]
    assert (trained["visits"] >= 2).all()
    assert set(trained["state"]) <= {"learned", "unsteady", "forgotten", "never learned"}
    assert held_out_leaks(run) == []
    found = run_findings(table)
    assert {f.pair_id for f in found} == set(trained["pair_id"][trained["state"].isin(["forgotten", "never learned"])])


def test_findings_of_a_run_are_as_confident_as_they_were_measured():
    columns = ["pair_id", "state", "visits", "forgotten", "last_margin"]
    rows = [
        ("a", "never learned", 3, 0, -1.0),
        ("b", "forgotten", 3, 2, -0.5),
        ("c", "unsteady", 3, 1, 0.5),
        ("d", "learned", 3, 0, 1.0),
    ]
    never, forgotten = run_findings(pd.DataFrame(rows, columns=columns))
    assert (never.pair_id, never.check, never.confidence) == ("a", "never_learned", WRONG_LABELS["never_learned"])
    assert (forgotten.pair_id, forgotten.check, forgotten.confidence) == ("b", "forgotten", WRONG_LABELS["forgotten"])
    assert 0.1 < forgotten.confidence < never.confidence < 1, "of all labels of the embedded world a tenth is wrong"
    assert "forgot it 2 times" in forgotten.sentence


def test_states_are_counted_by_what_is_known_of_their_pairs():
    pairs = [Pair(str(i), "Q?", f"take {i} clean spoons", f"leave {i} of them", meta={"noisy": i % 10 == 0}) for i in range(200)]
    known = known_set(pairs, 0.1, seed=0)
    assert known.alike.sum() == 10
    assert not (known.wrong & known.alike).any()
    noisy = np.array([pair.meta["noisy"] for pair in pairs])
    assert known.wrong.sum() == 20 + (noisy & ~known.alike).sum()
    for pair, made, wrong, alike in zip(pairs, known.pairs, known.wrong, known.alike):
        assert made.meta == {}
        if not alike:
            assert (made.chosen == pair.rejected) == (wrong and not pair.meta["noisy"])
    visits = pd.DataFrame(
        [(i, step, 1.0 if i else -1.0) for i in range(200) for step in (1, 2)], columns=["pair", "step", "margin"]
    )
    table = counts(known, states_of(visits))
    assert table["never learned"] == {"pairs": 1, "wrong": int(known.wrong[0]), "alike": int(known.alike[0])}
    assert table["learned"]["pairs"] == 199


def test_leaks_between_the_two_parts_of_a_run(tmp_path):
    pairs = good_or_bad(20)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    twice = [*rows, *({**row, "prompt": f"{row['prompt']} "} for row in rows)]  # another prompt, so maybe on the other side
    store = lab.open_pairs(twice)
    config = TrainConfig.parse(objective="dpo", held_out=0.3)
    create_run(tmp_path / "run", config, pairs_store=str(store.location), pairs_version=store.version, pairs_name=store.name)
    StoreWriter(tmp_path / "run").close()
    found = held_out_leaks(tmp_path / "run")
    _, kept_apart = divide(config, store.all())
    held_out = {pair.id: pair.prompt.strip() for pair in kept_apart}
    assert found
    assert all(f.pair_id not in held_out and store[f.pair_id].prompt.strip() == held_out[f.other_id] for f in found)


def test_states():
    from lab.evidence.run_evidence import _state

    assert _state(False, 1, 0, 0.0) == "seen once"
    assert _state(False, 3, 0, 1.0) == "learned"
    assert _state(False, 3, 0, -1.0) == "never learned"
    assert _state(False, 3, 1, -1.0) == "forgotten"
    assert _state(False, 3, 1, 1.0) == "unsteady"
    assert _state(True, 3, 1, 1.0) == "held out"


def test_the_measure():
    flipped = np.array([True, False, True, False])
    assert average_precision_at(np.array([0.0, 1.0, 2.0, 3.0]), flipped) == 0.5
    pairs = [
        Pair(str(i), "Q?", f"a{i}", f"b{i}", meta={"true_gap": gap, "noisy": gap < 0})
        for i, gap in enumerate((2.0, -1.0, 1.0, 3.0))
    ]
    made = flipped_set(pairs, 0.5, seed=3)
    assert made.flipped.sum() == 2
    assert not made.flipped[1]  # its label was wrong before
    for pair, original, flip, gap in zip(made.pairs, pairs, made.flipped, made.gaps):
        assert (pair.chosen == original.rejected) == flip
        assert gap == original.meta["true_gap"] * (-1 if flip else 1)
