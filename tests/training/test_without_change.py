"""Resume without a change: the run equals, bit for bit, one in which the change was never made."""

from __future__ import annotations

import shutil

import pytest

import lab
from lab.cli import main
from lab.plots.marks import describe
from lab.run import RunLock
from lab.run.config import ConfigError
from lab.store import Change, list_checkpoints
from lab.store.changes import plain_changes
from tests.training.run_comparison import asking, assert_same

pytestmark = pytest.mark.extended

SETTINGS = {"steps": 8, "batch_size": 4, "learning_rate": 1e-3, "save_every": 1, "keep_checkpoints": 100, "device": "cpu"}
SETTINGS |= {"evaluate": False, "probe_budget": 0}


def train(objective, rows, model, folder, **more):
    return lab.train(objective, rows, model, run_dir=folder, background=False, **SETTINGS | more)


def without(folder, step, **more):
    return lab.train(run_dir=folder, resume=True, without_change=step, background=False, **more)


@pytest.fixture(scope="module")
def runs(model_folder, tmp_path_factory):
    """Return (a run without changes, a run that failed because of a change after step 4)."""
    place = tmp_path_factory.mktemp("runs")
    rows = [{"prompt": f"How {i}?\n", "chosen": f"First mix {i}.", "rejected": f"No idea {i}."} for i in range(12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(place / "home"))
        patch.setenv("LAB_CACHE", str(place / "cache"))
        plain = train("dpo", rows, model_folder("gpt2"), place / "plain")
        ask = asking(place / "failed", 4, "set", settings={"learning_rate": 1e30})
        failed = train("dpo", rows, model_folder("gpt2"), place / "failed", on_step=ask)
    assert failed.state == "failed"
    return plain, failed


def copied(run, folder, keep=lambda step: True):
    """Copy a run with only the checkpoints of the steps for which `keep(step)` is true."""
    shutil.copytree(run.dir, folder)
    for checkpoint in list_checkpoints(folder):
        if not keep(int(checkpoint.name.removeprefix("step-"))):
            shutil.rmtree(checkpoint)
    return folder


def test_a_run_resumed_without_a_change_equals_one_that_never_had_it(runs, tmp_path):
    plain, failed = runs
    again = without(copied(failed, tmp_path / "run"), 4)
    assert_same(again, plain)
    assert again.changes() == []
    assert again.settings.learning_rate == plain.settings.learning_rate
    event = again.events("resumed").iloc[-1]
    assert (event["step"], event["detail"]["checkpoint"]) == (4, "step-000004")
    assert event["detail"]["without"] == plain_changes([Change(4, {"learning_rate": 1e30})])
    assert describe("resumed", event["detail"]) == "Resumed from step-000004, without the change after step 4"


def test_reverting_to_a_checkpoint_well_before_the_change(runs, tmp_path):
    plain, failed = runs
    again = without(copied(failed, tmp_path / "run", keep=lambda step: step != 4), 4)
    assert_same(again, plain)
    assert again.events("resumed")["step"].tolist() == [3]


def test_reverting_without_an_earlier_checkpoint_starts_again_with_a_warning(runs, tmp_path):
    plain, failed = runs
    again = without(copied(failed, tmp_path / "run", keep=lambda step: step > 4), 4)
    assert_same(again, plain)
    assert "starts from its first step again" in again.events("warning")["detail"].iloc[-1]["message"]


def test_later_changes_are_repeated_and_a_kept_checkpoint_is_renamed(rows, model_folder, tmp_path):
    def change(folder, both):
        def on_step(step, scalars):
            if both and step == 3:
                asking(folder, 3, "set", settings={"beta": 0.5})(step, scalars)
                asking(folder, 3, "checkpoint")(step, scalars)  # at the step of the change, but saved after it
            if step == 5:
                asking(folder, 5, "set", settings={"learning_rate": 2e-3})(step, scalars)

        return on_step

    model = model_folder("gpt2")
    plain = train("dpo", rows, model, tmp_path / "plain", save_every=2, on_step=change(tmp_path / "plain", False))
    run = train("dpo", rows, model, tmp_path / "run", save_every=2, on_step=change(tmp_path / "run", True))
    assert len(run.changes()) == 2
    again = without(run.dir, 3)
    assert_same(again, plain)
    assert again.changes() == plain.changes() == [Change(5, {"learning_rate": 2e-3})]
    assert again.events("resumed")["step"].tolist() == [2]
    assert [path.name for path in (run.dir / "checkpoints").glob("left-out-*")] == ["left-out-step-000003"]


def test_edits_can_be_reverted(rows, model_folder, tmp_path):
    plain = train("dpo", rows, model_folder("gpt2"), tmp_path / "plain")

    def edit(step, scalars):
        if step == 3:
            with run_store() as store:
                store.drop(store.ids()[0])
                asking(tmp_path / "run", 3, "edits", version=store.version)(step, scalars)

    def run_store():
        return lab.open_run(tmp_path / "run").pair_store()

    run = train("dpo", [dict(row) for row in rows], model_folder("gpt2"), tmp_path / "run", on_step=edit)
    assert run.pairs_version == 1
    again = without(run.dir, 3)
    assert_same(again, plain)
    assert again.pairs_version == again.status["pairs_version"] == 0


def test_reverting_from_the_command_line_in_a_process(runs, tmp_path, capsys):
    plain, failed = runs
    folder = copied(failed, tmp_path / "run")
    assert main(["train", "--run-dir", str(folder), "--resume", "--without-change", "7"]) == 1
    assert capsys.readouterr().err == "error: The run run was not changed after step 7: its changes were made after step 4.\n"
    assert main(["train", "--run-dir", str(folder), "--without-change", "4", "--objective", "dpo"]) == 1
    assert "belongs to resuming" in capsys.readouterr().err
    assert main(["train", "--run-dir", str(folder), "--resume", "--without-change", "4", "--detach"]) == 0
    again = lab.open_run(folder)
    assert again.wait(60) == "finished"
    assert_same(again, plain)


def test_a_refused_reversion_changes_nothing(runs, tmp_path):
    plain, failed = runs
    with pytest.raises(ConfigError, match="not changed after step 4: it has no changes"):
        without(plain.dir, 4)
    with pytest.raises(ConfigError, match="without_change belongs to resuming"):
        lab.train("dpo", run_dir=tmp_path / "new", without_change=4)
    folder = copied(failed, tmp_path / "run")
    before = sorted(folder.rglob("*"))
    lock = RunLock(folder)
    try:
        with pytest.raises(RuntimeError):
            without(folder, 4)
    finally:
        lock.release()
    assert [path for path in before if path not in folder.rglob("*")] == []


def test_changes_of_a_branchs_parent_cannot_be_reverted(rows, model_folder, tmp_path):
    def edit(step, scalars):
        if step == 3:
            with lab.open_run(tmp_path / "run").pair_store() as store:
                store.drop(store.ids()[0])
                asking(tmp_path / "run", 3, "edits", version=store.version)(step, scalars)

    train("dpo", rows, model_folder("gpt2"), tmp_path / "run", on_step=edit)
    ask = asking(tmp_path / "branch", 6, "set", settings={"beta": 0.5})
    branch = lab.train(branch_from=tmp_path / "run", at=5, run_dir=tmp_path / "branch", background=False, on_step=ask)
    with pytest.raises(ConfigError, match=r"made in the run that branch branched from; branch from a checkpoint of that run"):
        without(branch.dir, 3)
    for checkpoint in list_checkpoints(branch.dir):
        shutil.rmtree(checkpoint)
    plain = lab.train(branch_from=tmp_path / "run", at=5, run_dir=tmp_path / "plain", background=False)
    again = without(branch.dir, 6)  # without checkpoints it begins where it branched off
    assert_same(again, plain, after=5)
    assert again.pairs_version == 1
