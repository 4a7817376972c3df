"""Read rows of Parquet files, data frames, Arrow tables, `datasets` folders and the hub, a piece at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab.pairs.pair import PairsError

from .json_files import Rows
from .limits import Limits, Unpacked

PIECE_BYTES = 1 << 24
FIRST_ROWS, MOST_ROWS = 64, 2048
FRAME_ROWS = 4096
ROW_BYTES = 12
"""Least bytes of a row of three texts in memory: their places alone."""
JSON_COLUMNS = b"preference_lab_json_columns"
"""Entry of a Parquet file's metadata: columns, separated by line breaks, whose texts are JSON values."""


def parquet_rows(path: Path, limits: Limits) -> Rows:
    """Read rows of a Parquet file in pieces of about 16 MB.

    Raises PairsError for a damaged file, and for one that announces or gives more than a file of its size can hold.
    """
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    unpacked = Unpacked(path, path.stat().st_size, limits)
    try:
        with pq.ParquetFile(path) as file:
            announced = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            Unpacked(path, unpacked.packed_bytes, limits).add(max(announced, ROW_BYTES * file.metadata.num_rows))
            check_names(file.schema_arrow.names, str(path))
            columns = (file.schema_arrow.metadata or {}).get(JSON_COLUMNS, b"").decode().split("\n")
            number = 0
            for group in range(file.metadata.num_row_groups):
                for batch in _batches(file, group):
                    unpacked.add(batch.nbytes)
                    for row in _python_rows(batch, path):
                        number += 1
                        for name in columns:
                            if isinstance(row.get(name), str):
                                row[name] = json.loads(row[name])
                        yield number, row
    except RecursionError:
        raise PairsError(f"{path} holds JSON of too many lists or objects inside one another; leave such values out.") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, PairsError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(
            "."
        )  # a damaged footer or page; text that is not UTF-8
        raise PairsError(f"{path} is not a readable Parquet file ({reason}); write it again.") from None


def _python_rows(batch: Any, path: Path) -> list[dict[str, Any]]:
    """Return a batch as dicts. Raises PairsError with the column where Python has no value like one of Arrow's."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    except (ValueError, OverflowError, KeyError) as error:
        for name, column in zip(batch.schema.names, batch.columns):
            try:
                column.to_pylist()
            except (ValueError, OverflowError, KeyError):
                raise PairsError(
                    f"{path}: the column {name!r} holds values of type {column.type} that cannot be read ({error}); leave this "
                    "column out, or write it as text."
                ) from None
        raise


def _batches(file: Any, group: int) -> Iterator[Any]:
    """Yield a row group in batches: a small one, and then as many rows as make about 16 MB by its measure."""
    first = next(iter(file.iter_batches(batch_size=FIRST_ROWS, row_groups=[group])), None)
    if first is None:
        return
    yield first
    rows = max(1, min(MOST_ROWS, PIECE_BYTES * first.num_rows // max(first.nbytes, 1)))
    skipped = first.num_rows
    for batch in file.iter_batches(batch_size=rows, row_groups=[group]) if skipped == FIRST_ROWS else ():
        rest = batch.slice(min(skipped, batch.num_rows))
        skipped -= batch.num_rows - rest.num_rows
        if rest.num_rows:
            yield rest


def frame_rows(frame: Any) -> Iterator[Any]:
    """Yield the rows of a pandas DataFrame as dicts; missing values are None."""
    import pandas as pd

    if not hasattr(frame, "columns"):
        raise PairsError("This is a single column (Series); give the data frame, or a list of dicts.")
    check_names(map(str, frame.columns), "The data frame")
    for start in range(0, len(frame), FRAME_ROWS):
        for row in frame.iloc[start : start + FRAME_ROWS].to_dict("records"):
            yield {str(key): None if pd.api.types.is_scalar(value) and pd.isna(value) else value for key, value in row.items()}


def arrow_rows(table: Any) -> Iterator[Any]:
    """Yield the rows of an Arrow table as dicts."""
    check_names(table.schema.names, "The Arrow table")
    for batch in table.to_batches(FRAME_ROWS):
        yield from batch.to_pylist()


def check_names(names: Iterable[str], source: str) -> None:
    """Raise PairsError where two columns have one name, of which only one would be read."""
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        listed = ", ".join(map(repr, repeated[:9]))
        raise PairsError(f"{source} has several columns called {listed}; give each its own name.")


def unformatted(data: Any) -> Any:
    """Return a `datasets` object without its format (torch, numpy, pandas), so that its rows are Python values."""
    return data.with_format(None) if hasattr(data, "with_format") and hasattr(data, "features") else data


def is_datasets_folder(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file())


def load_folder(path: Path) -> Any:
    """Return the Dataset or DatasetDict of a folder; its rows stay on disk."""
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises errors of many kinds for a damaged folder
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise PairsError(f"{path} is not a readable folder of `datasets` ({reason}); write it again with save_to_disk.") from None


def load_from_hub(name: str, split: str, configuration: str) -> Iterable[Any]:
    """Return the rows of a data set of the hub. Raises PairsError with what the hub says."""
    import datasets

    wanted = f"split {split}, configuration {configuration}" if configuration else f"split {split}"
    try:
        rows: Iterable[Any] = datasets.load_dataset(name, configuration or None, split=split)
        return rows
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise PairsError(
            f"The data set {name} ({wanted}) could not be loaded from the hub or its cache ({reason}); check the name, the split, "
            "the configuration and the network, or give the path of a file."
        ) from error
