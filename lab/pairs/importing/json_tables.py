"""Tables that are one object: columns of values (pandas, `datasets`), rows by their index, pandas' "split" form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.pairs.pair import PairsError

from .byte_source import BYTE_ORDER_MARK, open_bytes
from .json_files import ROW_COLUMN
from .limits import Limits

MESSAGE_KEYS = {"role", "content", "from", "value", "messages"}
"""Keys of a message, or of a conversation, which is a cell and no column."""


def table_of(path: Path, limits: Limits) -> list[Any] | None:
    """Return the rows of a JSON file that is one object and holds a table; None for other files. The file is held in memory.

    Raises PairsError for columns of different lengths.
    """
    data = bytearray()
    with open_bytes(path, limits) as source:
        for _, line in source.lines():
            if isinstance(line, PairsError) or len(data) + len(line) > limits.row_bytes:
                return None
            if data and _is_object(bytes(data)):  # the first line alone, of several
                return None if line.strip() else rows_of(_loaded(bytes(data)), str(path))
            data += line if data or line.strip() else b""
    return rows_of(_loaded(bytes(data)), str(path))


def _is_object(data: bytes) -> bool:
    return data.count(b"\n") <= 1 and isinstance(_loaded(data), dict)


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        return None


def rows_of(value: Any, source: str) -> list[Any] | None:
    """Return the rows of an object that is a table; None where it is a row itself, or something else.

    Raises PairsError for columns of different lengths.
    """
    if not isinstance(value, Mapping) or not value:
        return None
    columns = [_listed(column) for column in value.values()]
    if {"columns", "data"} <= value.keys() <= {"columns", "data", "index"} and all(
        isinstance(name, str) for name in value["columns"]
    ):
        if all(isinstance(row, list) and len(row) == len(value["columns"]) for row in value["data"]):
            return [dict(zip(value["columns"], row)) for row in value["data"]]
        raise PairsError(f"{source} has rows with more or fewer cells than columns; write one object a line.")
    if sum(bool(ROW_COLUMN.search(str(key))) for key in value) > 1:
        if any(column is None for column in columns):
            return None
        lengths = {str(key): len(column) for key, column in zip(value, columns) if column is not None}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key}: {length}" for key, length in lengths.items())
            raise PairsError(f"{source} holds columns of different lengths ({shown}); give each row a value in every column.")
        return [dict(zip(map(str, value), cells)) for cells in zip(*(column for column in columns if column is not None))]
    rows = list(value.values())
    return rows if all(isinstance(row, dict) and sum(bool(ROW_COLUMN.search(key)) for key in row) > 1 for row in rows) else None


def _listed(column: Any) -> list[Any] | None:
    """The cells of a column, as a list or by their index; None for what is a cell itself."""
    if isinstance(column, (list, tuple)) or (hasattr(column, "tolist") and getattr(column, "ndim", 0) == 1):
        cells = list(column)
        return None if any(isinstance(cell, Mapping) and MESSAGE_KEYS & cell.keys() for cell in cells) else cells
    if isinstance(column, Mapping) and column and not MESSAGE_KEYS & column.keys():
        return list(column.values()) if all(str(key).isdecimal() for key in column) else None
    return None
