"""Several dashboards, a notebook and the command line at once, while a run writes and thins: no lock errors, nothing torn."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np

from lab.store import StoreReader, StoreWriter, writer
from tests.helpers import until

SECONDS = 2.0


def _hammer(folder, ready, ending, queue):
    """Reads as a page does, as fast as it can; tells what went wrong, and how often it read."""
    try:
        reader, reads = StoreReader(folder), 0
        ready.set()
        while not ending.is_set():
            frame = reader.scalars.read(["loss", "same"], points=200)
            both = frame.dropna()
            assert (both["loss"] == both["same"]).all()
            stands = frame.attrs["stands_for"]
            assert stands["loss"] == stands["same"], stands  # one moment of the store, however it is packed meanwhile
            whole = reader.scalars.read(["loss"])["loss"]
            assert (np.diff(whole.index) == 1).all(), "a value is missing or there twice"
            pairs = reader.pairs.latest()
            if len(pairs):
                assert (reader.pairs.latest(int(pairs["step"].max()) // 2)["step"] <= pairs["step"].max() // 2).all()
            reader.pairs.over_time(["logit"], columns=50)
            reader.pairs.history("p1")
            reader.events.read()
            reads += 1
        queue.put((None, reads))
    except Exception as error:
        queue.put((repr(error), 0))


def test_readers_of_many_kinds_beside_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "WAL_BYTES", 2**20)
    store = StoreWriter(tmp_path, keep_pair_rows=400, interval=0.02)
    context = multiprocessing.get_context("fork")
    queue, ending = context.Queue(), context.Event()
    readers = []
    for _ in range(3):
        ready = context.Event()
        readers.append(context.Process(target=_hammer, args=(tmp_path, ready, ending, queue), daemon=True))
        readers[-1].start()
        assert ready.wait(30)
    step, largest, until = 0, 0, time.monotonic() + SECONDS
    while time.monotonic() < until or step < 1500:
        step += 1
        value = float(np.sin(step))
        store.scalars(step, {"loss": value, "same": value, **{f"other-{i}": value for i in range(20)}})
        store.pair_terms(step, [f"p{(4 * step + i) % 50}" for i in range(4)], [0] * 4, {"logit": np.full(4, step)})
        if step % 100 == 0:
            store.event(step, "warning", message="careful")
            store.flush()
            largest = max(largest, (tmp_path / "run.sqlite-wal").stat().st_size)
    ending.set()
    outcomes = [queue.get(timeout=60) for _ in readers]
    for process in readers:
        process.join(30)
    store.close()
    assert [error for error, _ in outcomes] == [None] * 3
    assert all(reads for _, reads in outcomes)
    assert store.failure is None
    assert store.lost == 0
    assert largest < 16 * 2**20, "the log written ahead grows although it could be emptied"
    assert len(StoreReader(tmp_path).scalars.read(["loss"])) == step


def test_handing_over_waits_for_nothing(tmp_path):
    """Somebody who locks the store for a second holds up the writer's thread, not the loop."""
    import sqlite3

    store = StoreWriter(tmp_path, interval=0.01)
    store.flush()
    blocker = sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    for step in range(1, 200):
        store.scalars(step, {"loss": 1.0})
        store.pair_terms(step, ["a"], [0], {"logit": np.zeros(1)})
    assert time.monotonic() - began < 1.0
    assert not store.flush(timeout=0.2)
    blocker.execute("COMMIT")
    blocker.close()
    assert store.flush()
    store.close()
    assert len(StoreReader(tmp_path).scalars.read(["loss"])) == 199


READ = """
import os, sys
from pathlib import Path
import numpy, pandas, platformdirs
import lab
lab.runs()
from lab.store import StoreReader
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    Path(sys.argv[1], "mine").touch()
    sys.exit("The folder can be written.")
except PermissionError:
    reader = StoreReader(Path(sys.argv[1]))
print(reader.step, reader.scalars.read(["loss"])["loss"].tolist(), flush=True)
sys.stdin.readline()
print(reader.step, reader.scalars.read(["loss"])["loss"].tolist())
"""


def test_a_store_is_read_in_a_folder_that_cannot_be_written():
    """Also while another user resumes the run: nothing is read from an old state."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        folder.mkdir()
        with contextlib.closing(StoreWriter(folder)) as store:
            store.scalars(1, {"loss": 0.5})
            store.status(step=1)
        assert not (folder / "run.sqlite-wal").exists()
        for path in (Path(place), folder):
            path.chmod(0o555)
        with subprocess.Popen([sys.executable, "-c", READ, folder], stdin=PIPE, stdout=PIPE, text=True) as reading:
            try:
                assert reading.stdout.readline() == "1 [0.5]\n"
                folder.chmod(0o755)
                with contextlib.closing(StoreWriter(folder, interval=0.01)) as store:
                    store.scalars(2, {"loss": 0.25})
                    store.status(step=2)
                    until(lambda: StoreReader(folder).step == 2)
                    assert reading.communicate("\n", timeout=60)[0] == "2 [0.5, 0.25]\n"
            finally:
                reading.kill()
                Path(place).chmod(0o755)
