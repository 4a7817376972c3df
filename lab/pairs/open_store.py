"""From whatever holds pairs to a store of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .pair import Pair, to_bytes, to_json
from .pair_import import pairs_of
from .rows import open_table
from .store import PairStore

STORE_SUFFIXES = (".sqlite", ".db")


def open_pairs(source: Any, *, split: str = "train", home: Path, name: str | None = None) -> PairStore:
    """The store of a source's pairs, made in the folder `home` when these pairs are opened for the first time.

    source: a path (.jsonl, .json, .csv, .parquet), a hub id "owner/name", a datasets.Dataset or DatasetDict, rows (dicts),
    pairs, or a store or its .sqlite path (opened in place). name: what to call the set; the source's own name if None.
    The store's file is named after that and a hash of the content, so that opening the same content again finds the edits
    made before, and changed content starts afresh.
    Raises PairsError that says what is wrong, where and what to do.
    """
    if isinstance(source, PairStore):
        return source
    if isinstance(source, (str, Path)) and Path(source).suffix.lower() in STORE_SUFFIXES:
        return PairStore(source)
    table = open_table(source, split)
    pairs = pairs_of(table)
    name = name or table.name
    return PairStore.create(Path(home) / f"{_slug(name)}-{content_hash(pairs)}.sqlite", pairs, name=name, source=table.source)


def content_hash(pairs: Iterable[Pair]) -> str:
    """12 hex digits that name the contents and meta of pairs in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(to_bytes(to_json([*pair.content, pair.meta])) + b"\n")
    return digest.hexdigest()[:12]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "pairs"
