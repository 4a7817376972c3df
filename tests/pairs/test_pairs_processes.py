"""Two processes with one store, and processes killed while they write."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.pairs import PairStore, pairs_from_rows

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


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(tmp_path):
    return PairStore.create(tmp_path / "a.sqlite", pairs_from_rows(ROWS), name="", source="")


def test_two_processes_lose_nothing(store):
    editors = [start(EDITOR, store.path, name, 20) for name in ("one", "two")]
    for editor in editors:
        editor.communicate(timeout=60)
        assert editor.returncode == 0
    assert store.version == 2 * 5 * 20
    assert [edit.number for edit in store.log()] == list(range(1, 201))
    for id in store.ids()[:5]:
        texts = [pair.chosen for pair in store.history(id)[1:]]
        assert sorted(texts) == sorted(f"{name} {k}" for name in ("one", "two") for k in range(20))
        assert [t for t in texts if t.startswith("one")] == [f"one {k}" for k in range(20)]


def test_killed_creator_leaves_no_store(tmp_path):
    path = tmp_path / "a.sqlite"
    creator = start(CREATOR, path)
    for _ in range(3):
        assert creator.stdout.readline()
    assert not path.exists()
    creator.send_signal(signal.SIGKILL)
    creator.communicate()
    assert not path.exists()
    (leftover,) = tmp_path.iterdir()
    assert len(PairStore.create(path, pairs_from_rows(ROWS), name="", source="")) == 20
    assert not leftover.exists()


@pytest.mark.parametrize("after", [1, 7, 23])
def test_killed_editor_leaves_the_store_whole(store, after):
    editor = start(EDITOR, store.path, "x", 10_000)
    confirmed = [editor.stdout.readline().split() for _ in range(after)]
    time.sleep(0.003 * after)
    editor.send_signal(signal.SIGKILL)
    confirmed += [line.split() for line in editor.communicate()[0].splitlines()]
    again = PairStore(store.path)
    log = again.log()
    assert len(confirmed) <= len(log) <= len(confirmed) + 1  # what was confirmed is there; one more may be
    assert [(edit.pair_id, f"x {k}") for edit, (_, k) in zip(log, confirmed)] == [(id, f"x {k}") for id, k in confirmed]
    for edit in log:
        assert again.get(edit.pair_id, edit.after).chosen.startswith("x ")
    assert all(pair.version == len(again.history(pair.id)) for pair in again.all())
    assert again.swap(again.ids()[-1]).version == 2
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM versions").fetchone()[0] == len(ROWS) + len(again.log())
