"""Finding, listing and opening runs."""

from __future__ import annotations

import contextlib
import shutil
import threading

import numpy as np
import pytest

import lab
from lab import home
from lab.cli import main
from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.run_folder import create_run

MANIFEST = {"pairs_store": "gone", "pairs_version": 0, "pairs_name": "gone"}


def make(name):
    folder = home.runs_dir() / name
    create_run(folder, TrainConfig.parse(objective="dpo"), **MANIFEST)
    StoreWriter(folder).close()
    return folder


def test_runs_that_are_deleted_while_they_are_listed_are_left_out(capsys):
    kept, over = make("kept"), threading.Event()

    def delete_again_and_again():
        while not over.is_set():
            shutil.rmtree(make("deleted"))

    thread = threading.Thread(target=delete_again_and_again)
    thread.start()
    try:
        for _ in range(30):
            assert kept in [run.folder for run in lab.runs()]
            assert main(["runs"]) == 0
            assert "kept" in capsys.readouterr().out
    finally:
        over.set()
        thread.join()


def test_a_folder_that_disappears_between_two_looks(monkeypatch):
    folders = {make("a"), make("b")}
    iterdir = type(home.home()).iterdir
    monkeypatch.setattr("pathlib.Path.iterdir", lambda path: [*iterdir(path), path / "deleted"])
    assert set(home.run_folders()) == folders


def test_a_run_opens_by_its_folder():
    run = lab.open_run(make("first"))
    assert lab.open_run(run.folder).folder == run.folder == run.dir


def test_a_name_that_is_no_run_is_reported_as_such():
    make("20260101-sgdpo")
    with pytest.raises(lab.RunError, match=r"There is no run '20260101-sgpdo'; .* Did you mean '20260101-sgdpo'\?"):
        lab.open_run("20260101-sgpdo")
    with pytest.raises(lab.RunError, match="holds no run"):
        lab.open_run(home.runs_dir() / "missing")


def test_the_two_meanings_of_resume_name_each_other():
    run = lab.open_run(make("crashed"))
    with pytest.raises(lab.RunError, match=r"cannot resume; .*lab.train\(run_dir=..., resume=True\).*--resume"):
        run.resume()


def recorded(name):
    folder = make(name)
    with contextlib.closing(StoreWriter(folder)) as writer:
        for step in range(1, 7):
            writer.scalars(step, {"loss": 1 / step, "mine/term": step})
            writer.pair_terms(step, [f"p{step}"], [0], {"loss": np.array([1 / step])})
            writer.held_out(step, ["h"], [0], {"loss": np.array([1 / step])})
        writer.event(3, "warning", message="slow")
    return lab.open_run(folder)


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.uint8])
def test_steps_may_be_numbers_of_numpy(kind, tmp_path):
    """SQLite would take them for blobs, which are greater than every number."""
    run = recorded("numpy")
    assert list(run.scalars("loss", first=kind(3), last=kind(4)).index) == [3, 4]
    assert list(run.pairs(kind(2))["step"]) == [1, 2]
    assert list(run.held_out(kind(2))["step"]) == [2]
    assert list(run.reader.scalars.read(["loss"], first=kind(5)).index) == [5, 6]
    assert len(run.export("terms", tmp_path / "terms.csv", first=kind(2), last=kind(3)).read_text().splitlines()) == 3


@pytest.mark.parametrize("step", ["3", 2.5, True])
@pytest.mark.parametrize("read", ["pairs", "held_out", "panel", "diagnose"])
def test_what_is_no_step_is_refused(read, step):
    with pytest.raises(lab.RunError, match=f"{step!r} is no step; give a whole number"):
        getattr(recorded("steps"), read)(step)


def test_misspelt_names_of_numbers_are_refused(tmp_path):
    run = recorded("misspelt")
    assert len(run.scalars(["loss", "mine/term", "eval/loss"])) == 6  # never recorded here, but by other runs
    with pytest.raises(lab.RunError, match=r"has no scalar 'mine/trem'.*Did you mean 'mine/term'\?"):
        run.scalars(["loss", "mine/trem"])
    assert list(run.events("warning")["step"]) == [3]
    with pytest.raises(lab.RunError, match=r"no events of the kind 'warnings'.*Did you mean 'warning'\?"):
        run.events("warnings")
    with pytest.raises(lab.RunError, match=r"no table 'event' .*figure:margins.*Did you mean 'events'\?"):
        run.export("event", tmp_path / "events.csv")


@pytest.mark.parametrize("run", [None, 3, "", "  "])
def test_what_names_no_run_is_refused(run):
    with pytest.raises(lab.RunError, match=f"^{run!r} is no run; give the folder or the name"):
        lab.open_run(run)


@pytest.mark.parametrize("variable", ["LAB_HOME", "LAB_CACHE"])
@pytest.mark.parametrize("place", ["relative home", "~/höme of {x}", "link"])
def test_folders_stay_where_they_are_when_the_working_folder_changes(place, variable, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "user", target_is_directory=True)
    monkeypatch.setenv(variable, place)
    folder = home.home() if variable == "LAB_HOME" else home.cache()
    assert folder == tmp_path / place.replace("~", "user")


def test_a_run_of_a_relative_folder_opens_in_another_working_folder(tmp_path, monkeypatch):
    make("elsewhere").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    run = lab.open_run("moved")
    monkeypatch.chdir("/")
    assert run.step == 0
    assert run.folder == tmp_path / "moved"


def test_a_run_that_was_deleted_meanwhile_is_reported_in_a_sentence():
    run, unread = recorded("deleted"), recorded("unread")
    assert run.step == 0
    for each in (run, unread):
        shutil.rmtree(each.dir)
    assert "which cannot be read" in repr(run)
    assert len(run.scalars("loss")) == 6  # the file is open
    for call in (
        run.pause,
        run.pair_store,
        lambda: run.settings,
        lambda: run.config,
        lambda: lab.open_run(run.dir),
        lambda: unread.name,
    ):
        with pytest.raises(lab.RunError, match=r"holds no (run|record of a run)"):
            call()
    run.delete()  # again


def test_a_run_that_has_not_started_has_no_record():
    create_run(folder := home.runs_dir() / "made", TrainConfig.parse(objective="dpo"), **MANIFEST)
    with pytest.raises(lab.RunError, match=r"made holds no record of a run \(run.sqlite is missing\): the run has not started"):
        lab.open_run(folder)
