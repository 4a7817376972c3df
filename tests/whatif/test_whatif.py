"""Questions to a run's model: the run's own numbers come back, weights are what they were, and the run is left alone."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import lab
from lab import whatif
from lab.objectives import OBJECTIVES
from lab.pairs import Pair
from lab.training.data.schedule import BatchSchedule
from lab.whatif import Examined, WhatIfError, checkpoint_now, examine, free, openable
from tests.helpers import until

STEPS, SAVED = 4, 2
SETTINGS = {
    "steps": STEPS,
    "batch_size": 3,
    "learning_rate": 1e-3,
    "warmup_ratio": 0.0,
    "save_every": SAVED,
    "device": "cpu",
    "evaluate": False,
    "probe_budget": 0.0,
    "seed": 3,
}
ADAPTER = {"lora_rank": 2, "lora_dropout": 0.1}


_trained: dict[str, lab.Run] = {}


@pytest.fixture
def trained(model_folder, rows, tmp_path):
    """trained("dpo") is a finished run of a few steps with a checkpoint in the middle. It is made once: tests only look at it."""

    def make(objective, **more):
        key = f"{objective} {more}"
        if key not in _trained or not _trained[key].dir.exists():
            settings = SETTINGS | {"run_dir": tmp_path / "run"} | more
            run = lab.train(objective, rows[:9], model_folder("llama"), background=False, **settings)
            assert run.state == "finished", run.error
            _trained[key] = run
        return _trained[key]

    return make


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays_open():
    yield
    free()


def weights(model: Examined) -> list[torch.Tensor]:
    head = model.degree_head
    inside = [*model.policy.model.state_dict().values(), *(head.state_dict().values() if head else ())]
    return [value.clone() for value in inside]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def content(folder: Path) -> dict[str, str]:
    """A hash of every file that holds what a run has said; SQLite's own index of a log changes by being read."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", ".lock"))]
    return {str(path): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def batch(run: lab.Run, model: Examined, step: int) -> tuple[list[Pair], pd.DataFrame]:
    """The pairs of a step in the order in which the run took them, and what it recorded of them."""
    recorded = run.reader.pairs.batch(step).set_index("pair")
    ready = [pair.id for pair in model.pairs()]
    order = BatchSchedule.of(len(ready), model.config.batch_size, model.config.seed).batch(step)
    return [model.store.get(ready[number]) for number in order], recorded


QUICK = ("sgdpo", "spo", "alpha_dpo")
EXTENDED = ("dpo", "wpo", "aot", "simpo")
MARKS = dict.fromkeys(OBJECTIVES, pytest.mark.slow) | dict.fromkeys(EXTENDED, pytest.mark.extended) | dict.fromkeys(QUICK, ())
ALL = [pytest.param(name, marks=MARKS[name]) for name in sorted(OBJECTIVES)]


@pytest.mark.parametrize("name", [*ALL, "sgdpo with an adapter", "spo with an adapter"])
def test_the_runs_own_numbers_come_back_to_the_last_bit(name: str, trained) -> None:
    objective, *adapter = name.split(" with ")
    run = trained(objective, **(ADAPTER if adapter else {}))
    model = examine(run, SAVED)
    pairs, recorded = batch(run, model, SAVED + 1)
    before = weights(model)
    found = model.score(pairs, as_batch_of=SAVED + 1)
    for term in recorded.columns.drop(["step", "version"]):
        expected = recorded.loc[found.terms.index, term].to_numpy()
        np.testing.assert_array_equal(found.terms[term].to_numpy(), expected, err_msg=term)
    tokens = run.reader.tokens.read(SAVED + 1).set_index(["pair", "side"])
    for row in found.tokens.itertuples():
        for column in ("ids", "logps", "ref_logps", "credit", "pilot"):
            np.testing.assert_array_equal(getattr(row, column), tokens.loc[(row.pair, row.side), column], err_msg=column)
    assert same(before, weights(model))
    assert all(parameter.grad is None for parameter in model.trained())


def test_one_pair_alone_has_the_numbers_it_had_in_its_batch(trained) -> None:
    run = trained("dpo")
    model = examine(run, SAVED)
    pairs, recorded = batch(run, model, SAVED + 1)
    found = model.score(pairs[:1])
    for term in recorded.columns.drop(["step", "version"]):
        assert found.terms[term].iloc[0] == pytest.approx(recorded.loc[pairs[0].id, term], rel=1e-4, abs=1e-5), term


@pytest.mark.parametrize("optimizer", whatif.OPTIMIZERS)
@pytest.mark.parametrize(
    ("name", "settings"),
    [("dpo", {}), ("sgdpo", ADAPTER), ("spo", {}), ("spo", ADAPTER)],
    ids=["dpo", "sgdpo with an adapter", "spo", "spo with an adapter"],
)
def test_a_virtual_step_moves_the_pair_and_is_rolled_back_bit_for_bit(name: str, optimizer: str, settings, trained) -> None:
    run = trained(name, **settings)
    model = examine(run, SAVED)
    pair = model.pairs()[0]
    before, slots = weights(model), {n: {s: v.clone() for s, v in x.items()} for n, x in model.stored.slots.items()}
    rate = 1e-3 if optimizer == "adamw" else 0.1
    found = model.virtual_step(pair, learning_rate=rate, optimizer=optimizer)
    again = model.virtual_step(pair, learning_rate=rate, optimizer=optimizer)
    assert same(before, weights(model))
    assert all(torch.equal(v, model.stored.slots[n][s]) for n, x in slots.items() for s, v in x.items())
    pd.testing.assert_frame_equal(found.changes, again.changes, check_exact=True)
    assert found.own["margin_change"].item() > 0, "a step on a pair raises its own margin"
    assert len(found.changes) == found.of == 9
    assert len(found.helped) + len(found.hurt) == 8
    assert found.grad_norm > 0
    assert found.moved > 0
    changes = found.changes
    np.testing.assert_allclose(changes["margin_change"], changes["margin_after"] - changes["margin_before"])
    assert changes["margin_change"].is_monotonic_decreasing


def test_a_virtual_step_is_the_step_that_a_run_with_this_pair_alone_takes(trained, tmp_path) -> None:
    """Train one more step, with a batch of one pair, from the same checkpoint; compare the margins."""
    run = trained("dpo", batch_size=1, schedule="constant")
    model = examine(run, SAVED)
    step = run.reader.pairs.batch(SAVED + 1)
    pair = model.store.get(step["pair"].iloc[0])
    others = model.pairs()
    found = model.virtual_step(pair, on=others)
    assert found.learning_rate == 1e-3
    assert found.grad_norm == pytest.approx(run.scalars(["grad_norm"]).loc[SAVED + 1, "grad_norm"], rel=1e-6)
    one = trained("dpo", batch_size=1, schedule="constant", run_dir=tmp_path / "one", save_every=1, keep_checkpoints=9)
    after = examine(one, SAVED + 1)
    margins = after.score(others).terms
    expected = (margins["reward_chosen"] - margins["reward_rejected"]).to_dict()
    for row in found.changes.itertuples():
        assert row.margin_after == pytest.approx(expected[row.pair], rel=1e-4, abs=1e-5)


def test_a_virtual_step_judges_the_pair_by_the_statistics_of_the_run(trained) -> None:
    """A pair alone has no spread: by its own statistics its z would be 0, and the step another one."""
    model = examine(trained("alpha_dpo"), SAVED)
    pair = model.pairs()[0]
    z = float(model.score([pair]).terms["z"].iloc[0])
    assert z != 0
    norms, encoded = {}, model.encode(pair)
    for training in (False, True):
        result = model.gradient([encoded], SAVED + 1, training=training)
        assert float(result.credited.outcome.terms["z"][0]) == pytest.approx(0.0 if training else z, rel=1e-4)
        norms[training] = math.sqrt(sum(float(p.grad.square().sum()) for p in model.trained()))
        model.forget_gradients()
    found = model.virtual_step(pair)
    assert found.grad_norm == pytest.approx(norms[False], rel=1e-5)
    assert abs(norms[True] - norms[False]) > 1e-3 * norms[False]


def test_a_virtual_step_before_the_first_where_statistics_are_of_the_data_set(trained) -> None:
    model = examine(trained({"name": "alpha_dpo", "normalize": "dataset"}), 0)
    found = model.virtual_step(model.pairs()[0])
    assert found.own["margin_change"].item() > 0


def test_nothing_of_the_run_is_touched(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))  # the cache of the other tests is written by whoever runs beside them
    run = trained("spo", seed=4)
    folders = (run.dir, tmp_path / "cache" / "reference", Path(run.manifest["pairs_store"]).parent)
    model = examine(run, SAVED)
    before = [content(folder) for folder in folders]
    pair = model.pairs()[0]
    edited = replace(pair, chosen="Something that nobody has ever computed 🙂 <b>x</b>", prompt="Another question?\n")
    found = model.score([pair, edited])
    model.virtual_step(edited)
    assert [content(folder) for folder in folders] == before
    assert found.terms["loss"].notna().all()
    assert found.terms["log_ratio_chosen"].iloc[1] != 0, "the edited text has a reference of its own, not the policy"


