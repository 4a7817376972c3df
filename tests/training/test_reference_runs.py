"""The reference cache in runs: what is computed again, damaged entries, killed and concurrent processes."""

from __future__ import annotations

import multiprocessing
import sqlite3

import numpy as np
import pytest
import torch

import lab
from lab import home
from lab.policy import PromptAnswer, ReferenceCache, load_policy
from tests.helpers import until
from tests.training import trial

pytestmark = pytest.mark.extended

SETTINGS = {"steps": 3, "batch_size": 10, "save_every": 0, "device": "cpu", "eval_tokens": 8, "learning_rate": 1e-4}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def count_computed(model_folder):
    """Return a function that trains a run and returns how many reference entries were computed."""

    def train(pairs, objective="dpo", kind="llama", **settings):
        run = lab.train(objective, pairs, model_folder(kind), background=False, **SETTINGS | settings)
        assert run.state == "finished", run.error
        (detail,) = run.events("reference")["detail"]
        return detail["computed"]

    return train


def test_other_objectives_and_settings_share_the_reference_cache(count_computed, rows):
    rows = rows[:10]
    assert count_computed(rows) == 20
    assert count_computed(rows, {"name": "dpo", "beta": 0.5}) == 0
    assert count_computed(rows, {"name": "sgdpo", "r1": 0.3}) == 0
    assert count_computed(rows, "alpha_dpo", learning_rate=1e-3, seed=7, schedule="constant", warmup_ratio=0.5) == 0
    assert count_computed(rows, lora_rank=2, lora_alpha=4.0) == 0  # the adapter switched off is the same reference
    assert count_computed(rows, micro_batch_size=3, batch_size=6, weight_decay=0.1) == 0


def test_only_edited_answers_are_computed(count_computed, rows):
    pairs = lab.open_pairs(rows[:10])
    first, second, third, *_ = pairs.ids()
    assert count_computed(pairs) == 20
    pairs.edit(first, chosen="Another answer.")
    assert count_computed(pairs) == 1
    pairs.edit(second, prompt="Another question?\n")
    assert count_computed(pairs) == 2
    pairs.swap(third)
    assert count_computed(pairs) == 0
    pairs.undo()
    assert count_computed(pairs) == 0


def test_other_tokens_or_weights_have_other_entries(count_computed, rows):
    rows = rows[:10]
    assert count_computed(rows) == 20
    assert count_computed(rows, max_length=200) == 0  # nothing was cut, so nothing changed
    longer = rows[0] | {"chosen": "flour " * 50}
    assert count_computed([longer, *rows[1:]]) == 1
    assert count_computed([longer, *rows[1:]], max_length=72) <= 2  # the long answer, and the other with its shortened prompt
    assert count_computed(rows, kind="qwen2") == 20


def test_the_precision_is_part_of_the_key(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    completion = PromptAnswer((0, 5), (6, 7))
    ReferenceCache(tmp_path, policy).prepare(policy, [completion])
    policy.autocast = torch.bfloat16
    other = ReferenceCache(tmp_path, policy)
    assert not other.holds(completion)
    with pytest.raises(KeyError):
        other.lookup(completion)


@pytest.mark.parametrize("damage", ["DELETE FROM logps", "UPDATE logps SET value = substr(value, 1, 4)"])
def test_an_entry_lost_in_mid_run_fails_the_run(damage, model_folder, rows):
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS | {"steps": 100_000})
    until(lambda: run.step >= 2, run=run)
    (path,) = (home.cache() / "reference").rglob("*.sqlite")
    with sqlite3.connect(path, timeout=30) as db:
        db.execute(damage)
    assert run.wait(60) == "failed"
    assert "were not computed before the run" in run.error
    assert np.isfinite(run.scalars(["loss"])).all().all()  # the steps before are stored
    # Starting again, as the message advises, computes missing and damaged entries.
    again = lab.train("dpo", rows, model_folder("llama"), background=False, **SETTINGS)
    assert again.state == "finished", again.error


def completions_of(count):
    return [PromptAnswer((0, 2 + i % 7, 3 + i % 11), (*(2 + (i * k) % 250 for k in range(1, 9)), i % 250)) for i in range(count)]


@pytest.fixture
def child(model_folder, tmp_path):
    """Return child(count): (a process that prepares `count` completions after a message, the pipe to it)."""
    context = multiprocessing.get_context("forkserver")  # imports torch once for all of them
    context.set_forkserver_preload(["tests.training.trial"])
    started = []

    def start(count):
        ours, theirs = context.Pipe()
        what = (model_folder("llama"), tmp_path / "reference", completions_of(count), theirs)
        started.append(context.Process(target=trial.prepare_references, args=what))
        started[-1].start()
        theirs.close()
        assert ours.recv() == "ready"
        return started[-1], ours

    yield start
    for process in started:
        process.kill()


def assert_complete(folder, policy, completions):
    cache = ReferenceCache(folder, policy)
    with torch.no_grad():
        direct = policy.logps(completions).logps.numpy()
    for row, completion in enumerate(completions):
        assert np.allclose(cache.lookup(completion), direct[row, : len(completion.answer)], atol=1e-4)
    (path,) = folder.rglob("*.sqlite")
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    cache.close()


def test_a_killed_process_loses_no_finished_batch(child, model_folder, tmp_path):
    process, pipe = child(200)
    pipe.send("go")
    while (done := pipe.recv()) < 40:
        pass
    process.kill()
    process.join()
    policy = load_policy(str(model_folder("llama")), device="cpu")
    cache = ReferenceCache(tmp_path / "reference", policy)
    kept = sum(cache.holds(completion) for completion in completions_of(200))
    assert done <= kept < 200
    assert cache.prepare(policy, completions_of(200)) == 200 - kept
    assert cache.prepare(policy, completions_of(200)) == 0
    cache.close()
    assert_complete(tmp_path / "reference", policy, completions_of(200))


def test_two_processes_prepare_the_same_cache_at_once(child, model_folder, tmp_path):
    both = [child(120) for _ in range(2)]
    for _, pipe in both:
        pipe.send("go")
    for process, _ in both:
        process.join(60)
        assert process.exitcode == 0
    assert_complete(tmp_path / "reference", load_policy(str(model_folder("llama")), device="cpu"), completions_of(120))


def test_a_new_cache_can_be_opened_by_many_at_once(model_folder, tmp_path):
    """Three processes each create and open a hundred caches at the same time."""
    policy = load_policy(str(model_folder("llama")), device="cpu")
    context = multiprocessing.get_context("fork")
    together = context.Barrier(3)
    folders = [tmp_path / str(number) for number in range(100)]
    openers = [context.Process(target=trial.open_references, args=(policy, folders, together)) for _ in range(3)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(60)
        assert opener.exitcode == 0
