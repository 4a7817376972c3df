"""Open a store of pairs from any source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .importing import ColumnMapping, ImportReport, OnError, PairReader, Remembered, open_table
from .pair import Pair, to_bytes, to_json
from .store import PairStore, is_url

STORE_SUFFIXES = (".sqlite", ".db")


def open_pairs(source: Any, **options: Any) -> PairStore:
    """Open the store of a source's pairs; see `import_pairs`, which also returns the report."""
    return import_pairs(source, **options)[0]


def import_pairs(
    source: Any,
    *,
    split: str = "train",
    configuration: str = "",
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    remembered: Remembered = lambda columns: None,
    on_error: OnError = "refuse",
    home: Path,
    name: str | None = None,
) -> tuple[PairStore, ImportReport]:
    """Open the store of a source's pairs; the first time, create it. The pairs are streamed, never held together.

    The store's file is named after the set and a hash of the content: opening the same content again gives the store with all
    edits, changed content a new one.

    Args:
        source: What `read_pairs` takes, or a store, its .sqlite path or its postgresql:// URL (opened in place).
        split: Split of a hub data set or DatasetDict.
        configuration: Configuration of a hub data set.
        mapping: Which columns hold what; None uses the remembered mapping, or guesses.
        remembered: Gives the mapping that was kept for column names, or None.
        on_error: "refuse" raises RefusedRows with all rows that are no pairs, "skip" leaves them out.
        home: Folder of new stores.
        name: Name of the set; by default that of the source.

    Returns:
        The store, and the report of the import.

    Raises:
        PairsError: One sentence with what is wrong, where and what to do.
    """
    if isinstance(source, (str, Path)) and (is_url(source) or Path(source).suffix.lower() in STORE_SUFFIXES):
        source = PairStore(source)
    if isinstance(source, PairStore):
        return source, ImportReport(source.source, format="stored pairs", read=len(source))
    table = open_table(source, split, configuration)
    reader = PairReader(table, mapping, on_error, remembered)
    digest = content_hash(reader)  # raises for refused rows, before anything is stored
    report, name = reader.report, name or table.name
    store = PairStore.create(Path(home) / f"{_slug(name)}-{digest}.sqlite", reader, name=name, source=table.source)
    return store, report


def content_hash(pairs: Iterable[Pair]) -> str:
    """Return 12 hex digits, a hash of ids, contents and meta of pairs in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        more = [] if pair.tools is None else [pair.tools]
        digest.update(to_bytes(to_json([*pair.content, pair.meta, *more])) + b"\n")
    return digest.hexdigest()[:12]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "pairs"
