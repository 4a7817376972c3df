"""Damaged and half deleted folders of experiments: one sentence with the file and what to do, and never a list that fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab.cli import main
from lab.experiments import Driver, Experiment, ExperimentFolder, RunState, all_experiments, experiment_folders, open_experiment
from lab.store import RunError

from .faked import WrittenRuns, content, folder_with, write_run


@pytest.fixture
def folder() -> ExperimentFolder:
    made = folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    Driver(made, WrittenRuns()).run()
    folder_with(content("dpo", 1, steps=5), "other")
    return made


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda stored: stored["declaration"].update(objectives=[{"name": "of_an_extension"}]), "There is no objective"),
        (lambda stored: stored["declaration"].update(settings={"steps": -1}), "steps = -1 does not work"),
        (lambda stored: stored.update(pair_sets={}), "The version of the pairs world is not known"),
        (lambda stored: stored.update(template_time="x"), "template_time = 'x' does not work"),
        (lambda stored: stored.update(models=3), "cannot be used here"),
    ],
)
def test_an_experiment_that_cannot_be_used_leaves_the_others(
    folder: ExperimentFolder, capsys: pytest.CaptureFixture[str], change: Any, sentence: str
) -> None:
    file = folder.path / "experiment.json"
    stored = json.loads(file.read_text())
    change(stored)
    handle = open_experiment("mine")
    file.write_text(json.dumps(stored))
    with pytest.raises(RunError, match=sentence):
        handle.state()
    assert [each.name for each in all_experiments()] == ["other"]
    assert main(["sweep"]) == 0
    said = capsys.readouterr()
    assert "other  waiting" in said.out
    assert sentence in said.err
    assert str(file) in said.err
    with pytest.raises(RunError, match="mine"):
        open_experiment("mine")


@pytest.mark.parametrize(
    ("file", "text", "remedy"),
    [
        ("experiment.json", "{", "restore the file, or delete the experiment with `python -m lab sweep mine --delete`"),
        ("runs.json", '{"a": null}', "delete the file: the runs are found again"),
        ("records/*.json", "", "delete the file: its run is read"),
        ("records/*.json", "{}", "delete the file: its run is read"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(folder: ExperimentFolder, file: str, text: str, remedy: str) -> None:
    path = next(folder.path.glob(file))
    path.write_text(text)
    for use in (lambda: open_experiment("mine").records(), lambda: Driver(folder, WrittenRuns())):
        if file != "runs.json" or use.__code__.co_names[0] == "Driver":
            with pytest.raises(RunError, match="is damaged") as error:
                use()
            assert str(path) in str(error.value)
            assert remedy in str(error.value)
    if file == "experiment.json":
        assert main(["sweep", "mine", "--delete"]) == 0
    else:
        path.unlink()
        again = WrittenRuns()
        assert Driver(folder, again).run().state == "finished"
        assert again.started == []
        assert len(open_experiment("mine").records()) == 4


@pytest.mark.parametrize("text", ["", "[]", '{"state": "running", "of_a_newer_lab": 1}', '{"runs": []}', None])
def test_a_lost_state_is_found_from_the_records(folder: ExperimentFolder, text: str | None) -> None:
    path = folder.path / "state.json"
    path.unlink() if text is None else path.write_text(text)
    assert Experiment(folder).state().line == "4 of 4 runs finished"
    assert Experiment(folder).state().state == "finished"
    next((folder.path / "records").iterdir()).unlink()
    assert Experiment(folder).state().state == "interrupted"
    assert Driver(folder, WrittenRuns()).run().state == "finished"


def test_runs_whose_process_has_ended_with_the_driver_are_not_called_active(folder: ExperimentFolder) -> None:
    path, experiment = folder.path / "state.json", Experiment(folder)
    crashed, finished = experiment.runs[:2]
    write_run(experiment.run_folders()[crashed.key], "running", 3)
    stored = json.loads(path.read_text())
    for run in (crashed, finished):
        stored["runs"][run.key]["state"] = "running"
    path.write_text(json.dumps(stored | {"state": "running"}))
    state = Experiment(folder).state()
    assert state.state == "interrupted"
    assert (state.runs[crashed.key].state, state.runs[crashed.key].step) == ("crashed", 3)
    assert state.runs[finished.key].state == "finished"
    shutil.rmtree(experiment.run_folders()[crashed.key])
    assert Experiment(folder).state().runs[crashed.key] == RunState(steps=5)


def test_a_copied_home_has_runs_of_its_own(
    folder: ExperimentFolder, lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {run.name for run in Experiment(folder).run_folders().values()}
    shutil.copytree(lab_home, tmp_path / "copy")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "copy"))
    copied = open_experiment("mine").run_folders().values()
    assert {run.name for run in copied} == names
    assert {run.parent for run in copied} == {tmp_path / "copy" / "runs"}
    next(iter(copied)).rename(tmp_path / "elsewhere")
    assert len(open_experiment("mine").run_folders()) == 3


def test_an_experiment_that_vanishes_is_missing_from_the_list(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = open_experiment("mine")
    whole = Path.stat

    def forbidden(path: Path, **more: Any) -> Any:
        if path.parent.name == "other":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, **more)

    monkeypatch.setattr(Path, "stat", forbidden)
    assert [each.name for each in experiment_folders()] == ["mine"]
    (folder.path / "experiment.json").unlink()
    assert experiment_folders() == []
    with pytest.raises(RunError, match=r"There is no experiment mine .any more."):
        handle.state()
