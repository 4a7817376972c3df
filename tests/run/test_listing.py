"""Lists of runs: summaries that follow every change of the runs' folders, filters and order, labels, archive and trash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lab
from lab import home
from lab.cli import main
from lab.run import RunLock
from lab.run.config import TrainConfig
from lab.run.listing import index, labels
from lab.run.listing.index import RunIndex, list_runs
from lab.run.listing.query import RunQuery, select
from lab.run.listing.trash import freed_by
from lab.store import StoreWriter, write_twins
from lab.training.run_folder import create_run

HOLD = """
import sys, time
from pathlib import Path
from lab.run import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""
"""A program that holds the lock of a run until it is killed."""

TAG = """
import sys
from pathlib import Path
from lab.run.listing.labels import add_tags
for number in range(15):
    add_tags(Path(sys.argv[1]), [f"{sys.argv[2]}{number}"])
"""
"""A program that adds 15 tags to a run, one by one."""


def make(name: str, *, state: str = "finished", objective: str = "dpo", steps: int = 3, loss: float = 0.5, **manifest) -> Path:
    folder = home.runs_dir() / name
    stored = {"pairs_store": "gone", "pairs_version": 0, "pairs_name": "gone"}
    create_run(folder, TrainConfig.parse(objective=objective, steps=steps), **stored | manifest)
    record(folder, state, steps, loss)
    return folder


def record(folder: Path, state: str, steps: int, loss: float) -> None:
    writer = StoreWriter(folder)
    for step in range(1, steps + 1):
        writer.scalars(step, {"loss": loss + steps - step})
    writer.status(state=state, step=steps, seconds=1.0)
    writer.close()


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every entry of the index counts as settled, as it is a second after the last write."""
    monkeypatch.setattr(index, "SETTLED", -1.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs whose stores were read since."""
    names: list[str] = []
    read = index.read_facts
    monkeypatch.setattr(index, "read_facts", lambda folder: (names.append(folder.name), read(folder))[1])
    return names


def states() -> dict[str, str]:
    return {run.folder.name: run.state for run in list_runs().runs}


def test_a_summary_has_what_the_run_says_itself():
    run = lab.open_run(make("first", objective="sgdpo", loss=0.25))
    (summary,) = list_runs().runs
    assert (summary.name, summary.state, summary.step, summary.steps) == (run.name, run.state, run.step, 3)
    assert summary.objective == run.manifest["config"]["objective"]
    assert summary.numbers == {"loss": 0.25}
    assert summary.sparklines["loss"] == ([1, 2, 3], [2.25, 1.25, 0.25])
    assert lab.runs().frame().loc[0, ["run", "state", "loss"]].to_list() == ["first", "finished", 0.25]


def test_a_long_curve_becomes_few_points():
    make("long", steps=500)
    steps, values = list_runs().runs[0].sparklines["loss"]
    assert len(steps) == len(values) <= 32
    assert steps[-1] == 500
    assert values == sorted(values, reverse=True)


def test_what_has_not_changed_is_not_read_again(older, reads):
    make("one"), make("two")
    assert states() == states() == {"one": "finished", "two": "finished"}
    assert sorted(reads) == ["one", "two"]
    lab.open_run("two").tag("good")
    assert select(list_runs().runs, RunQuery("#good"))[0].folder.name == "two"
    assert sorted(reads) == ["one", "two", "two"]


def test_a_run_that_was_just_written_is_read_again(reads):
    make("one")
    states(), states()
    assert reads == ["one", "one"]