@pytest.mark.parametrize("settings", [{}, ADAPTER], ids=["full", "adapter"])
def test_the_reference_of_an_edited_text_is_the_model_as_it_was_loaded(settings, trained) -> None:
    run = trained("dpo", **settings)
    start, end = examine(run, 0), examine(run)
    assert end.step == STEPS
    edited = replace(start.pairs()[0], rejected="A text of one's own.")
    one, other = start.score([edited]).tokens, end.score([edited]).tokens
    for at_start, at_end in zip(one.itertuples(), other.itertuples()):
        np.testing.assert_allclose(at_end.ref_logps, at_start.logps, atol=1e-5)
        assert np.abs(at_end.logps - at_start.logps).max() > 1e-4


def test_the_settings_in_use_at_the_checkpoint_hold(trained, tmp_path) -> None:
    run = trained("dpo")
    model = examine(run, SAVED)
    branch = lab.train(branch_from=run, at=SAVED, objective={"name": "dpo", "beta": 0.5}, background=False, run_dir=tmp_path / "b")
    assert openable(branch) == [SAVED, STEPS]
    other = examine(branch, SAVED)
    assert (model.objective.beta, other.objective.beta) == (0.1, 0.5)
    pair = model.pairs()[0]
    assert other.score([pair]).terms["logps_chosen"].iloc[0] == model.score([pair]).terms["logps_chosen"].iloc[0]


