"""Open a store of pairs from any source."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .pair import Pair, to_bytes, to_json
from .pair_import import pairs_of
from .rows import open_table
from .store import PairStore, is_url

STORE_SUFFIXES = (".sqlite", ".db")


def open_pairs(source: Any, *, split: str = "train", home: Path, name: str | None = None) -> PairStore:
    """Open the store of a source's pairs; the first time, create it.

    The store's file is named after the set and a hash of the content: opening the same content again gives the store with all
    edits, changed content a new one.

    Args:
        source: A path (.jsonl, .json, .csv, .parquet), a hub id "owner/name", a datasets.Dataset or DatasetDict, rows
        (dicts), pairs,
            or a store, its .sqlite path or its postgresql:// URL (opened in place).
        split: Split of a hub data set or DatasetDict.
        home: Folder of new stores.
        name: Name of the set; by default that of the source.

    Raises:
        PairsError: One sentence with what is wrong, where and what to do.
    """
    if isinstance(source, PairStore):
        return source
    if isinstance(source, (str, Path)) and (is_url(source) or Path(source).suffix.lower() in STORE_SUFFIXES):
        return PairStore(source)
    table = open_table(source, split)
    pairs = pairs_of(table)
    name = name or table.name
    return PairStore.create(Path(home) / f"{_slug(name)}-{content_hash(pairs)}.sqlite", pairs, name=name, source=table.source)


def content_hash(pairs: Iterable[Pair]) -> str:
    """Return 12 hex digits, a hash of contents and meta of pairs in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(to_bytes(to_json([*pair.content, pair.meta])) + b"\n")
    return digest.hexdigest()[:12]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "pairs"
