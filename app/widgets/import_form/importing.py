"""Import as a job of the dashboard, and the tokenizers with which the form shows rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from app.state import pair_sets
from lab import home
from lab.opening import import_pairs
from lab.pairs import (
    ColumnMapping,
    ImportReport,
    Pair,
    PairsError,
    PairStore,
    RefusedRows,
    UpdateReport,
    open_store,
    remember_mapping,
    remembered_mapping,
)
from lab.pairs.importing import OnError, PairReader, open_table
from lab.pairs.importing.reader import SAMPLE
from lab.progress import StageProgress


@dataclass(frozen=True)
class Source:
    """Source of an import: a path or hub id, with split and configuration; `name` is shown in its place."""

    place: str
    split: str = "train"
    configuration: str = ""
    name: str = ""
    uploaded: bool = False


@dataclass(frozen=True)
class Target:
    """Where pairs are imported to: by default a new set in `LAB_HOME`.

    Attributes:
        location: A set that is brought up to date, or the address of a new set in a database.
        new: Whether the set is new.
        own: Whether the set is that of the source: the one made from it before, or the first; False makes a set beside it.
        drop_vanished: Drop the pairs of the set whose rows are no longer in the source.
    """

    location: str = ""
    new: bool = True
    own: bool = False
    drop_vanished: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of an import.

    Attributes:
        report: What was read and refused.
        store: The set; None where rows were refused, and nothing was stored.
        update: What was done to a set that was there before.
    """

    report: ImportReport
    store: PairStore | None = None
    update: UpdateReport | None = None


def reader_of(source: Source, mapping: ColumnMapping | None, on_error: OnError = "refuse") -> PairReader:
    """Return a reader of a source; without a mapping it uses the remembered one, or guesses. Raises PairsError."""
    table = open_table(source.place, source.split, source.configuration)
    return PairReader(table, mapping, on_error, partial(remembered_mapping, home.home()))


def import_source(source: Source, mapping: ColumnMapping, into: Target, on_error: OnError, progress: StageProgress) -> Outcome:
    """Import a source into a new set, or bring a set up to date with it, and remember the mapping. Raises PairsError."""
    progress("reading the pairs", 0.0)
    reader = reader_of(source, mapping, on_error)
    update = None
    try:
        if into.location in ("", str(own_location(source, reader.table.name, mapping))):
            store, report = import_pairs(
                source.place,
                split=source.split,
                configuration=source.configuration,
                mapping=mapping,
                on_error=on_error,
                update=into.own,
                drop_vanished=into.drop_vanished,
            )
            update = report.update
        else:
            if into.new:
                store = _new_set(into.location, reader)
            else:
                store = pair_sets.open_set(into.location)
                # Refused rows undo all of it.
                update = store.update_from(reader, drop_vanished=into.drop_vanished, own_source=into.own)
            report = reader.report
    except RefusedRows as error:
        return Outcome(error.report)
    remember_mapping(home.home(), report.columns, report.mapping)
    return Outcome(report, store, update)


def own_location(source: Source, name: str, mapping: ColumnMapping) -> Path:
    """Return the file of the set that a source has, read with this mapping; it need not exist."""
    part = {"split": source.split, "configuration": source.configuration}
    return open_store.own_location(source.place, name, mapping, **part, home=home.home() / "pairs")


def own_set(source: Source, reader: PairReader, mapping: ColumnMapping, opened: str) -> str:
    """Return the key of the set that a source updates by default, or "".

    That is the set made from this place; for an uploaded file, a set made from a file with the same name and columns that has one
    of its first rows: the open set, else the latest.

    Args:
        source: A path, hub id or uploaded file.
        reader: Its reader.
        mapping: Which columns hold what.
        opened: Key of the open set.
    """
    stored = pair_sets.stored_sets()
    own = own_location(source, reader.table.name, mapping).name
    if own in stored or not source.uploaded:
        return own if own in stored else ""
    columns = set(reader.mapping(reader.sample())[1])
    named = [key for key in stored if key.startswith(f"{open_store.slug(reader.table.name)}-")]
    candidates = sorted(named, key=lambda key: key != opened)
    first = [pair.id for _, pair in reader_of(source, mapping, "skip").first(SAMPLE) if isinstance(pair, Pair)] if named else []
    return next((key for key in candidates if _made_from(stored[key], Path(source.place).name, columns, first)), "")


def _made_from(location: str, file_name: str, columns: set[str], first: list[str]) -> bool:
    """Whether a stored set was made from a file with this name and these columns, and has one of the pairs `first`."""
    try:
        store = pair_sets.open_set(location)
        report = store.about("report")
    except PairsError:  # its database is away, or its file is damaged: no set to propose
        return False
    if not report or open_store.slug(Path(store.source).name) != open_store.slug(file_name):
        return False
    return set(ImportReport.from_json(report).columns) == columns and any(_holds(store, id) for id in first)


def _holds(store: PairStore, id: str) -> bool:
    """Whether a set has a pair, dropped or not."""
    try:
        store.get(id)
    except PairsError:  # no such pair
        return False
    return True


def _new_set(address: str, reader: PairReader) -> PairStore:
    if PairStore.exists(address):
        raise PairsError(f"There is a set at {address} already; open it to update it, or give the new set another name.")
    PairStore.create(address, reader, name=reader.table.name, source=reader.table.source).close()
    pair_sets.list_database(address)
    return pair_sets.open_set(address)


@lru_cache(maxsize=4)
def tokenizer_for(model: str) -> Any:
    """Return the tokenizer of a model, a folder or a hub id. Raises ModelError."""
    from lab.policy.sources.adapter_source import tokenizer_place
    from lab.policy.sources.converted import loadable
    from lab.policy.sources.tokenizer_loading import read_tokenizer

    return read_tokenizer(tokenizer_place(model, loadable(model)))
