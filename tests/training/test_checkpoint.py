"""Checkpoints: whole or absent, the latest and the best are kept, a damaged one is passed over, a full disk ends no run."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

import lab
from lab.policy import Policy
from lab.store import StoreReader, StoreWriter, durable
from lab.store.folder import FACTS, best_checkpoint, list_checkpoints, read_metadata, score, step_of
from lab.training.checkpoints import saver
from lab.training.evaluation.evaluator import Evaluation, Evaluator
from tests.training.comparing import assert_same, interrupted, resumed

SETTINGS = {
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 100,
    "device": "cpu",
    "eval_tokens": 8,
}


def warnings_of(run):
    """Warnings but for those that the diagnosis repeats: these runs hold nothing out."""
    return [detail["message"] for detail in run.events("warning")["detail"] if not detail.get("diagnosed")]


def names(run):
    return [path.name for path in run.checkpoints()]


@pytest.fixture
def judged(rows, model_folder, tmp_path, monkeypatch):
    """A run whose evaluations find given numbers at steps 0, 1, 2, ..."""

    def make(found, **settings):
        def look(self, config, step, state):
            if isinstance(found[step], Exception):
                raise found[step]
            return Evaluation(dict(found[step]))

        monkeypatch.setattr(Evaluator, "__call__", look)
        given = SETTINGS | {"steps": len(found) - 1, "eval_every": 1, "save_every": 0, "keep_checkpoints": 1} | settings
        return lab.train("dpo", rows[:6], model_folder("llama"), run_dir=tmp_path / "run", background=False, **given)

    return make


def test_the_latest_and_the_best_are_kept(judged):
    run = judged([{"eval/rewards/accuracies": value} for value in (0.9, 0.5, 0.8, 0.7, 0.8, 0.6)])
    assert run.state == "finished", run.error
    assert names(run) == ["step-000002", "step-000005"]
    assert run.best_checkpoint() == run.checkpoints()[0]
    assert read_metadata(run.best_checkpoint())["evaluation"] == {"eval/rewards/accuracies": 0.8}


def test_where_lower_is_better(judged):
    run = judged([{"eval/loss": v, "eval/rewards/accuracies": 1} for v in (0.7, 0.6, 0.4, 0.5)], keep_best="eval/loss:min")
    assert names(run) == ["step-000002", "step-000003"]


def test_no_best(judged):
    assert names(judged([{"eval/rewards/accuracies": value} for value in (0, 0.9, 0.5, 0.4)], keep_best="")) == ["step-000003"]


def test_a_look_that_fails_loses_no_step(judged):
    run = judged([{"eval/loss": 0.7}, {"eval/loss": 0.6}, ValueError("No more looks.")])
    assert run.state == "failed"
    assert run.error == "No more looks."
    assert names(run) == ["step-000002"]


def test_a_measure_that_no_evaluation_has_is_said(judged):
    run = judged([{"eval/loss": 0.5}] * 3, keep_best="eval/accuracy")
    (message,) = warnings_of(run)
    assert "keep_best is eval/accuracy, which no evaluation has" in message
    assert "there is eval/loss" in message


def test_scores():
    both = {"eval/oracle_reward": 0.3, "eval/rewards/accuracies": 0.9}
    assert score(both, "auto") == 0.3
    assert score(both, "eval/rewards/accuracies") == 0.9
    assert score(both, "eval/rewards/accuracies:min") == -0.9
    assert score({"eval/oracle_reward": float("nan"), "eval/rewards/accuracies": 0.5}, "auto") == 0.5
    assert score({}, "auto") is None
    assert score(both, "") is None


def test_steps_are_numbers_not_names(tmp_path):
    for step in (999_999, 1_000_000, 5):
        (tmp_path / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000005", "step-999999", "step-1000000"]


def test_what_lies_in_one(rows, model_folder):
    run = lab.train(
        {"name": "spo", "base": "alpha_dpo"}, rows[:6], model_folder("llama"), background=False, **SETTINGS | {"steps": 2}
    )
    last = run.checkpoints()[-1]
    assert not [path for path in last.iterdir() if path.suffix in (".pt", ".bin", ".pkl", ".pth")]
    metadata = read_metadata(last)
    assert metadata["step"] == 2
    assert metadata["pairs_version"] == 0
    assert metadata["changes"] == []
    assert metadata["settings"]["objective"] == run.config.objective.spec()
    assert set(metadata["files"]) | {FACTS} == {path.name for path in last.iterdir()}
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(last)


def test_everything_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(durable, "sync", lambda path: done.append(path.name))
    draft = tmp_path / ".draft"
    draft.mkdir()
    (draft / "weights").write_text("1")
    rename = type(draft).rename
    monkeypatch.setattr(type(draft), "rename", lambda self, to: (done.append(f"rename {self.name}"), rename(self, to))[1])
    durable.publish(draft, tmp_path / "whole")
    assert done == ["weights", ".draft", "rename .draft", tmp_path.name]


DAMAGES = {
    "weights cut": lambda folder: cut(folder / "model.safetensors"),
    "optimizer cut": lambda folder: cut(folder / "trainer.safetensors"),
    "facts cut": lambda folder: cut(folder / FACTS),
    "weights gone": lambda folder: (folder / "model.safetensors").unlink(),
    "header spoiled": lambda folder: spoil(folder / "trainer.safetensors"),
    "facts without a step": lambda folder: (folder / FACTS).write_text("{}"),
    "empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil(path):
    content = bytearray(path.read_bytes())
    content[8:40] = b"?" * 32
    path.write_bytes(bytes(content))


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """One run for all that is done to copies of it."""
    from tests.models import make_model

    place = tmp_path_factory.mktemp("whole")
    make_model("llama", place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(place / "home"))
        patch.setenv("LAB_CACHE", str(place / "cache"))
        rows = [
            {"prompt": f"Question {i}?", "chosen": f"First knead the dough {i}.", "rejected": f"No idea {i}."} for i in range(6)
        ]
        return lab.train("alpha_dpo", rows, place / "model", run_dir=place / "run", background=False, **SETTINGS | {"steps": 4})


@pytest.fixture
def same_reference(whole, monkeypatch):
    """Reference log-probs are the same up to rounding wherever they are computed, and to the last bit in one cache."""
    monkeypatch.setenv("LAB_CACHE", str(whole.dir.parent / "cache"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(damage, whole, same_reference, tmp_path):
    part = interrupted(whole, 3, tmp_path / "part")
    DAMAGES[damage](list_checkpoints(part)[-1])
    again = resumed(part)
    assert again.state == "finished", again.error
    assert again.events("resumed")["detail"][0]["checkpoint"] == "step-000002"
    (message,) = warnings_of(again)
    assert "step-000003 is damaged" in message
    assert "goes on from the one before" in message
    assert (part / "checkpoints" / "damaged-step-000003").exists()
    assert_same(again, whole)


def test_a_checkpoint_that_is_damaged_a_second_time_is_set_aside_too(whole, same_reference, tmp_path):
    part = interrupted(whole, 3, tmp_path / "part")
    for _ in range(3):
        for folder in list_checkpoints(part):
            if step_of(folder) > 3:  # as if it had died right after writing step 3 again
                shutil.rmtree(folder)
        cut(list_checkpoints(part)[-1] / "trainer.safetensors")
        again = resumed(part)
        assert again.state == "finished", again.error
    aside = sorted(path.name for path in (part / "checkpoints").glob("damaged-*"))
    assert aside == ["damaged-step-000003", "damaged-step-000003-2", "damaged-step-000003-3"]
    assert names(again) == names(whole)
    assert_same(again, whole)


def test_no_checkpoint_is_published_before_its_record_is_on_the_disk(rows, model_folder, tmp_path, monkeypatch):
    """A disk that takes no rows at step 2: a kill there must find step 1's checkpoint, all of whose rows are there."""
    flush, published = StoreWriter.flush, []
    monkeypatch.setattr(saver, "PATIENCE", 0.01)

    def slow(self, timeout=30.0):
        found = flush(self)
        at_two = StoreReader(tmp_path / "run").step == 2
        published.append((names(lab.open_run(tmp_path / "run")), at_two))
        return found and not (at_two and timeout == 0.01)

    monkeypatch.setattr(StoreWriter, "flush", slow)
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=tmp_path / "run", background=False, **SETTINGS | {"steps": 4})
    assert run.state == "finished", run.error
    assert any(at_two for _, at_two in published)
    assert names(run) == ["step-000001", "step-000003", "step-000004"]
    (message,) = warnings_of(run)
    assert message.startswith("The checkpoint of step 2 was not written: after 0.01 seconds the record of the steps before it was")
    assert message.endswith("Training goes on.")


