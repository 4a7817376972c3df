"""Open a store of pairs from any source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .addresses import is_url, remember_address
from .fingerprint import content_hash, file_fingerprint, source_key
from .importing import ColumnMapping, ImportReport, OnError, PairReader, RefusedRows, Remembered, open_table
from .store import PairStore
from .update_report import UpdateReport

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
    update: bool = True,
    drop_vanished: bool = True,
    home: Path,
    name: str | None = None,
) -> tuple[PairStore, ImportReport]:
    """Open the store of a source's pairs; the first time, create it. The pairs are streamed, never held together, and parsed once.

    A file, a folder or a data set of the hub has one store, named after its place, its part and the columns of its texts. Where
    its content is that of the last import, the store is opened at once; otherwise it is updated: new rows are added at the end,
    rows that are no longer there are dropped, and edits, tags, notes and versions stay (`PairStore.update_from`). All of that is
    one entry of the log that can be undone, and the report says it. Earlier versions stay, so a run of a fixed version never
    changes. The pairs of an updated set are those of the file, with the edits made here, but they may stand in another order than
    in a new set of the same file, and with it the batches of a run: a run records its store and its version.

    Data in memory has no name that could be found again: its store is named after a hash of the content, so that the same content
    gives the store with all edits, and changed content a new one. `update=False` does the same with a file.

    Args:
        source: What `read_pairs` takes, or a store, its .sqlite path or its postgresql:// URL; these are opened in place, and the
            URL is listed in `home`.
        split: Split of a hub data set or DatasetDict.
        configuration: Configuration of a hub data set.
        mapping: Which columns hold what; None uses the remembered mapping, or guesses.
        remembered: Gives the mapping that was kept for column names, or None.
        on_error: "refuse" raises RefusedRows with all rows that are no pairs, "skip" leaves them out.
        update: False opens this content as a set of its own, whatever was imported from this place before.
        drop_vanished: Where a file has changed, drop the pairs of its rows that are no longer there; False keeps them.
        home: Folder of new stores.
        name: Name of the set; by default that of the source.

    Returns:
        The store, and the report of the import.

    Raises:
        PairsError: One sentence with what is wrong, where and what to do. Nothing is stored or changed then.
    """
    if isinstance(source, str) and is_url(source):
        store = PairStore(source)
        remember_address(Path(home), store.location)
        source = store
    elif isinstance(source, (str, Path)) and is_store(source):
        source = PairStore(source)
    if isinstance(source, PairStore):
        return source, ImportReport(source.source, format="stored pairs", read=len(source))
    table = open_table(source, split, configuration)
    reader = PairReader(table, mapping, on_error, remembered)
    name = name or table.name
    if update and isinstance(source, (str, Path)):
        columns, _ = reader.mapping(reader.sample())
        location = own_location(source, name, columns, split=split, configuration=configuration, home=Path(home))
        path = Path(source).expanduser()
        fingerprint = file_fingerprint(path, columns) if path.exists() else ""
        return _up_to_date(location, reader, name, fingerprint, drop_vanished)
    digest = content_hash(reader)  # raises for refused rows, before anything is stored
    report = reader.report
    store = PairStore.create(Path(home) / f"{slug(name)}-{digest}.sqlite", reader, name=name, source=table.source)
    return store, report


def own_location(source: str | Path, name: str, mapping: ColumnMapping, *, split: str, configuration: str, home: Path) -> Path:
    """Return the file of the set that a file, folder or hub data set has; it need not exist."""
    return home / f"{slug(name)}-{source_key(source, split, configuration, mapping)}.sqlite"


def is_store(source: str | Path) -> bool:
    """Return whether a source names a store, by its ending or as the URL of a database, and not pairs to import."""
    return is_url(source) or Path(source).suffix.lower() in STORE_SUFFIXES


def _up_to_date(
    location: Path, reader: PairReader, name: str, fingerprint: str, drop_vanished: bool
) -> tuple[PairStore, ImportReport]:
    """Open the store of a source by its fingerprint, made or updated where it has another one; of the hub, that of its content."""
    fingerprint = fingerprint or content_hash(reader)

    def about() -> dict[str, str]:
        return {"fingerprint": fingerprint, "report": reader.report.to_json()}

    is_new = not location.exists()
    store = PairStore.create(location, reader, name=name, source=reader.table.source, about=about)
    if store.about("fingerprint") != fingerprint:  # imported before, or meanwhile by another process
        update = store.update_from(reader, drop_vanished=drop_vanished, about=about)
        reader.report.update = update
        return store, reader.report
    report = replace(ImportReport.from_json(store.about("report")), source=reader.table.source, kept_mapping=reader.uses_kept)
    if report.refused_count and reader.on_error == "refuse":
        raise RefusedRows(report)
    report.update = None if is_new else UpdateReport(unchanged=report.read)
    return store, report


def slug(name: str) -> str:
    """Return a name as the name of a file, without its ending: at most 60 letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "pairs"