def test_models_stay_open_and_are_freed(trained) -> None:
    run = trained("dpo")
    free()
    assert whatif.kept(run, SAVED) is None
    model = examine(run, SAVED)
    assert examine(run, SAVED) is model is whatif.kept(run, SAVED)
    examine(run, 0)
    examine(run, STEPS)
    assert whatif.kept(run, SAVED) is None, "the two latest"
    free()
    assert whatif.kept(run, STEPS) is None


def test_a_cancelled_step_is_rolled_back(trained) -> None:
    model = examine(trained("sgdpo"), SAVED)
    before = weights(model)

    class Cancelled(Exception):
        pass

    def progress(message: str, share: float) -> None:
        if message.startswith("measuring after"):
            assert not same(before, weights(model)), "the step was taken"
            raise Cancelled

    with pytest.raises(Cancelled):
        model.virtual_step(model.pairs()[0], progress=progress)
    assert same(before, weights(model))


def test_a_sample_of_the_others(trained) -> None:
    model = examine(trained("dpo"), SAVED)
    pair = model.pairs()[4]
    found, again = (model.virtual_step(pair, sample=3) for _ in range(2))
    assert list(found.changes["pair"]) == list(again.changes["pair"])
    assert len(found.changes) == 4
    assert found.of == 9
    still = model.virtual_step(pair, sample=3, learning_rate=0.0)
    assert (still.changes["margin_change"] == 0).all()
    assert still.moved == 0


def test_the_rate_is_the_schedules_and_never_nothing(trained) -> None:
    run = trained("dpo", warmup_ratio=0.5)
    assert examine(run, SAVED).rate == run.config.rate(SAVED + 1)
    assert examine(run, 0).rate == examine(run, STEPS).rate == 1e-3, "the warm-up begins with 0, and the run is over"