def test_at_the_end_a_record_that_is_not_on_the_disk_is_an_error(rows, model_folder, tmp_path, monkeypatch):
    flush = StoreWriter.flush
    monkeypatch.setattr(saver, "PATIENCE", 0.01)
    monkeypatch.setattr(StoreWriter, "flush", lambda self, timeout=30.0: flush(self) and timeout != 0.01)
    run = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS | {"steps": 2, "save_every": 0})
    assert run.state == "failed"
    assert "step 2 was not written" in run.error
    assert names(run) == []


def test_rows_that_are_lost_are_said(rows, model_folder, tmp_path, monkeypatch):
    def on_step(step, scalars):
        if step == 2:
            monkeypatch.setattr(StoreWriter, "_commit", refuse)

    commit = StoreWriter._commit

    def refuse(self, batch):
        monkeypatch.setattr(StoreWriter, "_commit", commit)
        self._connection.execute("BEGIN IMMEDIATE")
        self.lost += len(batch)
        self._fail(OSError("database or disk is full"), "cannot be written (%s)")

    run = lab.train(
        "dpo", rows[:6], model_folder("llama"), background=False, on_step=on_step, **SETTINGS | {"steps": 4, "evaluate": False}
    )
    assert run.state == "finished", run.error
    (message,) = warnings_of(run)
    assert "entries of this run's record could not be written (database or disk is full): its history has a gap here" in message


