"""Experiments are deleted and renamed; their runs stay unless they are deleted, too."""

from __future__ import annotations

import pytest

from lab.cli import main
from lab.experiments import Driver, ExperimentFolder, experiment_folder, experiment_folders, find_experiment, open_experiment
from lab.experiments.deletion import delete_experiment, deletion_effect, rename_experiment
from lab.run import RunLock
from lab.run.config import ConfigError
from lab.run.listing.trash import trashed_runs
from lab.store import RunError

from .faked import WrittenRuns, content, folder_with


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> ExperimentFolder:
    monkeypatch.setattr("lab.experiments.driver.INTERVAL", 0.01)
    made = folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    Driver(made, WrittenRuns()).run()
    return made


def test_the_runs_of_a_deleted_experiment_stay_unless_they_are_deleted_too(folder: ExperimentFolder) -> None:
    effect = deletion_effect(folder)
    assert effect.results == 4
    assert len(effect.runs) == 4
    assert effect.freed.bytes > 0
    delete_experiment(folder)
    assert experiment_folders() == []
    assert all(run.exists() for run in effect.runs)
    again = folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    assert again.recorded() == set()
    runs = WrittenRuns()
    Driver(again, runs).run()
    assert runs.started == []  # their folders are there
    assert len(again.recorded()) == 4
    delete_experiment(again, runs=True)
    assert sorted(run.place for run in trashed_runs()) == sorted(effect.runs)
    with pytest.raises(RunError, match="There is no experiment 'mine'"):
        find_experiment("mine")


def test_a_handle_does_not_keep_the_results_of_a_deleted_experiment(folder: ExperimentFolder) -> None:
    experiment = open_experiment("mine")
    assert len(experiment.records()) == 4
    delete_experiment(folder, runs=True)
    folder_with(content(["dpo", "sgdpo"], 2, steps=5), "mine")
    assert experiment.records() == {}


def test_what_is_in_training_is_not_deleted(folder: ExperimentFolder) -> None:
    lock = RunLock(folder.path)
    for change in (lambda: delete_experiment(folder), lambda: rename_experiment(folder, "other")):
        with pytest.raises(RunError, match="mine is in training; stop it before"):
            change()
    lock.release()
    run = next(iter(folder.run_folders().values()))
    lock = RunLock(run)
    with pytest.raises(RunError, match="cannot be deleted with its runs; stop it before"):
        delete_experiment(folder, runs=True)
    lock.release()
    assert len(deletion_effect(folder).runs) == 4
    assert len(folder.recorded()) == 4


def test_a_renamed_experiment_keeps_its_results_and_does_no_run_again(folder: ExperimentFolder) -> None:
    runs = folder.run_folders()
    renamed = rename_experiment(folder, "other")
    assert [each.name for each in experiment_folders()] == ["other"]
    assert renamed.run_folders() == runs
    assert open_experiment("other").state().count("finished") == 4
    folder_with(content(["dpo"], 1, steps=5), "mine")
    with pytest.raises(RunError, match="an experiment mine already"):
        rename_experiment(renamed, "mine")
    with pytest.raises(ConfigError):
        rename_experiment(renamed, "../mine")


def test_a_namesake_of_a_renamed_experiment_does_not_take_its_runs_away(folder: ExperimentFolder) -> None:
    renamed = rename_experiment(folder, "other")
    again = folder_with(content(["dpo", "sgdpo"], 3, steps=5), "mine")
    runs = WrittenRuns()
    Driver(again, runs).run()
    assert len(runs.started) == 2
    assert len(deletion_effect(again).runs) == 2
    delete_experiment(again, runs=True)
    assert len(trashed_runs()) == 2
    assert all(run.exists() for run in renamed.run_folders().values())


def test_what_is_gone_is_not_changed(folder: ExperimentFolder) -> None:
    left = experiment_folder("left")
    left.path.mkdir()
    with pytest.raises(RunError, match=r"There is a folder without an experiment in .*, called left"):
        rename_experiment(folder, "left")
    with pytest.raises(ConfigError, match="take it for a file"):
        rename_experiment(folder, "rates.yaml")
    delete_experiment(folder)
    for change in (lambda: delete_experiment(folder), lambda: delete_experiment(left), lambda: rename_experiment(folder, "other")):
        with pytest.raises(RunError, match="was deleted or renamed"):
            change()


def test_the_command_line_renames_and_deletes(folder: ExperimentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "mine", "--rename", "other"]) == 0
    assert main(["sweep", "other", "--delete", "--with-runs", "--dry-run"]) == 0
    assert len(find_experiment("other").recorded()) == 4
    assert main(["sweep", "other", "--delete", "--with-runs"]) == 0
    assert len(trashed_runs()) == 4
    said = capsys.readouterr().out
    assert "mine is called other." in said
    assert "would lose the results of 4 finished runs, and move its 4 runs to the trash (" in said
    assert "other is deleted; its 4 runs are in the trash" in said
    for wrong, message in [
        (["other", "--delete"], "There is no experiment 'other'"),
        (["--delete"], "Give the name of an experiment"),
        (["other", "--with-runs"], "--with-runs goes with --delete"),
        (["other", "--rename", "third", "--dry-run"], "--dry-run goes with an experiment to be run or deleted"),
        (["other", "--stop", "--dry-run"], "--dry-run goes with an experiment to be run or deleted"),
    ]:
        assert main(["sweep", *wrong]) != 0
        assert message in capsys.readouterr().err
