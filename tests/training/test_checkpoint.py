"""Checkpoints: complete or absent; the latest and the best are kept; damaged ones are skipped; a full disk ends no run."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

import lab
from lab.policy import Policy
from lab.store import StoreReader, StoreWriter, durable
from lab.store.folder import METADATA_FILE, best_checkpoint, list_checkpoints, read_metadata, score, step_of
from lab.training.checkpoints import saver
from lab.training.evaluation.evaluator import Evaluation, Evaluator
from tests.training.run_comparison import assert_same, interrupted, resumed

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
    """Return the messages of warnings that the diagnosis does not repeat (these runs have no held-out pairs)."""
    return [detail["message"] for detail in run.events("warning")["detail"] if not detail.get("diagnosed")]


def names(run):
    return [path.name for path in run.checkpoints()]


@pytest.fixture
def evaluated(rows, model_folder, tmp_path, monkeypatch):
    """Return a run whose evaluations have the given scalars, or raise the given errors, at steps 0, 1, 2, ..."""

    def make(results, **settings):
        def evaluate(self, config, step, state):
            if isinstance(results[step], Exception):
                raise results[step]
            return Evaluation(dict(results[step]))

        monkeypatch.setattr(Evaluator, "__call__", evaluate)
        given = SETTINGS | {"steps": len(results) - 1, "eval_every": 1, "save_every": 0, "keep_checkpoints": 1} | settings
        return lab.train("dpo", rows[:6], model_folder("llama"), run_dir=tmp_path / "run", background=False, **given)

    return make


def test_the_latest_and_the_best_are_kept(evaluated):
    run = evaluated([{"eval/rewards/accuracies": value} for value in (0.9, 0.5, 0.8, 0.7, 0.8, 0.6)])
    assert run.state == "finished", run.error
    assert names(run) == ["step-000002", "step-000005"]
    assert run.best_checkpoint() == run.checkpoints()[0]
    assert read_metadata(run.best_checkpoint())["evaluation"] == {"eval/rewards/accuracies": 0.8}


def test_keep_best_with_a_measure_where_lower_is_better(evaluated):
    run = evaluated([{"eval/loss": v, "eval/rewards/accuracies": 1} for v in (0.7, 0.6, 0.4, 0.5)], keep_best="eval/loss:min")
    assert names(run) == ["step-000002", "step-000003"]


def test_without_keep_best_only_the_latest_is_kept(evaluated):
    assert names(evaluated([{"eval/rewards/accuracies": value} for value in (0, 0.9, 0.5, 0.4)], keep_best="")) == ["step-000003"]


def test_a_failing_evaluation_loses_no_step(evaluated):
    run = evaluated([{"eval/loss": 0.7}, {"eval/loss": 0.6}, ValueError("No more evaluations.")])
    assert run.state == "failed"
    assert run.error == "No more evaluations."
    assert names(run) == ["step-000002"]


def test_an_unknown_keep_best_measure_is_warned_of(evaluated):
    run = evaluated([{"eval/loss": 0.5}] * 3, keep_best="eval/accuracy")
    (message,) = warnings_of(run)
    assert "keep_best is eval/accuracy, which no evaluation has" in message
    assert "there is eval/loss" in message


def test_score_of_an_evaluation():
    both = {"eval/oracle_reward": 0.3, "eval/rewards/accuracies": 0.9}
    assert score(both, "auto") == 0.3
    assert score(both, "eval/rewards/accuracies") == 0.9
    assert score(both, "eval/rewards/accuracies:min") == -0.9
    assert score({"eval/oracle_reward": float("nan"), "eval/rewards/accuracies": 0.5}, "auto") == 0.5
    assert score({}, "auto") is None
    assert score(both, "") is None


def test_checkpoints_are_sorted_by_step_number(tmp_path):
    for step in (999_999, 1_000_000, 5):
        (tmp_path / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000005", "step-999999", "step-1000000"]


def test_contents_of_a_checkpoint(rows, model_folder):
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
    assert set(metadata["files"]) | {METADATA_FILE} == {path.name for path in last.iterdir()}
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(last)


def test_publish_syncs_before_it_renames(tmp_path, monkeypatch):
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
    "facts cut": lambda folder: cut(folder / METADATA_FILE),
    "weights gone": lambda folder: (folder / "model.safetensors").unlink(),
    "header spoiled": lambda folder: spoil(folder / "trainer.safetensors"),
    "facts without a step": lambda folder: (folder / METADATA_FILE).write_text("{}"),
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
    """One finished run, of which tests use copies."""
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
    """Use the cache of `whole`: reference log-probs computed again could differ in their last bits."""
    monkeypatch.setenv("LAB_CACHE", str(whole.dir.parent / "cache"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_skips_a_damaged_checkpoint_with_a_warning(damage, whole, same_reference, tmp_path):
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


def test_a_checkpoint_damaged_again_gets_another_name(whole, same_reference, tmp_path):
    part = interrupted(whole, 3, tmp_path / "part")
    for _ in range(3):
        for folder in list_checkpoints(part):
            if step_of(folder) > 3:  # as if it had been killed after writing step 3 again
                shutil.rmtree(folder)
        cut(list_checkpoints(part)[-1] / "trainer.safetensors")
        again = resumed(part)
        assert again.state == "finished", again.error
    aside = sorted(path.name for path in (part / "checkpoints").glob("damaged-*"))
    assert aside == ["damaged-step-000003", "damaged-step-000003-2", "damaged-step-000003-3"]
    assert names(again) == names(whole)
    assert_same(again, whole)


def test_no_checkpoint_before_the_record_of_its_steps_is_on_the_disk(rows, model_folder, tmp_path, monkeypatch):
    """Step 2's rows do not reach the disk in time: a run killed then must resume from step 1, all of whose rows are stored."""
    flush, published = StoreWriter.flush, []
    monkeypatch.setattr(saver, "PATIENCE", 0.01)

    def slow(self, timeout=30.0):
        flushed = flush(self)
        at_two = StoreReader(tmp_path / "run").step == 2
        published.append((names(lab.open_run(tmp_path / "run")), at_two))
        return flushed and not (at_two and timeout == 0.01)

    monkeypatch.setattr(StoreWriter, "flush", slow)
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=tmp_path / "run", background=False, **SETTINGS | {"steps": 4})
    assert run.state == "finished", run.error
    assert any(at_two for _, at_two in published)
    assert names(run) == ["step-000001", "step-000003", "step-000004"]
    (message,) = warnings_of(run)
    assert message.startswith("The checkpoint of step 2 was not written: after 0.01 seconds the record of the steps before it was")
    assert message.endswith("Training goes on.")


