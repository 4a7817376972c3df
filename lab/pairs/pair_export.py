"""Write pairs to files in TRL's explicit preference format, which `read_pairs` and TRL's trainers read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .pair import Pair, PairsError, to_bytes, to_json


def row_of(pair: Pair) -> dict[str, Any]:
    """Return a pair as a row: prompt, chosen, rejected and the columns of `meta`.

    Answers to a conversation are written as conversations of one assistant message.
    """
    chosen: Any = pair.chosen
    rejected: Any = pair.rejected
    if isinstance(pair.prompt, list):
        chosen, rejected = ([{"role": "assistant", "content": answer}] for answer in (chosen, rejected))
    return {**pair.meta, "prompt": pair.prompt, "chosen": chosen, "rejected": rejected}


def write_pairs(pairs: Iterable[Pair], path: Path) -> None:
    """Write pairs to a .jsonl or .parquet file; the file appears complete or not at all.

    Raises:
        PairsError: The file cannot be written, or Parquet, which has one type per column, gets plain and conversational prompts.
    """
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if path.suffix.lower() not in writers:
        raise PairsError(f"Pairs cannot be written as {path.name}; give a name that ends in .jsonl or .parquet.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        writers[path.suffix.lower()]([row_of(pair) for pair in pairs], part)
        part.replace(path)
    except OSError as error:
        raise PairsError(f"{path} could not be written ({error}); check the folder and the disk.") from error
    finally:
        if part.exists():
            part.unlink()


def _write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("wb") as file:
        for row in rows:
            # A lone surrogate has no UTF-8 form, so it is written as a JSON escape.
            file.write(_escaped(to_json(row)) + b"\n")


def _escaped(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return b"".join(to_bytes(c) if not 0xD800 <= ord(c) <= 0xDFFF else b"\\u%04x" % ord(c) for c in text)


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(key for row in rows for key in row))
    try:
        columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
        pq.write_table(pa.table(columns), path)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise PairsError(f"These pairs do not fit into Parquet columns ({error}); write .jsonl instead.") from None
