"""Write pairs in TRL's explicit preference format, with columns of the lab's own, which `read_pairs` reads back unchanged."""

from __future__ import annotations

import csv
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .addresses import usable_path
from .importing.columnar import JSON_COLUMNS
from .importing.columns import OWN, PAIR_ID
from .importing.messages import WRITTEN
from .importing.rows import ESCAPE
from .pair import FIELDS, Answer, Pair, PairsError, to_bytes, to_json
from .parquet_column import ParquetColumn
from .row_spool import RowSpool

FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠", ESCAPE)
"""Beginnings of a cell that a spreadsheet reads as a formula, and the escape itself."""
TEXT_COLUMNS = (*FIELDS, OWN["note"], PAIR_ID)
UNSET: dict[str, Any] = {"weight": 1, "degree": None, "tags": [], "note": ""}
"""Values of a pair's own fields that are not written."""


def row_of(pair: Pair) -> dict[str, Any]:
    """Return a pair as a row: prompt, chosen, rejected, the pair's own fields that are set, and the columns of `meta`.

    Answers to a conversation are written as conversations of one assistant message or more. A column of `meta` that has the name of
    another column gets the addition " (source)".
    """
    chosen, rejected = (_side(pair, answer) for answer in (pair.chosen, pair.rejected))
    own: dict[str, Any] = {PAIR_ID: pair.id, "prompt": pair.prompt, "chosen": chosen, "rejected": rejected}
    if pair.tools is not None:
        own["tools"] = pair.tools
    fields = {"weight": pair.weight, "degree": pair.degree, "tags": list(pair.tags), "note": pair.note}
    own |= {OWN[name]: value for name, value in fields.items() if value != UNSET[name]}
    taken = {*own, "tools", PAIR_ID, OWN["tags"], OWN["note"]}
    return {(f"{key} (source)" if key in taken else key): value for key, value in pair.meta.items()} | own


def _side(pair: Pair, answer: Answer) -> Any:
    return [{"role": "assistant", "content": answer}] if isinstance(pair.prompt, list) and isinstance(answer, str) else answer


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Write pairs to a .jsonl, .csv or .parquet file and return their number; the file appears complete or not at all.

    Pairs are taken one by one and never held together: CSV and Parquet, whose columns must be known first, are written from a
    temporary copy beside the file, which takes about as much space as JSON Lines.

    Raises:
        PairsError: The file cannot be written; or the format cannot hold the pairs: Parquet has one type per column, so it takes
            either plain or conversational prompts, and neither Parquet nor CSV can hold half of a character (a lone surrogate).
    """
    writers = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
    if path.suffix.lower() not in writers:
        raise PairsError(f"Pairs cannot be written as {path.name}; give a name that ends in .jsonl, .csv or .parquet.")
    path = usable_path(path)
    part = path.with_name(f".{path.name[:40]}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        count = writers[path.suffix.lower()](map(row_of, pairs), part)
        part.replace(path)
        return count
    except OSError as error:
        raise PairsError(f"{path} could not be written ({error}); check the folder and the disk.") from error
    finally:
        if part.exists():
            part.unlink()


def _write_jsonl(rows: Iterator[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            # A lone surrogate has no UTF-8 form, so it is written as a JSON escape.
            file.write(_escaped(to_json(row)) + b"\n")
    return count


def _escaped(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return b"".join(to_bytes(c) if not 0xD800 <= ord(c) <= 0xDFFF else b"\\u%04x" % ord(c) for c in text)


def _columns(names: Iterable[str]) -> list[str]:
    """All columns: the pair's own first, then those of `meta` in the order in which they come."""
    names = dict.fromkeys(names)
    own = [name for name in (PAIR_ID, *FIELDS, "tools", *OWN.values()) if name in names]
    return list(dict.fromkeys([*own, *names]))


def _write_csv(rows: Iterator[dict[str, Any]], path: Path) -> int:
    count = 0
    with RowSpool(rows, path.parent) as spool, path.open("w", encoding="utf-8", newline="") as file:
        names = _columns({key: None for batch in spool.write() for row in batch for key in row})
        writer = csv.writer(file)
        try:
            writer.writerow([_cell_text(name) for name in names])
            for batch in spool.batches():
                writer.writerows([_cell(name, row.get(name)) for name in names] for row in batch)
                count += len(batch)
        except UnicodeEncodeError:
            raise PairsError(
                "A pair contains half of a character (a lone surrogate), which CSV cannot hold; write .jsonl."
            ) from None
    return count


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return to_json(value)
    if name not in TEXT_COLUMNS and (not value or _reads_as_json(value)):
        return ESCAPE + value
    return _cell_text(value)


def _cell_text(text: str) -> str:
    """A text that spreadsheets show and do not compute, and that the importer reads as text."""
    return ESCAPE + text if text.startswith(FORMULA) or WRITTEN.match(text) else text


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    columns: dict[str, ParquetColumn] = {}
    try:
        with RowSpool(rows, path.parent) as spool:
            for batch in spool.write():
                for name in dict.fromkeys(key for row in batch for key in row):
                    columns.setdefault(name, ParquetColumn(name)).add([row.get(name) for row in batch])
            ordered = [columns[name] for name in _columns(columns)]
            as_json = [column.name for column in ordered if column.as_json]
            metadata = {JSON_COLUMNS: "\n".join(as_json)} if as_json else None
            schema = pa.schema([column.field() for column in ordered], metadata)
            with pq.ParquetWriter(path, schema) as writer:
                for batch in spool.batches():
                    arrays = [column.array([row.get(column.name) for row in batch]) for column in ordered]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                    count += len(batch)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise PairsError(f"These pairs do not fit into Parquet columns ({error}); write .jsonl instead.") from None
    return count
