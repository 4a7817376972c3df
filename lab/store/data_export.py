"""A run's numbers as a table for other programs: CSV or Parquet by the file's ending, read and written a piece at a time.

A million steps fit in memory, however many series there are. The file appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .folder import RunError
from .reader import StoreReader

if TYPE_CHECKING:
    import pandas as pd

STEPS, FEW_STEPS = 20_000, 1_000
"""Steps of a piece: of one row a step, and of many rows a step."""

ENDINGS = (".csv", ".parquet")


class DataExportError(RunError):
    """A table that cannot be written, in one sentence."""


@dataclass(frozen=True)
class Table:
    """What can be exported: words for it, its columns, and its pieces between two steps (None: the last there is)."""

    message: str
    columns: Callable[[StoreReader], list[str]]
    pieces: Callable[[StoreReader, int, int | None], Iterator[pd.DataFrame]]


def _terms(reader: StoreReader) -> list[str]:
    return ["pair", "step", "version", *reader.all_term_names()]


def _scalars(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    names = reader.names()
    for begin, end in _pieces(reader.span("scalars"), first, last, STEPS):
        yield reader.scalars(names, first=begin, last=end).reset_index()


def _layers(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for begin, end in _pieces(reader.span("layers"), first, last, STEPS):
        yield reader.layers(first=begin, last=end)


def _rows(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for begin, end in _pieces(reader.span("terms"), first, last, FEW_STEPS):
        yield reader.rows(first=begin, last=end)


def _looks(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for begin, end in _pieces(reader.span("held_out"), first, last, FEW_STEPS):
        yield reader.looks(first=begin, last=end)


def _panel(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for begin, end in _pieces(reader.span("panel"), first, last, FEW_STEPS):
        yield reader.panel(end, first=begin)


def _events(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    after = 0
    while len(found := reader.events(after=after, most=FEW_STEPS)):
        after = int(found["number"].iloc[-1])
        found = found[(found["step"] >= first) & (found["step"] <= (last if last is not None else found["step"].max()))]
        yield found.assign(detail=[json.dumps(detail, ensure_ascii=False) for detail in found["detail"]])


def _tokens(reader: StoreReader, first: int, last: int | None) -> Iterator[pd.DataFrame]:
    for step in reader.token_steps():
        if first <= step and (last is None or step <= last):
            frame = reader.tokens(step)
            for name in frame.columns[2:]:
                frame[name] = [None if cell is None else json.dumps(_plain(cell)) for cell in frame[name]]
            yield frame.assign(step=step)


def _plain(cell: np.ndarray) -> list[Any]:
    """Numbers as short as they were kept; JSON has no NaN and no infinities."""
    if cell.dtype.kind != "f":
        return list(cell.tolist())
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in cell.tolist()]


TABLES = {
    "scalars": Table("every scalar, a row a step", lambda r: ["step", *r.names()], _scalars),
    "pairs": Table("every pair's terms when it was last seen", _terms, lambda r, first, last: iter([r.pairs(last)])),
    "terms": Table("every pair's terms at every step that is kept", _terms, _rows),
    "held_out": Table("the held-out pairs' terms at every look", _terms, _looks),
    "panel": Table("the panel of held-out pairs at every look", lambda r: list(r.panel(-1).columns), _panel),
    "layers": Table("gradient flow by layer", lambda r: list(r.layers(last=-1).columns), _layers),
    "events": Table("what happened", lambda r: ["number", "time", "step", "kind", "detail"], _events),
    "tokens": Table(
        "token values of the latest steps",
        lambda r: ["step", "pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"],
        _tokens,
    ),
}
"""What can be exported, by name."""


def export(reader: StoreReader, what: str, path: Path | str, *, first: int = 0, last: int | None = None) -> Path:
    """Write one of TABLES, of the steps `first` to `last` (None: to the end), to a new .csv or .parquet file.

    Lists (of tokens) and details (of events) are JSON text. Raises DataExportError (a RunError) where that cannot be done.
    """
    if what not in TABLES:
        raise DataExportError(f"There is no table {what!r} in a run; choose one of {', '.join(TABLES)}.")
    table = TABLES[what]
    return write_table(table.columns(reader), table.pieces(reader, first, last), path)


def write_table(columns: list[str], pieces: Iterable[pd.DataFrame], path: Path | str) -> Path:
    """Write pieces of a table one after the other to a new file. Raises DataExportError where that cannot be done."""
    target = Path(path).expanduser()
    if target.suffix.lower() not in ENDINGS:
        raise DataExportError(f"The ending of {target.name!r} says no format; name a file that ends in {' or '.join(ENDINGS)}.")
    writing = _write_csv if target.suffix.lower() == ".csv" else _write_parquet
    return _write_new(target, lambda draft: writing(columns, (piece.reindex(columns=columns) for piece in pieces), draft))


def write_page(content: bytes, path: Path | str) -> Path:
    """Write a page of HTML to a new file. Raises DataExportError where that cannot be done."""
    return _write_new(Path(path).expanduser(), lambda draft: draft.write_bytes(content))


def _write_new(target: Path, write: Callable[[Path], Any]) -> Path:
    """Write a file that is whole or absent, and takes nobody's place."""
    if target.exists():
        raise DataExportError(f"There is a file {target} already, and it was not touched; name another.")
    draft = target.with_name(f".{target.name}.draft")
    try:
        write(draft)
        draft.rename(target)
    except OSError as error:
        raise DataExportError(f"{target} cannot be written ({error.strerror or error}); check the folder and the disk.") from None
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
    """The type of a column, the same in every piece: numbers that are missing are NaN, text that is missing is None."""
    import pyarrow as pa

    kinds = {"b": pa.bool_(), "i": pa.int64(), "f": pa.float32() if values.dtype == np.float32 else pa.float64()}
    return kinds.get(values.dtype.kind, pa.string())


def _pieces(span: tuple[int, int] | None, first: int, last: int | None, width: int) -> Iterator[tuple[int, int]]:
    """Even stretches of the steps there are, both ends included."""
    if span is not None:
        end = span[1] if last is None else min(last, span[1])
        for begin in range(max(first, span[0]), end + 1, width):
            yield begin, min(begin + width - 1, end)
