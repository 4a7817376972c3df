"""Read rows of preference data from JSON Lines, JSON, CSV and Parquet files, lists, data sets and the hub.

A reader yields (number, row). In place of a broken row it yields a PairsError and continues, so that one pass can count the
wrong rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pair import FIELDS, PairsError

Rows = Iterator[tuple[int, Any]]

LONGEST_PATH = 300
"""Characters of a path in a message; a longer one is shortened."""

LONGEST_CSV_FIELD = 2**31 - 1
"""Characters; the csv module's default limit of 131,072 is too low for long answers."""


@dataclass(frozen=True)
class Table:
    """Numbered rows of a source.

    name:   Short name, also used for files.
    source: Path, hub id or type that messages name.
    unit:   What the numbers count: "line" or "row".
    rows:   (number from 1, row or PairsError).
    """

    name: str
    source: str
    unit: str
    rows: Rows


def open_table(source: Any, split: str = "train") -> Table:
    """Open a path (.jsonl, .json, .csv, .parquet), a hub id, a datasets.Dataset or DatasetDict, or rows (dicts) for reading.

    Raises PairsError where the source does not exist or cannot be read.
    """
    if isinstance(source, (str, Path)):
        shown = " ".join(str(source).split())
        shown = shown if len(shown) <= LONGEST_PATH else f"{shown[: LONGEST_PATH // 2]} ... ({len(shown):,} characters)"
        try:
            path = Path(source).expanduser()
            is_file, is_folder = path.is_file(), path.is_dir()
        except (OSError, RuntimeError) as error:  # a name too long for the disk, an unknown user behind ~
            reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
            raise PairsError(f"{shown} cannot be the path of a file ({reason}); check it.") from None
        if is_file:
            return _file_table(path)
        if is_folder:
            raise PairsError(f"{shown} is a folder; give a .jsonl, .json, .csv or .parquet file.")
        if isinstance(source, str) and _is_hub_id(source):
            return Table(source.split("/")[-1], f"{source}, split {split}", "row", enumerate(_hub_rows(source, split), 1))
        raise PairsError(f"There is no file {shown}; check the path (a data set of the hub is written owner/name).")
    if isinstance(source, Mapping):
        if split not in source:
            raise PairsError(f"The data set has no split {split!r}; choose one of {', '.join(map(str, source)) or 'none'}.")
        return Table(_dataset_name(source[split]), f"data set, split {split}", "row", enumerate(source[split], 1))
    if isinstance(source, Iterable):
        return Table(_dataset_name(source), type(source).__name__, "row", enumerate(source, 1))
    raise PairsError(f"Pairs cannot be read from a {type(source).__name__}; give a path, a hub id, a data set or a list of dicts.")


def _file_table(path: Path) -> Table:
    readers = {".jsonl": json_lines, ".ndjson": json_lines, ".json": json_file, ".csv": csv_rows, ".parquet": parquet_rows}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise PairsError(f"{path} has no known format; give a .jsonl, .json, .csv or .parquet file.")
    if path.stat().st_size == 0:
        raise PairsError(f"{path} is empty; it must contain at least one pair.")
    by_line = suffix in (".jsonl", ".ndjson", ".csv") or (suffix == ".json" and not _is_json_list(path))
    return Table(path.stem, str(path), "line" if by_line else "row", readers[suffix](path))


# Text files are read as bytes and cut at \n only: str.splitlines would also cut at U+2028 and others inside a text.


def json_lines(path: Path) -> Rows:
    """Read one JSON value per line; blank lines and a byte order mark are skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield number, _parse_line(content)


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        return PairsError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        return PairsError(f"this is not valid JSON ({error.msg} at column {error.colno}); write one JSON object a line.")
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits; thousands of nested brackets
        return PairsError(f"this JSON cannot be read ({error}); write one JSON object a line.")


def json_file(path: Path) -> Rows:
    """Read a JSON list of rows; a file that does not start with [ is read as JSON Lines."""
    if not _is_json_list(path):
        yield from json_lines(path)
        return
    text = _decoded(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise PairsError(f"{path}, line {error.lineno}: this is not valid JSON ({error.msg} at column {error.colno}).") from None
    except (ValueError, RecursionError) as error:
        raise PairsError(f"{path}: this JSON cannot be read ({error}); write a list of objects.") from None
    yield from enumerate(values, 1)


def _is_json_list(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(65536).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def csv_rows(path: Path) -> Rows:
    """Read rows by column name, numbered by the line on which a row ends.

    Cells of columns other than prompt, chosen and rejected become numbers where they are JSON numbers; empty ones are left out.
    """
    csv.field_size_limit(LONGEST_CSV_FIELD)
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), strict=True)
    try:
        header = next((cells for cells in reader if cells), None)
        if header is None:
            raise PairsError(f"{path} is empty; it must contain a line of column names and at least one pair.")
        for cells in reader:
            if len(cells) == len(header):
                yield reader.line_num, {k: v if k in FIELDS else _cell(v) for k, v in zip(header, cells)}
            elif cells:
                problem = f"there are {len(cells)} cells but {len(header)} columns; put quotes around cells with commas."
                yield reader.line_num, PairsError(problem)
    except csv.Error as error:
        raise PairsError(f"{path}, line {reader.line_num}: this is not valid CSV ({error}); check the quotes.") from None


def _cell(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text or None
    return value if type(value) in (int, float) and math.isfinite(value) else text


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, byte = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise PairsError(f"{path}, line {line}: byte {byte} is not UTF-8; save the file as UTF-8.") from None


def parquet_rows(path: Path) -> Rows:
    """Read rows of a Parquet file, with one batch in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, ValueError) as error:  # a damaged footer or page; a text that is not UTF-8
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PairsError(f"{path} is not a readable Parquet file ({reason}); write it again.") from None


def _is_hub_id(text: str) -> bool:
    data_file = Path(text).suffix.lower() in (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".sqlite")
    return not data_file and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None


def _hub_rows(name: str, split: str) -> Iterable[Any]:
    import datasets

    try:
        rows: Iterable[Any] = datasets.load_dataset(name, split=split)
        return rows
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise PairsError(
            f"The data set {name} (split {split}) could not be loaded from the hub or its cache ({reason}); "
            "check the name, the split and the network, or give the path of a file."
        ) from error


def _dataset_name(rows: Any) -> str:
    return getattr(getattr(rows, "info", None), "dataset_name", None) or "pairs"
