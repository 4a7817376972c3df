"""Finding, listing and opening runs."""

from __future__ import annotations

import shutil
import threading

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