def test_a_record_not_on_the_disk_at_the_end_is_an_error(rows, model_folder, tmp_path, monkeypatch):
    flush = StoreWriter.flush
    monkeypatch.setattr(saver, "PATIENCE", 0.01)
    monkeypatch.setattr(StoreWriter, "flush", lambda self, timeout=30.0: flush(self) and timeout != 0.01)
    run = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS | {"steps": 2, "save_every": 0})
    assert run.state == "failed"
    assert "step 2 was not written" in run.error
    assert names(run) == []


def test_lost_rows_are_warned_of(rows, model_folder, tmp_path, monkeypatch):
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


def test_requested_checkpoints_do_not_replace_automatic_ones(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def on_step(step, scalars):
        if step in (1, 3, 5):
            lab.open_run(folder).checkpoint()
        if step in (4, 6):
            lab.open_run(folder).checkpoint(keep=False)

    settings = SETTINGS | {"save_every": 2, "keep_checkpoints": 2, "evaluate": False, "steps": 9}
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    assert run.state == "finished", run.error
    # 1, 3 and 5 were requested; 8 and 9 are the run's last two. 4 and 6 had been saved anyway when they were requested.
    assert [step_of(path) for path in run.checkpoints()] == [1, 3, 5, 8, 9]


def test_of_checkpoints_for_inspection_only_the_latest_is_kept(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def on_step(step, scalars):
        if step in (1, 2, 4, 5, 7):
            lab.open_run(folder).checkpoint(keep=False)
        if step in (3, 5):
            lab.open_run(folder).checkpoint()

    settings = SETTINGS | {"save_every": 3, "keep_checkpoints": 1, "evaluate": False, "steps": 9}
    run = lab.train("dpo", rows[:6], model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    assert run.state == "finished", run.error
    purposes = {step_of(path): read_metadata(path).get("purpose") for path in run.checkpoints()}
    assert purposes == {3: "keep", 5: "keep", 7: "inspect", 9: None}


def test_the_record_stays_when_all_checkpoints_are_damaged(whole, tmp_path):
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


def test_incomplete_checkpoints_of_a_killed_run_are_removed(whole, same_reference, tmp_path):
    part = interrupted(whole, 2, tmp_path / "part")
    (part / "checkpoints" / ".step-000003.draft").mkdir()
    (part / "checkpoints" / ".step-000003.draft" / "half").write_text("x")
    (part / "checkpoints" / ".step-000001.12ab34cd").mkdir()
    again = resumed(part)
    assert_same(again, whole)
    assert all(path.name.startswith("step-") for path in (part / "checkpoints").iterdir())


def test_write_json_replaces_a_file_or_leaves_it(tmp_path, monkeypatch):
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