def test_changes_from_outside_are_seen(older, tmp_path):
    first = make("first")
    assert list(states()) == ["first"]
    first.rename(first.with_name("moved"))
    assert list(states()) == ["moved"]
    shutil.copytree(first.with_name("moved"), first.with_name("copied"))
    assert states() == {"moved": "finished", "copied": "finished"}
    record(first.with_name("copied"), "failed", 5, 0.1)
    assert {run.folder.name: (run.state, run.step) for run in list_runs().runs} == {
        "moved": ("finished", 3),
        "copied": ("failed", 5),
    }
    shutil.rmtree(first.with_name("moved"))
    shutil.rmtree(first.with_name("copied"))
    make("copied", state="stopped")  # another run in the same place
    assert states() == {"copied": "stopped"}
    home.list_run(shutil.move(first.with_name("copied"), tmp_path / "elsewhere"))
    assert list(states().values()) == ["stopped"]
    shutil.rmtree(tmp_path / "elsewhere")
    assert states() == {}


def test_a_run_of_another_process_is_live_until_it_is_killed(older):
    folder = make("lives", state="running")
    assert states() == {"lives": "crashed"}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert states() == {"lives": "running"} == {"lives": lab.open_run(folder).state}
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert states() == {"lives": "crashed"}


def test_a_run_that_ends_between_two_reads_is_not_called_crashed(older, monkeypatch):
    folder = make("ends", state="running")
    lock = RunLock(folder)
    assert states() == {"ends": "running"}
    held = index.is_held

    def ends_now(place: Path) -> bool:
        record(place, "finished", 3, 0.5)
        lock.release()
        return held(place)

    monkeypatch.setattr(index, "is_held", ends_now)
    assert states() == {"ends": "finished"}


def test_the_next_process_reads_the_index_instead_of_the_stores(older, reads, tmp_path):
    folders = [make(f"run{number:02d}") for number in range(index.WORTH_WRITING)]
    file = tmp_path / "index.json"
    RunIndex(file).list(folders)
    reads.clear()
    record(folders[0], "failed", 4, 0.1)
    listing = RunIndex(file).list(folders)
    assert reads == ["run00"]
    assert {run.folder.name: (run.state, run.numbers["loss"]) for run in listing.runs} == {
        folder.name: ("failed", 0.1) if folder is folders[0] else ("finished", 0.5) for folder in folders
    }
    file.write_text(file.read_text()[:500])  # damaged
    assert len(RunIndex(file).list(folders).runs) == len(folders)


def test_folders_that_cannot_be_read_are_named_with_the_reason(capsys):
    make("good")
    create_run(home.runs_dir() / "made", TrainConfig.parse(objective="dpo"), pairs_store="", pairs_version=0)
    for name, content in (("half", '{"conf'), ("old", '{"format": 1}'), ("empty", '{"format": 2}')):
        make(name)
        (home.runs_dir() / name / "run.json").write_text(content)
    (make("labelled") / labels.FILE_NAME).write_text("[]")
    (make("store") / "run.sqlite").write_bytes(b"no database " * 500)
    damages = [
        {"config": []},
        {"config": {"objective": {}, "steps": 3, "pairs": "world", "model": "world"}},
        {"config": {"objective": {"name": "dpo"}, "steps": float("inf"), "pairs": "world", "model": "world"}},
        {"branch": "x"},
        {"branch": {"run": 3}},
    ]
    for number, damage in enumerate(damages):
        file = make(f"wrong{number}") / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    listing = list_runs()
    assert [run.folder.name for run in listing.runs] == ["good"]
    kinds = {run.folder.name: run.kind for run in listing.unreadable}
    assert kinds == {"made": "unstarted", "half": "damaged", "old": "format", "empty": "damaged", "labelled": "damaged",
                     "store": "damaged"} | {f"wrong{number}": "damaged" for number in range(5)}  # fmt: skip
    assert main(["runs"]) == 0
    printed = capsys.readouterr()
    assert "good" in printed.out
    assert "Not listed: 1 of another format" in printed.err
    assert printed.err.count("is damaged") == 8
    assert f"Not listed: {home.runs_dir() / 'store' / 'run.sqlite'} cannot be read (file is not a database); restore" in printed.err


