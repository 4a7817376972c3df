"""Several processes with one store, and processes killed while they write."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.pairs import PairsError, PairStore, pairs_from_rows
from lab.pairs.addresses import is_url

ROOT = Path(__file__).parents[2]
ROWS = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(20)]

EDITOR = """
import sys
from lab.pairs import PairStore
store = PairStore(sys.argv[1])
for k in range(int(sys.argv[3])):
    for id in store.ids()[:5]:
        store.edit(id, chosen=f"{sys.argv[2]} {k}")
        print(id, k, flush=True)
"""

CREATOR = """
import sys
from lab.pairs import Pair, PairStore
def endless():
    n = 0
    while True:
        yield Pair(str(n), "p" * 100, "a", "b")
        n += 1
        if n % 1000 == 0:
            print(n, flush=True)
PairStore.create(sys.argv[1], endless(), name="", source="")
"""


WORKER = """
import os, random, sys
from lab.pairs import PairConflict, PairsError, PairStore
location, author, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, rng = PairStore(location), random.Random(author)
ids = store.ids()[:8]
for k in range(count):
    pair = store.get(rng.choice(ids))
    kind = rng.random()
    if kind < 0.1:
        try:
            entry = store.undo(author=author)
        except PairsError:
            continue  # somebody else has changed that pair since
        if entry is not None:
            print("undo", entry.pair_id, entry.after, entry.number, flush=True)
    elif kind < 0.2:
        made = store.swap(pair.id, author=author)
        print("swap", pair.id, made.version, -1, flush=True)
    else:
        try:
            made = store.edit(pair.id, chosen=f"{author} {k}", author=author, expected_version=pair.version)
        except PairConflict as conflict:
            assert conflict.mine.chosen == f"{author} {k}" and conflict.theirs.version > pair.version
            made = store.edit(pair.id, rejected=f"{author} {k}", author=author)
        print("edit", pair.id, made.version, k, flush=True)
"""


class Program:
    """A process that prints lines, and a file with what it has printed: nothing is lost in a buffer when it is killed."""

    def __init__(self, output, code, *arguments):
        self.output = output
        with output.open("w") as file:
            self.process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=file)

    def lines(self):
        """What was printed, without a line that is not complete."""
        return self.output.read_text().split("\n")[:-1]

    def wait_for_lines(self, count, seconds=600):
        limit = time.monotonic() + seconds
        while len(self.lines()) < count:
            assert self.process.poll() is None, f"ended after {len(self.lines())} lines"
            assert time.monotonic() < limit, f"{len(self.lines())} of {count} lines"
            time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        return self.process.wait()


@pytest.fixture
def start(tmp_path):
    """start(code, *arguments): a Program, which ends with the test."""
    programs = []

    def begin(code, *arguments):
        programs.append(Program(tmp_path / f"output-{len(programs)}", code, *arguments))
        return programs[-1]

    yield begin
    for program in programs:
        program.kill()


def test_two_processes_lose_nothing(new_store, location, start):
    store = new_store(pairs_from_rows(ROWS))
    for editor in [start(EDITOR, location, name, 20) for name in ("one", "two")]:
        assert editor.process.wait(timeout=60) == 0
    assert store.version == 2 * 5 * 20
    assert [edit.number for edit in store.log()] == list(range(1, 201))
    for id in store.ids()[:5]:
        texts = [pair.chosen for pair in store.history(id)[1:]]
        assert sorted(texts) == sorted(f"{name} {k}" for name in ("one", "two") for k in range(20))
        assert [t for t in texts if t.startswith("one")] == [f"one {k}" for k in range(20)]


def test_killed_creator_leaves_no_store(location, start):
    creator = start(CREATOR, location)
    creator.wait_for_lines(3)
    for end in (lambda: None, creator.kill):
        end()
        with pytest.raises(PairsError, match=r"no file|no set of pairs"):
            PairStore(location)
    assert len(PairStore.create(location, pairs_from_rows(ROWS), name="", source="")) == 20
    assert is_url(location) or [file.name for file in Path(location).parent.glob(".*.building")] == []


@pytest.mark.parametrize("after", [1, 7, 23])
def test_killed_editor_leaves_the_store_whole(new_store, location, start, after):
    store = new_store(pairs_from_rows(ROWS))
    editor = start(EDITOR, location, "x", 10_000)
    editor.wait_for_lines(after)
    time.sleep(0.003 * after)
    editor.kill()
    confirmed = [line.split() for line in editor.lines()]
    assert store.edit(store.ids()[-1], chosen="x waits until nothing is locked").version == 2
    log = store.log()[:-1]
    assert len(confirmed) <= len(log) <= len(confirmed) + 1  # what was confirmed is there; one more may be
    assert [(edit.pair_id, f"x {k}") for edit, (_, k) in zip(log, confirmed)] == [(id, f"x {k}") for id, k in confirmed]
    for edit in log:
        assert store.get(edit.pair_id, edit.after).chosen.startswith("x ")
    assert all(pair.version == len(store.history(pair.id)) for pair in store.all())
    if not is_url(location):
        with sqlite3.connect(location) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT count(*) FROM versions").fetchone()[0] == len(ROWS) + len(store.log())


@pytest.mark.parametrize(
    ("workers", "edits"),
    [
        pytest.param(3, 40, marks=pytest.mark.extended, id="small"),
        pytest.param(8, 1000, marks=pytest.mark.slow, id="full"),
    ],
)
def test_processes_that_edit_at_random_and_are_killed_lose_nothing_acknowledged(new_store, location, start, workers, edits):
    store = new_store(pairs_from_rows(ROWS))
    running = {f"p{number}": start(WORKER, location, f"p{number}", edits) for number in range(workers)}
    killed = list(running)[: workers // 2]
    for place, name in enumerate(killed):
        running[name].wait_for_lines(edits // (5 + place))
        running[name].kill()
    for name, worker in running.items():
        assert worker.process.wait(timeout=1800) == (-signal.SIGKILL if name in killed else 0)
    log = store.log()
    assert [entry.number for entry in log] == list(range(1, len(log) + 1))
    made = {(entry.pair_id, entry.after): entry for entry in log}
    histories = {id: store.history(id) for id in store.ids()}
    for name, worker in running.items():
        acknowledged = [line.split(" ") for line in worker.lines()]
        assert len(acknowledged) > edits // 10
        for action, id, version, k in acknowledged:
            entry, pair = made[id, int(version)], histories[id][int(version) - 1]
            assert (entry.author, entry.action) == (name, action)
            if action == "edit":
                assert f"{name} {k}" in pair.content
    for id, history in histories.items():  # a straight line: every version follows from the one before
        assert [pair.version for pair in history] == list(range(1, len(history) + 1))
        assert [entry.before for entry in log if entry.pair_id == id] == [pair.version for pair in history[:-1]]
        assert store.get(id) == history[-1]
        assert store.find(history[-1].chosen)  # the search index has what the versions have
    started = time.monotonic()
    assert store.edit(store.ids()[0], note="nothing is locked").note == "nothing is locked"
    assert time.monotonic() - started < 10
