"""Import as a job of the dashboard, and the tokenizers with which the form shows rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from app.state import pair_sets
from lab import home
from lab.opening import import_pairs
from lab.pairs import (
    ColumnMapping,
    ImportReport,
    PairsError,
    PairStore,
    RefusedRows,
    UpdateReport,
    remember_mapping,
    remembered_mapping,
)
from lab.pairs.importing import OnError, PairReader, open_table
from lab.progress import StageProgress


@dataclass(frozen=True)
class Source:
    """Source of an import: a path or hub id, with split and configuration; `name` is shown in its place."""

    place: str
    split: str = "train"
    configuration: str = ""
    name: str = ""


@dataclass(frozen=True)
class Target:
    """Where pairs are imported to: by default a new set in `LAB_HOME`.

    Attributes:
        location: A set that is brought up to date, or the address of a new set in a database.
        new: Whether the set is new.
    """

    location: str = ""
    new: bool = True


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
        if not into.location:
            options: dict[str, Any] = {"split": source.split, "configuration": source.configuration, "on_error": on_error}
            store, report = import_pairs(source.place, mapping=mapping, **options)
            update = report.update
        else:
            if into.new:
                store = _new_set(into.location, reader)
            else:
                store = pair_sets.open_set(into.location)
                update = store.update_from(reader)  # refused rows undo all of it
            report = reader.report
    except RefusedRows as error:
        return Outcome(error.report)
    remember_mapping(home.home(), report.columns, report.mapping)
    return Outcome(report, store, update)


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