def test_words_states_days_and_numbers_filter_and_sort():
    make("a", objective="sgdpo", loss=0.3, created="2026-01-10T12:00:00+00:00")
    make("b", objective="dpo", loss=0.1, created="2026-01-20T12:00:00+00:00")
    make("c", objective="dpo", state="failed", loss=float("nan"), created="2026-01-30T12:00:00+00:00")
    lab.open_run("b").note("Warm-up was too short.")
    lab.open_run("b").tag("Base line")
    lab.open_run("c").archive()

    def names(*words: str, **more) -> list[str]:
        return [run.dir.name for run in lab.runs(*words, **more)]

    assert names() == ["b", "a"]
    assert names(archived=None) == ["c", "b", "a"]
    assert names(archived=True) == ["c"]
    assert names("WARM dpo") == names("base") == ["b"]
    assert names("#base") == []
    assert names("dpo", states=["failed"], archived=None) == ["c"]
    assert names(since="2026-01-15", until="2026-01-25") == ["b"]
    assert names(sort="loss", archived=None) == ["a", "b", "c"]
    assert names(sort="loss", descending=False, archived=None) == ["b", "a", "c"]
    assert names(sort="tags") == ["b", "a"]
    for refused, more in (
        ("no state 'over'", {"states": ["over"]}),
        ("no day", {"since": "May"}),
        ("'losss'.*'loss'", {"sort": "losss"}),
    ):
        with pytest.raises(lab.RunError, match=refused):
            lab.runs(**more)


def test_labels_survive_moves_and_say_who_and_when():
    run = lab.open_run(make("plain"))
    run.rename("  My   run ", author="Ada")
    run.tag("b", "#a", "b", author="Ada")
    run.tag("c", author="Bob")
    run.untag("b", "not there")
    run.note("Look at\nstep 2.", author="Bob")
    assert (run.name, run.labels.tags, run.labels.note) == ("My run", ("a", "c"), "Look at\nstep 2.")
    assert (run.labels.changes["name"].author, run.labels.changes["note"].author) == ("Ada", "Bob")
    assert run.labels.changes["name"].time[:2] == "20"
    moved = run.dir.rename(run.dir.with_name("moved"))
    assert lab.open_run("My run").dir == lab.open_run("moved").dir == moved
    lab.open_run("moved").rename("")
    assert lab.open_run("moved").name == "moved"
    unchanged = (moved / labels.FILE_NAME).stat().st_mtime_ns
    lab.open_run("moved").untag("b")
    assert (moved / labels.FILE_NAME).stat().st_mtime_ns == unchanged
    for refused in (lambda r: r.tag(" "), lambda r: r.tag("a,b"), lambda r: r.rename("x" * 300), lambda r: r.note("x" * 30_000)):
        with pytest.raises(lab.RunError, match=r"cannot be a tag|at most"):
            refused(lab.open_run("moved"))


def test_two_authors_lose_no_tag():
    folder = make("shared")
    authors = [subprocess.Popen([sys.executable, "-c", TAG, str(folder), name]) for name in ("a", "b")]
    assert [author.wait(60) for author in authors] == [0, 0]
    assert len(labels.read_labels(folder).tags) == 30


def test_what_refers_to_a_run_survives_its_renaming():
    one, two = make("one"), make("two", branch={"run": str(home.runs_dir() / "one"), "step": 1})
    write_twins([one, two])
    lab.open_run("one").rename("Another")
    assert [twin.dir for twin in lab.open_run("two").twins] == [one]
    assert {run.folder.name: run.parent for run in list_runs().runs} == {"one": None, "two": one}
    assert lab.open_run("one").name == lab.open_run("Another").name == "Another"


def test_a_deleted_run_waits_in_the_trash(capsys):
    folder = make("gone")
    before = (folder / "run.sqlite").read_bytes(), (folder / "run.json").read_bytes()
    lab.open_run("gone").delete(author="Ada")
    assert lab.runs() == []
    (trashed,) = lab.trashed_runs()
    assert (trashed.name, trashed.place, trashed.author) == ("gone", folder, "Ada")
    make("gone")
    with pytest.raises(lab.RunError, match="exists, so the deleted run cannot return"):
        trashed.restore()
    lab.open_run("gone").delete()  # a second one of the same name
    assert len(lab.trashed_runs()) == 2
    trashed.restore()
    assert ((folder / "run.sqlite").read_bytes(), (folder / "run.json").read_bytes()) == before
    assert not (folder / "deleted.json").exists()
    assert main(["runs", "trash", "--empty"]) == 0
    assert "1 run deleted for good" in capsys.readouterr().out
    assert lab.trashed_runs() == []
    assert main(["runs", "restore", "gone"]) == 1
    assert "no run 'gone' in the trash" in capsys.readouterr().err


