"""Exports of CSV and Parquet in batches: the same file whatever the batches are, in memory that does not grow with the pairs."""

from __future__ import annotations

import subprocess
import sys
from itertools import chain

import pytest

from lab.pairs import Pair, PairsError, read_pairs, row_spool, write_pairs

USER = {"role": "user", "content": "Q"}
CALL = {"type": "function", "function": {"name": "water", "arguments": {"pot": 0}}}
TALK = [
    Pair("1", [USER], [{"role": "assistant", "content": "a"}, USER, {"role": "assistant", "content": "c"}], "b", meta={"n": 1}),
    Pair("2", [USER], "a", "b", meta={"n": 2, "more": ["x"]}),
    Pair("3", [USER], [{"role": "assistant", "content": "a", "reasoning_content": "r"}], "b", meta={"n": 2.5, "late": True}),
    Pair("4", [USER], "a", "b", weight=2.0, degree=0.5, tags=("t",), note="n", meta={"more": None}),
]
CALLS = [*TALK, Pair("5", [USER], [{"role": "assistant", "content": None, "tool_calls": [CALL]}], "b", meta={"n": 2**70})]
TEXT = [
    Pair("1", "p", "a", "b", meta={"n": 1, "s": "x"}),
    Pair("2", "=p", "'a", "b\r\nc", meta={"n": None, "s": ["x"]}),
    Pair("3", "p", "a", "d", meta={"late": "12"}),
]

PEAK = """
import sys
from pathlib import Path
from lab.pairs import Pair, write_pairs
count, path = int(sys.argv[1]), Path(sys.argv[2])
pairs = (Pair(str(n), f"{n} " + "x" * 900, "a", "b", meta={"score": n, "source": f"s{n}"}) for n in range(count))
assert write_pairs(pairs, path) == count
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("pairs", [TALK, CALLS, TEXT], ids=["talk", "calls", "text"])
def test_columns_and_types_are_those_of_all_batches(pairs, suffix, tmp_path, monkeypatch):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    write_pairs(pairs, whole)
    monkeypatch.setattr(row_spool, "BATCH_ROWS", 1)
    assert write_pairs(iter(pairs), cut) == len(pairs)
    assert read_pairs(cut) == read_pairs(whole)
    assert [pair.content for pair in read_pairs(cut)] == [pair.content for pair in pairs]
    again = tmp_path / f"again.{suffix}"
    write_pairs(read_pairs(cut), again)
    assert again.read_bytes() == cut.read_bytes()


def test_text_and_messages_in_different_batches_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(row_spool, "BATCH_ROWS", 1)
    with pytest.raises(PairsError, match="do not fit into Parquet"):
        write_pairs(chain(TEXT, TALK), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extended
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_pairs(suffix, tmp_path):
    """The peak of writing 72 MB is at most 30 MB above that of writing 9 MB, which is more than a batch already."""
    peaks = []
    for count in (10_000, 80_000):
        command = [sys.executable, "-c", PEAK, str(count), str(tmp_path / f"a.{suffix}")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr[-2000:]
        peaks.append(int(ended.stdout) / 1000)
    assert peaks[1] - peaks[0] < 30, peaks
