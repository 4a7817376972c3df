"""Open a source of preference data as numbered rows that can be read more than once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.pairs.addresses import refuse_password
from lab.pairs.pair import PairsError

from .byte_source import base_name, format_suffix, packing
from .columnar import arrow_rows, frame_rows, is_datasets_folder, load_folder, load_from_hub, parquet_rows, unformatted
from .csv_files import DELIMITERS, csv_delimiter, csv_rows
from .json_files import Rows, json_layout, json_rows, key_of_rows
from .json_tables import rows_of, table_of
from .limits import Limits
from .messages import as_python

LONGEST_PATH = 300
"""Characters of a path in a message; a longer one is shortened."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
FORMATS = ".jsonl, .json, .csv, .tsv or .parquet file (also packed as .gz, .bz2, .xz, .zst or .zip)"


@dataclass(frozen=True)
class Table:
    """Numbered rows of a source.

    name:    Short name, also used for files.
    source:  Path, hub id or type that messages name.
    unit:    What the numbers count: "line" or "row".
    read:    Begins reading: an iterator of (number from 1, row or PairsError).
    format:  What was recognised, in words: "CSV, separated by semicolons".
    as_text: Whether every value is text, as in CSV: cells of numbers and of lists are parsed.
    fills_nulls: Whether missing keys of nested objects come as null, as from Parquet.
    """

    name: str
    source: str
    unit: str
    read: Callable[[], Rows]
    format: str = ""
    as_text: bool = False
    fills_nulls: bool = False


def open_table(source: Any, split: str = "train", configuration: str = "", limits: Limits | None = None) -> Table:
    """Open a source of rows.

    Args:
        source: A path (.jsonl, .json, .csv, .tsv, .parquet, packed or not), a folder of `datasets`, a hub id, a datasets.Dataset or
            DatasetDict, a pandas DataFrame, or rows (dicts).
        split: Split of a hub data set or DatasetDict; key of a JSON file with rows under several keys.
        configuration: Configuration (subset) of a hub data set; empty for its default.
        limits: What a file may take.

    Raises:
        PairsError: The source does not exist or cannot be read.
    """
    limits = limits or Limits()
    if isinstance(source, (str, Path)):
        return _named(source, split, configuration, limits)
    if configuration:
        raise PairsError("A configuration belongs to a data set of the hub; leave it out for pairs in memory.")
    if hasattr(source, "iloc") and hasattr(source, "to_dict"):
        return Table("pairs", "data frame", "row", lambda: enumerate(frame_rows(source), 1), "data frame")
    if isinstance(source, Mapping):
        return _mapping(source, split)
    if hasattr(source, "features") and hasattr(source, "with_format"):
        return _only(source, split, type(source).__name__)
    if hasattr(source, "to_batches"):  # an Arrow table
        return Table("pairs", "Arrow table", "row", lambda: enumerate(arrow_rows(source), 1), "Arrow table", fills_nulls=True)
    if isinstance(source, Iterator):
        source = list(source)  # it can be read only once
    if isinstance(source, Iterable):
        return Table("pairs", type(source).__name__, "row", lambda: enumerate(source, 1), "rows")
    raise PairsError(f"Pairs cannot be read from a {type(source).__name__}; give a path, a hub id, a data set or a list of dicts.")


def _named(source: str | Path, split: str, configuration: str, limits: Limits) -> Table:
    if not str(source).strip():
        raise PairsError("The path of the pairs is empty; give a file, or a data set of the hub as owner/name.")
    refuse_password(source)
    shown = " ".join(str(source).split())
    shown = shown if len(shown) <= LONGEST_PATH else f"{shown[: LONGEST_PATH // 2]} ... ({len(shown):,} characters)"
    try:
        path = Path(source).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long for the disk, an unknown user behind ~, a NUL
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise PairsError(f"{shown} cannot be the path of a file ({reason}); check it.") from None
    if (is_file or is_folder) and configuration:
        raise PairsError(f"A configuration belongs to a data set of the hub, but {shown} is on this disk; leave it out.")
    if is_file:
        return _file(path, split, limits)
    if is_folder and is_datasets_folder(path):
        data = load_folder(path)
        open_data = _split_of if isinstance(data, Mapping) else _only
        return open_data(data, split, str(path), path.name)
    if is_folder:
        raise PairsError(f"{shown} is a folder; give a {FORMATS}, or a folder that `datasets` has written with save_to_disk.")
    if isinstance(source, str) and _is_hub_id(source):
        wanted = f"{source}, split {split}" + (f", configuration {configuration}" if configuration else "")
        rows = unformatted(load_from_hub(source, split, configuration))
        return Table(source.split("/")[-1], wanted, "row", lambda: enumerate(rows, 1), "data set of the hub", fills_nulls=True)
    if path.exists():  # a pipe or a device, which can be read only once
        raise PairsError(f"{shown} is neither a file nor a folder; write the pairs to a file first.")
    raise PairsError(f"There is no file {shown}; check the path (a data set of the hub is written owner/name).")


