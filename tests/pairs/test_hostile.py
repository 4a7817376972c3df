"""Hostile files and texts: one clear error with its place, or pairs that survive every round trip; never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lab.pairs import PairsError, RefusedRows, import_pairs, open_pairs, pair_of, read_pairs, write_pairs
from lab.pairs.importing.limits import Limits

from . import hostile
from .hostile import BOMBS, GOOD, ROWS, TEXTS
from .hostile_pairs import conversation_with, with_text

FILES = list(hostile.files())


def test_there_are_enough_of_them():
    assert len(FILES) + len(TEXTS) + len(ROWS) + len(BOMBS) >= 200
    assert len({name for name, _ in FILES}) == len(FILES)


def outcome(source, **options):
    """The pairs of a source, or the one sentence that refuses it."""
    try:
        return read_pairs(source, **options)
    except PairsError as error:
        message = str(error)
        assert "\n" not in message
        assert "Traceback" not in message
        assert len(message) < 4_000
        return message


@pytest.mark.parametrize(("name", "data"), FILES, ids=[name for name, _ in FILES])
def test_files(name, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    given = outcome(path)
    if isinstance(given, str):
        assert str(path) in given
        skipped = outcome(path, on_error="skip")
        if not isinstance(skipped, str):  # the good rows, and a list of the others
            assert skipped.report.refused_count
            assert all(refusal.reason.strip() and "\n" not in refusal.reason for refusal in skipped.report.refused)
    else:
        assert given
        write_pairs(given, tmp_path / "again.jsonl")
        assert read_pairs(tmp_path / "again.jsonl") == given


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_rows(number):
    row = ROWS[number]
    given = outcome([GOOD, row, GOOD])
    if isinstance(given, str):
        assert "list, row 2: " in given
        assert len(read_pairs([GOOD, row, GOOD], on_error="skip")) == 2
    else:
        assert len(given) == 3
        json.dumps(given[1].meta)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_survive_files_and_the_store(name, tmp_path):
    pairs = [with_text(TEXTS[name]), conversation_with([TEXTS[name]])]
    for suffix in ("jsonl", "csv", "parquet"):
        for number, pair in enumerate(pairs):
            path = tmp_path / f"{number}.{suffix}"
            if name == "surrogate" and suffix != "jsonl":
                with pytest.raises(PairsError, match=r"write \.jsonl"):
                    write_pairs([pair], path)
                continue
            write_pairs([pair], path)
            assert read_pairs(path) == [pair]
    path = tmp_path / "all.jsonl"
    write_pairs(pairs, path)
    store = open_pairs(path, home=tmp_path)
    assert store.all() == pairs
    store.export(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_a_source_are_taken_as_they_are(name):
    text = TEXTS[name]
    row = {"prompt": f"Say: {text}", "chosen": f"A {text}", "rejected": f"B {text}", "column": text}
    assert pair_of(row).content == (row["prompt"], row["chosen"], row["rejected"])
    assert pair_of(row).meta == {"column": text}


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
from lab.pairs import PairsError, import_pairs, read_pairs
from lab.pairs.importing.limits import Limits
source = Path(sys.argv[1])
try:
    print(COUNT, "pairs")
except PairsError as error:
    print(error)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss begins with the parent's
print(int(peak.split()[1]) // 1000, "MB")
"""


SMALL = {"gzip of rows": 2, "xz": 2}
"""Bombs of which every row is short: refused beyond 10 MB and this ratio, since reading up to the real limits takes minutes."""


@pytest.mark.extended
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_a_limit_that_can_be_raised(name, tmp_path, monkeypatch):
    if name in SMALL:
        monkeypatch.setenv("LAB_UNPACKED_GB", "0.01")
    file, data = BOMBS[name]()
    path = tmp_path / file
    path.write_bytes(data)
    del data
    ratio = str(SMALL.get(name, Limits().ratio))
    script = LIMITED.replace("COUNT", "len(read_pairs(source, limits=Limits(ratio=int(sys.argv[2]))))")
    ended = subprocess.run([sys.executable, "-c", script, str(path), ratio], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
    message, memory = ended.stdout.strip().split("\n")
    assert "LAB_ROW_MB" in message or "LAB_UNPACKED_GB" in message or "not valid CSV" in message
    assert int(memory.split()[0]) < 1_300


def test_rows_announced_by_the_billion_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_UNPACKED_GB", "0.001")
    path = tmp_path / "a.parquet"
    path.write_bytes(hostile.parquet_of_one_text("x", 3_000_000))
    assert "LAB_UNPACKED_GB" in str(outcome(path))
    monkeypatch.setenv("LAB_UNPACKED_GB", "many")
    assert "'many' is not a number" in str(outcome(path))


def test_a_row_limit_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**GOOD, "prompt": "x" * 3_000}) + "\n" + json.dumps(GOOD))
    monkeypatch.setenv("LAB_ROW_MB", "0.001")
    with pytest.raises(RefusedRows, match=r"line 1: this row is longer than 0.001 MB.*LAB_ROW_MB"):
        read_pairs(path)
    assert len(read_pairs(path, on_error="skip")) == 1
    monkeypatch.setenv("LAB_ROW_MB", "1")
    assert len(read_pairs(path)) == 2


@pytest.mark.extended
def test_memory_does_not_grow_with_the_file(tmp_path):
    """The peak of importing 300 MB is at most 150 MB above that of importing 3 MB."""
    script = LIMITED.replace("COUNT", "import_pairs(source, home=source.parent)[1].read")
    peaks = []
    for count in (3_000, 300_000):
        path = tmp_path / f"{count}.json"
        with path.open("w") as file:
            file.write("[")
            for number in range(count):
                file.write(("," if number else "") + json.dumps({**GOOD, "prompt": f"{number} " + "x" * 900}))
            file.write("]")
        ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=600)
        assert f"{count} pairs" in ended.stdout, ended.stdout + ended.stderr
        peaks.append(int(ended.stdout.split()[-2]))
    assert peaks[1] - peaks[0] < 150


def test_an_import_that_is_refused_leaves_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD) + "\n{")
    with pytest.raises(RefusedRows):
        import_pairs(tmp_path / "a.jsonl", home=tmp_path / "home")
    assert not list((tmp_path / "home").iterdir())