def test_a_checkpoint_that_is_not_there(trained) -> None:
    for at, message in ((1, "step 1; the nearest is that of step 0"), (99, "step 99; .* step 4"), ("then", "no checkpoint 'then'")):
        with pytest.raises(WhatIfError, match=rf"{message}.*0, 2, 4"):
            examine(trained("dpo"), at)


def test_what_cannot_be_is_said_in_a_sentence(trained) -> None:
    run = trained("dpo")
    model = examine(run, SAVED)
    pair = model.pairs()[0]
    with pytest.raises(ValueError, match="no optimizer 'adam'"):
        model.virtual_step(pair, optimizer="adam")
    with pytest.raises(ValueError, match="learning_rate = nan does not work"):
        model.virtual_step(pair, learning_rate=math.nan)
    with pytest.raises(ValueError, match="no pairs"):
        model.score([])
    with pytest.raises(ValueError, match="half of a character"):
        model.score([replace(pair, chosen="\ud83d")])


def test_memory_that_will_not_do_is_said_before(trained, monkeypatch) -> None:
    run = trained("dpo")
    model = examine(run, SAVED)
    monkeypatch.setattr("lab.whatif.virtual.available_bytes", lambda device: 1000)
    with pytest.raises(WhatIfError, match=r"A virtual step with adamw needs .* but 1 KB are free"):
        model.virtual_step(model.pairs()[0])
    free()
    monkeypatch.setattr("lab.whatif.open_checkpoint.available_bytes", lambda device: 1000)
    with pytest.raises(WhatIfError, match=r"takes .* of memory, but 1 KB are free"):
        examine(run, STEPS)


def test_long_texts_are_cut_and_counted(trained) -> None:
    model = examine(trained("dpo", max_length=64), SAVED)
    pair = replace(model.pairs()[0], chosen="Knead the dough, wait, and bake the bread. " * 30)
    found = model.score([pair])
    assert found.cut[pair.id]["chosen"] > 100
    assert found.cut[pair.id]["rejected"] == 0
    assert found.terms["loss"].notna().all()


def test_any_text_can_be_scored(trained) -> None:
    model = examine(trained("sgdpo"), SAVED)
    pair = model.pairs()[0]
    for text in ("", " ", "\n\n", "🙂", "<script>alert(1)</script>", "</s>", "x" * 4000):
        found = model.score([replace(pair, chosen=text)])
        assert found.terms["loss"].notna().all(), text
        assert len(found.tokens.iloc[0]["logps"]) >= 1


def test_a_live_run_saves_a_checkpoint_when_it_is_asked(model_folder, rows, tmp_path) -> None:
    gate = threading.Event()
    settings = SETTINGS | {"steps": 400, "save_every": 0, "on_step": lambda step, _: step < 3 or gate.wait(20)}
    run = lab.train("dpo", rows[:9], model_folder("llama"), run_dir=tmp_path / "live", **settings)
    said: list[str] = []

    def progress(message: str, share: float) -> None:
        said.append(message)
        gate.set()

    try:
        until(lambda: run.step >= 2)
        model = examine(run, "now", progress=progress, timeout=60)
        assert 2 <= model.step <= 400
        assert model.step in openable(run)
        assert any("waiting for the run to save" in message for message in said)
        run.pause()
        step = checkpoint_now(run, timeout=60)
        assert step == checkpoint_now(run, timeout=60), "a paused run has saved at this step already"
    finally:
        gate.set()
        run.stop()
        assert run.wait(60) == "stopped"
    assert checkpoint_now(run) == run.step


def test_a_run_that_saves_nothing_is_waited_for_no_longer(model_folder, rows, tmp_path) -> None:
    gate = threading.Event()
    settings = SETTINGS | {"on_step": lambda step, _: gate.wait(20)}
    run = lab.train("dpo", rows[:9], model_folder("llama"), run_dir=tmp_path / "live", **settings)
    try:
        until(lambda: run.step >= 1)  # asked before its first step it would save at once
        with pytest.raises(WhatIfError, match=r"saved no checkpoint within 0\.2 seconds"):
            checkpoint_now(run, timeout=0.2)
    finally:
        gate.set()
        run.wait(60)