def _file(path: Path, split: str, limits: Limits) -> Table:
    suffix, name, source = format_suffix(path), base_name(path), str(path)
    if suffix not in SUFFIXES:
        raise PairsError(f"{path} has no known format; give a {FORMATS}.")
    if path.stat().st_size == 0:
        raise PairsError(f"{path} is empty; it must contain at least one pair.")
    if ".json" not in suffix and suffix != ".ndjson":
        _only_split(split, source)
    if suffix == ".parquet" and packing(path) == ".zip":
        raise PairsError(f"{path} holds a Parquet file, which cannot be read inside a .zip; unpack it.")
    if suffix == ".parquet":
        return Table(name, source, "row", lambda: parquet_rows(path, limits), "Parquet", fills_nulls=True)
    if suffix in (".csv", ".tsv"):
        delimiter = csv_delimiter(path, limits)
        kind = f"{suffix[1:].upper()}, separated by {DELIMITERS.get(delimiter, repr(delimiter))}s"
        return Table(name, source, "line", lambda: csv_rows(path, delimiter, limits), kind, as_text=True)
    layout = json_layout(path, limits)
    table = table_of(path, limits) if layout in ("lines", "objects") or (layout == "key" and split == "train") else None
    if table is not None:
        _only_split(split, source)
        return Table(name, source, "row", lambda: enumerate(table, 1), "JSON table in one object")
    if layout != "key":
        _only_split(split, source)
    words = {"lines": "JSON Lines", "list": "JSON list", "objects": "JSON objects one after another"}
    key = key_of_rows(path, split, limits) if layout == "key" else ""
    kind = words.get(layout, f"JSON, rows under the key {key!r}")
    unit = "line" if layout in ("lines", "objects") else "row"
    return Table(name, source, unit, lambda: json_rows(path, layout, limits, key), kind)


def _mapping(data: Mapping[str, Any], split: str) -> Table:
    """A DatasetDict or a dict of splits, a dict of columns, or a dict with one list of rows."""
    values = list(data.values())
    if not any(hasattr(value, "features") for value in values):
        if all(isinstance(value, str) for value in values) and values:
            raise PairsError("This is one row; give a list of rows: [row].")
        if split == "train" and (rows := rows_of(as_python(data), "The dict")) is not None:
            return Table("pairs", "dict of columns", "row", lambda: enumerate(rows, 1), "dict of columns")
        if split == "train" and split not in data and len(values) == 1 and isinstance(values[0], list):
            split = next(iter(data))
    return _split_of(data, split, "data set")


def _split_of(data: Mapping[str, Any], split: str, source: str, name: str = "") -> Table:
    if split not in data:
        raise PairsError(f"The data set has no split {split!r}; choose one of {', '.join(map(str, data)) or 'none'}.")
    return _dataset(data[split], f"{source}, split {split}", name)


def _only_split(split: str, source: str) -> None:
    """Raise PairsError where a split is wanted of a source that has none."""
    if split != "train":
        raise PairsError(f"{source} has no splits, so there is no {split!r} in it; leave the split out.")


def _only(data: Any, split: str, source: str, name: str = "") -> Table:
    """A data set that is one split itself."""
    if str(getattr(data, "split", None)) != split:
        _only_split(split, source)
    return _dataset(data, source, name)


def _dataset(data: Any, source: str, name: str = "") -> Table:
    rows = unformatted(data)
    name = name or getattr(getattr(rows, "info", None), "dataset_name", None) or "pairs"
    return Table(name, source, "row", lambda: enumerate(rows, 1), "data set", fills_nulls=True)


def _is_hub_id(text: str) -> bool:
    data_file = format_suffix(Path(text)) in (*SUFFIXES, ".sqlite")
    return not data_file and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None