def test_what_was_asked_for_does_not_push_out_what_the_run_keeps(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def on_step(step, scalars):
        if step in (1, 3, 5):
            lab.open_run(folder).checkpoint()
        if step in (4, 6):
            lab.open_run(folder).checkpoint(keep=False)

    settings = SETTINGS | {"save_every": 2, "keep_checkpoints": 2, "evaluate": False, "steps": 9}
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    assert run.state == "finished", run.error
    # 1, 3 and 5 were asked for; 8 and 9 are the run's last two. 4 and 6 were saved anyway when somebody wanted to look.
    assert [step_of(path) for path in run.checkpoints()] == [1, 3, 5, 8, 9]


def test_of_checkpoints_to_look_at_the_latest_is_kept_and_one_to_keep_is_kept(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def on_step(step, scalars):
        if step in (1, 2, 4, 5, 7):
            lab.open_run(folder).checkpoint(keep=False)
        if step in (3, 5):
            lab.open_run(folder).checkpoint()

    settings = SETTINGS | {"save_every": 3, "keep_checkpoints": 1, "evaluate": False, "steps": 9}
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    assert run.state == "finished", run.error
    asked = {step_of(path): read_metadata(path).get("asked") for path in run.checkpoints()}
    assert asked == {3: "keep", 5: "keep", 7: "look", 9: None}


def test_where_all_are_damaged_nothing_is_lost(whole, tmp_path):
    part = interrupted(whole, 2, tmp_path / "part")
    for folder in list_checkpoints(part):
        cut(folder / "trainer.safetensors")
    again = resumed(part)
    assert again.state == "failed"
    assert "No checkpoint of this run can be read" in again.error
    assert again.scalars(["loss"]).index.tolist() == [1, 2, 3, 4]


def test_a_full_disk_in_mid_run_is_a_warning(rows, model_folder, monkeypatch):
    save = Policy.save

    def refuse(self, folder, weights=None):
        if "step-000002" in folder.name:
            (folder / "half").write_text("x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, folder, weights)

    monkeypatch.setattr(Policy, "save", refuse)
    run = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS | {"steps": 4})
    assert run.state == "finished", run.error
    assert names(run) == ["step-000001", "step-000003", "step-000004"]
    (message,) = warnings_of(run)
    assert message.startswith("The checkpoint of step 2 could not be written (No space left on device); make room, ")
    assert [path.name for path in (run.dir / "checkpoints").iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_at_the_end_is_an_error(rows, model_folder, monkeypatch):
    from safetensors import SafetensorError

    save = Policy.save

    def refuse(self, folder, weights=None):
        if "step-000004" in folder.name:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(self, folder, weights)

    monkeypatch.setattr(Policy, "save", refuse)
    run = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS | {"steps": 4})
    assert run.state == "failed"
    assert "step 4 could not be written" in run.error
    assert names(run)[-1] == "step-000003"
    monkeypatch.undo()


def test_leftovers_of_a_kill_are_swept(whole, same_reference, tmp_path):
    part = interrupted(whole, 2, tmp_path / "part")
    (part / "checkpoints" / ".step-000003.draft").mkdir()
    (part / "checkpoints" / ".step-000003.draft" / "half").write_text("x")
    (part / "checkpoints" / ".step-000001.12ab34cd").mkdir()
    again = resumed(part)
    assert_same(again, whole)
    assert all(path.name.startswith("step-") for path in (part / "checkpoints").iterdir())


def test_json_is_replaced_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    durable.write_json(path, {"a": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert best_checkpoint(tmp_path, "auto") is None