def test_a_run_elsewhere_returns_to_its_place_and_to_the_list(tmp_path):
    place = Path(shutil.move(make("run"), tmp_path / "elsewhere"))
    home.list_run(place)
    (run,) = lab.runs()
    run.delete()
    assert not place.exists()
    assert list(home.runs_dir().iterdir()) == []
    lab.trashed_runs()[0].restore()
    assert [run.dir.resolve() for run in lab.runs()] == [place]
    lab.runs()[0].delete(for_good=True)
    assert lab.runs() == lab.trashed_runs() == []
    assert not place.exists()


def test_a_run_that_trains_is_not_deleted():
    folder = make("lives", state="running")
    lock = RunLock(folder)
    for for_good in (False, True):
        with pytest.raises(lab.RunError, match="stop it before you delete it"):
            lab.open_run(folder).delete(for_good=for_good)
    lock.release()
    lab.open_run(folder).delete()  # crashed
    assert not folder.exists()


def test_deleting_says_what_it_frees_and_who_refers_to_it():
    parent = make("parent")
    checkpoint = parent / "checkpoints" / "step-000002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"1" * 5_000_000)
    alone = freed_by([parent], list_runs().runs)
    assert alone.checkpoints == 1
    assert 5e6 < alone.bytes < 6e6
    assert alone.warnings == ()
    branch = make("branch", branch={"run": str(parent), "step": 2})
    os.link(checkpoint / "weights", branch / "weights")
    write_twins([parent, make("twin")])
    shared = freed_by([parent], list_runs().runs)
    assert shared.bytes < 1e6
    assert shared.warnings == (
        "parent is a twin of twin, which stays without it.",
        "branch branched from parent, and keeps its own copy of the checkpoint.",
    )
    assert freed_by([parent, branch], list_runs().runs).bytes > 5e6


def test_the_command_line_labels_and_deletes(capsys):
    make("one"), make("two", loss=0.1)
    for arguments in (
        ["rename", "one", "First"],
        ["tag", "First", "x", "y"],
        ["untag", "one", "y"],
        ["note", "one", "good"],
        ["archive", "two"],
    ):
        assert main(["runs", *arguments]) == 0
    assert main(["runs", "--json"]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {key: row[key] for key in ("run", "name", "tags", "note", "archived")} == {
        "run": "one", "name": "First", "tags": "x", "note": "good", "archived": False
    }  # fmt: skip
    assert row["numbers"] == {"loss": 0.5}
    assert main(["runs", "--archived", "--sort", "loss", "--ascending"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "two", "one"]
    assert main(["runs", "delete", "one", "two", "one", "--dry-run"]) == 0
    assert "Deleting 2 runs would free" in capsys.readouterr().out
    assert main(["runs", "delete", "one", "missing"]) == 1  # nothing is deleted where one name is wrong
    assert len(lab.runs(archived=None)) == 2
    assert main(["runs", "delete", "one"]) == 0
    assert "`runs restore one` puts it back" in capsys.readouterr().out
    assert main(["runs", "restore", "one"]) == 0
    assert len(lab.runs(archived=None)) == 2
    assert main(["runs", "--filter", "nothing"]) == 0
    assert "None of the 2 runs matches" in capsys.readouterr().out


def test_listed_runs_open_no_file():
    make("one")
    before = len([*Path("/proc/self/fd").iterdir()])
    handles = [lab.runs() for _ in range(50)]
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert handles[0][0].step == 3
