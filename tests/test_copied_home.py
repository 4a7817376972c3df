"""A home that was copied or moved refers to its own runs, pairs, twins and trash, and never to those where it was before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import lab
from lab import home
from lab.experiments import Driver, find_experiment
from lab.experiments.deletion import delete_experiment
from lab.pairs import Pair, PairStore
from lab.run.config import TrainConfig
from lab.run.listing.trash import delete_run, trashed_runs
from lab.store import StoreWriter, read_manifest, read_twins, write_twins
from lab.training.run_folder import create_run
from tests.experiments.faked import WrittenRuns, content, folder_with


def make_store(place: Path) -> PairStore:
    return PairStore.create(place, [Pair("1", "p", "a", "b")], name="mine", source="typed")


def make_run(name: str, store: PairStore) -> Path:
    folder = home.runs_dir() / name
    create_run(
        folder, TrainConfig.parse(objective="dpo"), pairs_store=store.location, pairs_version=0, pairs_name="mine", source="typed"
    )
    StoreWriter(folder).close()
    return folder


@pytest.fixture
def copied(lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Copies the home and goes on with the copy."""

    def copy() -> Path:
        place = tmp_path / "copy"
        shutil.copytree(home.home(), place, symlinks=True)
        monkeypatch.setenv("LAB_HOME", str(place))
        return place

    return copy


def test_a_run_has_the_pairs_of_its_own_home(copied: Callable[[], Path]) -> None:
    original = make_store(home.home() / "pairs" / "mine.sqlite")
    folder = make_run("one", original)
    assert read_manifest(folder)["pairs_store"] == original.location
    place = copied()
    run = lab.open_run("one")
    assert run.manifest["pairs_store"] == str(place / "pairs" / "mine.sqlite")
    edited = run.pair_store()
    pair = next(iter(edited))
    edited.edit(pair.id, chosen="other")
    assert next(iter(PairStore(original.location))).chosen == "a"
    (place / "pairs" / "mine.sqlite").unlink()
    assert run.manifest["pairs_store"] == original.location, "a home without the pairs"


def test_pairs_elsewhere_stay_where_they_are(copied: Callable[[], Path], tmp_path: Path) -> None:
    elsewhere = make_store(tmp_path / "elsewhere.sqlite")
    make_run("one", elsewhere)
    copied()
    assert lab.open_run("one").manifest["pairs_store"] == elsewhere.location


def test_an_experiment_has_the_runs_and_pairs_of_its_own_home(copied: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.experiments.driver.INTERVAL", 0.01)
    store = make_store(home.home() / "pairs" / "mine.sqlite")
    declared = content(["dpo"], 2, steps=5)
    declared.pair_sets["world"] = type(declared.pair_sets["world"])(store.location, 0, "mine", home.in_home(store.location))
    before = folder_with(declared, "first")
    Driver(before, WrittenRuns()).run()
    runs = list(before.run_folders().values())
    place = copied()
    after = find_experiment("first")
    assert {run.pairs.location for run in after.read().runs} == {str(place / "pairs" / "mine.sqlite")}
    assert {run.key for run in after.read().runs} == after.recorded(), "the results are still those of these runs"
    delete_experiment(after, runs=True)
    assert all(run.exists() for run in runs)


def test_a_run_returns_from_the_trash_to_its_own_home(copied: Callable[[], Path]) -> None:
    folder = make_run("one", make_store(home.home() / "pairs" / "mine.sqlite"))
    delete_run(folder)
    place = copied()
    assert trashed_runs()[0].restore() == place / "runs" / "one"
    assert not folder.exists()


def test_twins_are_those_beside_a_run(copied: Callable[[], Path]) -> None:
    store = make_store(home.home() / "pairs" / "mine.sqlite")
    write_twins([make_run("one", store), make_run("two", store)])
    place = copied()
    assert read_twins(place / "runs" / "one") == [place / "runs" / "two"]
