"""Export the data of a run as CSV or Parquet, read and written in pieces so that any length of run fits in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lab.errors import did_you_mean

from .folder import RunError
from .reader import StoreReader

if TYPE_CHECKING:
    import pandas as pd

STEPS, FEW_STEPS = 20_000, 1_000
"""Steps per piece, of tables with one row per step and of tables with many."""

ENDINGS = (".csv", ".parquet")


class DataExportError(RunError):
    """A table cannot be exported; the message is one sentence."""


@dataclass(frozen=True)
class Table:
    """A table that can be exported.

    Attributes:
        columns: Returns its columns.
        pieces: Returns its content between two steps, in pieces (None as the last step: to the end).
    """

    columns: Callable[[StoreReader], list[str]]
    pieces: Callable[[StoreReader, int, int | None], Iterator[pd.DataFrame]]


class RangeReader(Protocol):
    """A reader of `StoreReader` that reads ranges of steps."""

    def span(self) -> tuple[int, int] | None:
        """Return the first and the last step with data, or None."""

    def read(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Return the data from step `first` to `last` (None: to the end)."""


def _ranges(reader: RangeReader, first: int, last: int | None, width: int) -> Iterator[pd.DataFrame]:
    """Read the steps from `first` to `last`, `width` at a time."""
    span = reader.span()
    if span is not None:
        end = span[1] if last is None else min(last, span[1])
        for begin in range(max(first, span[0]), end + 1, width):
            yield reader.read(first=begin, last=min(begin + width - 1, end))


def _scalars(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for frame in _ranges(reader.scalars, first, last, STEPS):
        yield frame.reset_index()


def _events(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    after = 0
    while len(events := reader.events.read(after=after, most=FEW_STEPS)):
        after = int(events["number"].iloc[-1])
        events = events[(events["step"] >= first) & (events["step"] <= (last if last is not None else events["step"].max()))]
        yield events.assign(detail=[json.dumps(detail, ensure_ascii=False) for detail in events["detail"]])


def _tokens(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for step in reader.tokens.steps():
        if first <= step and (last is None or step <= last):
            frame = reader.tokens.read(step)
            for name in frame.columns[2:]:
                frame[name] = [None if cell is None else json.dumps(_plain(cell)) for cell in frame[name]]
            yield frame.assign(step=step)


def _plain(cell: np.ndarray) -> list[Any]:
    """Convert an array to JSON values: floats with float32 precision; NaN and infinities, which JSON lacks, become None."""
    if cell.dtype.kind != "f":
        return list(cell.tolist())
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in cell.tolist()]


def _term_columns(reader: StoreReader) -> list[str]:
    return ["pair", "step", "version", *reader.pairs.all_term_names()]


TABLES = {
    "scalars": Table(lambda r: ["step", *r.scalars.names()], _scalars),
    "pairs": Table(_term_columns, lambda r, first, last: iter([r.pairs.latest(last)])),
    "terms": Table(_term_columns, lambda r, first, last: _ranges(r.pairs, first, last, FEW_STEPS)),
    "held_out": Table(_term_columns, lambda r, first, last: _ranges(r.held_out, first, last, FEW_STEPS)),
    "panel": Table(lambda r: list(r.panel.read(last=-1).columns), lambda r, first, last: _ranges(r.panel, first, last, FEW_STEPS)),
    "layers": Table(lambda r: list(r.layers.read(last=-1).columns), lambda r, first, last: _ranges(r.layers, first, last, STEPS)),
    "events": Table(lambda r: ["number", "time", "step", "kind", "detail"], _events),
    "tokens": Table(lambda r: ["step", "pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"], _tokens),
}
"""The tables that can be exported, by name; `lab.Run.export` explains them."""


def export(reader: StoreReader, what: str, path: Path | str, *, first: int = 0, last: int | None = None) -> Path:
    """Write one table of a run to a new file. Lists (of tokens) and details (of events) are written as JSON text.

    Args:
        reader: Reader of the run.
        what: Name of the table, one of `TABLES`.
        path: New file; its ending, .csv or .parquet, selects the format.
        first: First step.
        last: Last step, included; None writes to the end.

    Returns:
        The path of the file.

    Raises:
        DataExportError: The table or the format is unknown, or the file exists or cannot be written.
    """
    if what not in TABLES:
        raise DataExportError(
            f"There is no table {what!r} of a run; choose one of {', '.join(TABLES)}, or a figure, for example figure:margins."
            f"{did_you_mean(what, TABLES)}"
        )
    table = TABLES[what]
    return write_table(table.columns(reader), table.pieces(reader, first, last), path)


def write_table(columns: list[str], pieces: Iterable[pd.DataFrame], path: Path | str) -> Path:
    """Write the pieces of a table to a new .csv or .parquet file. Raises DataExportError if that is not possible."""
    target = Path(path).expanduser()
    if target.suffix.lower() not in ENDINGS:
        raise DataExportError(f"{target.name!r} has no known ending; give a file name that ends in {' or '.join(ENDINGS)}.")
    write = _write_csv if target.suffix.lower() == ".csv" else _write_parquet
    return _write_new(target, lambda draft: write(columns, (piece.reindex(columns=columns) for piece in pieces), draft))


def write_page(content: bytes, path: Path | str) -> Path:
    """Write an HTML page to a new file. Raises DataExportError if that is not possible."""
    return _write_new(Path(path).expanduser(), lambda draft: draft.write_bytes(content))


def _write_new(target: Path, write: Callable[[Path], Any]) -> Path:
    """Write a new file atomically; an existing file is never replaced."""
    if target.exists():
        raise DataExportError(f"The file {target} exists already and was left unchanged; choose another name.")
    draft = target.with_name(f".{target.name}.draft")
    try:
        write(draft)
        draft.rename(target)
    except OSError as error:
        raise DataExportError(
            f"{target} cannot be written ({error.strerror or error}); check the folder and the free disk space."
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return target


def _write_csv(columns: list[str], pieces: Iterable[pd.DataFrame], path: Path) -> None:
    import pandas as pd

    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=columns).to_csv(file, index=False)
        for piece in pieces:
            piece.to_csv(file, index=False, header=False)


def _write_parquet(columns: list[str], pieces: Iterable[pd.DataFrame], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, schema = None, None
    try:
        for piece in pieces:
            if piece.empty:
                continue
            if writer is None:
                schema = pa.schema([(name, _kind(piece[name])) for name in columns])
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(pa.Table.from_pandas(piece, schema=schema, preserve_index=False))
        if writer is None:
            pq.write_table(pa.table({name: pa.nulls(0) for name in columns}), path)
    finally:
        if writer is not None:
            writer.close()


def _kind(values: pd.Series) -> Any:
    """Return the Arrow type of a column. Missing numbers are NaN and missing text is None, so all pieces agree."""
    import pyarrow as pa

    kinds = {"b": pa.bool_(), "i": pa.int64(), "f": pa.float32() if values.dtype == np.float32 else pa.float64()}
    return kinds.get(values.dtype.kind, pa.string())
