"""Rows kept on disk, so that they can be read twice without being held in memory."""

from __future__ import annotations

import pickle
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

BATCH_BYTES, BATCH_ROWS = 8_000_000, 4096
"""A batch ends with the row that reaches one of them, so that the batches depend on the rows alone."""
SIZE = struct.Struct("<Q")


class RowSpool:
    """Rows written to an unnamed temporary file, which the system removes when it is closed; `batches` reads them back.

    Args:
        rows: Taken one by one.
        folder: Folder of the file, on the disk that has to hold the result as well.
    """

    def __init__(self, rows: Iterable[dict[str, Any]], folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._rows = rows

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self) -> Iterator[list[dict[str, Any]]]:
        """Take the rows and write them down; yield them in batches on the way."""
        return _in_batches(self._written())

    def _written(self) -> Iterator[tuple[dict[str, Any], int]]:
        for row in self._rows:
            data = pickle.dumps(row, pickle.HIGHEST_PROTOCOL)
            self._file.write(SIZE.pack(len(data)) + data)
            yield row, len(data)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Read the rows that were written, in the same batches."""
        return _in_batches(self._read())

    def _read(self) -> Iterator[tuple[dict[str, Any], int]]:
        self._file.seek(0)
        while head := self._file.read(SIZE.size):
            data = self._file.read(SIZE.unpack(head)[0])
            yield pickle.loads(data), len(data)  # only what this object wrote: the file has no name that others could open


def _in_batches(rows: Iterable[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
    """Divide rows with their sizes in bytes into batches, none much larger than both limits."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row, length in rows:
        batch.append(row)
        size += length
        if size >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
