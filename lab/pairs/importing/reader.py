"""Read pairs from any source, in one pass and without holding them, with a report of what was read and refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from lab.pairs.pair import Pair, PairsError, with_unique_ids

from .answers.choices import check_choices
from .columns import ColumnMapping, as_mapping, check_mapping, guess_mapping, remembered_mapping
from .limits import LimitError, Limits
from .report import ImportReport, RefusedRows
from .rows import RowReader
from .sources import Table, open_table

OnError = Literal["refuse", "skip"]
SAMPLE = 50
"""Rows from whose columns the mapping is guessed."""
AnyMapping = ColumnMapping | Mapping[str, Any]
Remembered = Callable[[Iterable[str]], ColumnMapping | None]
"""Gives the mapping that was kept for these column names, or None."""


class ImportedPairs(list[Pair]):
    """Pairs in the order of their source, with the `report` of the import."""

    def __init__(self, pairs: Iterable[Pair], report: ImportReport) -> None:
        super().__init__(pairs)
        self.report = report


class PairReader:
    """The pairs of a table; every iteration reads it anew and then has its `report`. `number` is the row of the latest pair.

    `uses_kept` says, once the columns were read, whether a kept mapping is used that differs from what is guessed.

    Args:
        table: Numbered rows.
        mapping: Which columns hold what; a dict changes what is guessed, None guesses.
        on_error: "refuse" raises RefusedRows at the end, with all refused rows; "skip" leaves them out.
        remembered: Gives a mapping for the column names, where `mapping` is None.
    """

    def __init__(
        self,
        table: Table,
        mapping: AnyMapping | None = None,
        on_error: OnError = "refuse",
        remembered: Remembered = lambda columns: None,
    ) -> None:
        if on_error not in ("refuse", "skip"):
            raise PairsError(f'on_error cannot be {on_error!r}; choose "refuse" or "skip".')
        self.table, self._given, self.on_error, self._remembered = table, mapping, on_error, remembered
        self.report = ImportReport(table.source, table.unit, table.format)
        self.number = 0
        self.uses_kept = False

    def __iter__(self) -> Iterator[Pair]:
        return with_unique_ids(self._pairs())

    def sample(self, count: int = SAMPLE) -> list[Any]:
        """Return the first rows as they are in the source, broken ones left out."""
        return [row for _, row in islice(self.table.read(), count) if not isinstance(row, PairsError)]

    def first(self, count: int) -> list[tuple[int, Pair | PairsError]]:
        """Return the first rows as pairs, or as errors where they are no pairs: (number, pair or error)."""
        rows = list(islice(self.table.read(), max(count, SAMPLE)))
        mapping, _ = self._checked_mapping([row for _, row in rows])
        convert = RowReader(mapping, self.table.as_text, self.table.fills_nulls)
        converted: list[tuple[int, Pair | PairsError]] = []
        for number, row in rows[:count]:
            try:
                converted.append((number, row if isinstance(row, PairsError) else convert(row)))
            except PairsError as error:
                converted.append((number, error))
        return converted

    def mapping(self, sample: Iterable[Any]) -> tuple[ColumnMapping, tuple[str, ...]]:
        """Return (mapping, names of the columns) for rows like these. Raises PairsError for a mapping with unknown columns."""
        rows = [row for row in sample if isinstance(row, Mapping)]
        columns = tuple(dict.fromkeys(str(key) for row in rows for key in row))
        guessed = guess_mapping(columns, rows)
        if self._given is None:
            kept = self._remembered(columns) if columns else None
            self.uses_kept = kept is not None and kept != guessed
            return kept or guessed, columns
        mapping = as_mapping(self._given, guessed)
        if rows:
            check_mapping(mapping, columns, guessed if isinstance(self._given, Mapping) else None)
        return mapping, columns

    def _checked_mapping(self, sample: list[Any]) -> tuple[ColumnMapping, tuple[str, ...]]:
        """Return the mapping and the columns. Raises PairsError where a person has to choose between several readings."""
        mapping, columns = self.mapping(sample)
        given: Collection[str] = [field.name for field in fields(ColumnMapping)]
        if isinstance(self._given, Mapping) or (self._given is None and self._remembered(columns) is None):
            given = list(self._given or ())
        check_choices(mapping, sample, given)
        return mapping, columns

    def _pairs(self) -> Iterator[Pair]:
        report = self.report = ImportReport(self.table.source, self.table.unit, self.table.format)
        rows = self._rows(report)
        first = list(islice(rows, SAMPLE))
        mapping, report.columns = self._checked_mapping([row for _, row in first])
        report.mapping, report.kept_mapping = mapping, self.uses_kept
        convert = RowReader(mapping, self.table.as_text, self.table.fills_nulls, report.counts, report.kept, report.left_out)
        for number, row in chain(first, rows):
            try:
                if isinstance(row, PairsError):
                    raise row
                pairs = convert.pairs(row)
            except PairsError as error:
                report.refuse(number, str(error))
                continue
            report.read += len(pairs)
            self.number = number
            yield from pairs
        if report.refused_count and (self.on_error == "refuse" or not report.read):
            raise RefusedRows(report)
        if not report.read:
            raise PairsError(f"{report.source} contains no pairs; it must contain at least one.")

    def _rows(self, report: ImportReport) -> Iterator[tuple[int, Any]]:
        """Yield the rows up to where the source breaks off, which is an error of its own unless other rows are listed too."""
        last = 0
        try:
            for last, row in self.table.read():
                yield last, row
        except LimitError:
            raise
        except PairsError as error:
            if not report.refused_count and self.on_error == "refuse":
                raise
            report.refuse(last + 1, str(error))


def read_pairs(
    source: Any,
    *,
    split: str = "train",
    configuration: str = "",
    mapping: AnyMapping | None = None,
    on_error: OnError = "refuse",
    limits: Limits | None = None,
) -> ImportedPairs:
    """Read all pairs of a source, with ids that depend on the content only; the result is a list with a `report`.

    Args:
        source: A path, hub id, data set, data frame, rows (dicts) or pairs; see `open_table`.
        split: Split of a data set.
        configuration: Configuration of a hub data set.
        mapping: Which columns hold what; a dict such as {"prompt": "question"} changes what is guessed.
        on_error: "refuse" raises RefusedRows with all rows that are no pairs; "skip" leaves them out and lists them in the report.
        limits: What a file may take.

    Raises:
        PairsError: One sentence with what is wrong, where and what to do.
    """
    reader = PairReader(open_table(source, split, configuration, limits), mapping, on_error)
    pairs = list(reader)
    return ImportedPairs(pairs, reader.report)


def pairs_from_rows(rows: Iterable[Any]) -> ImportedPairs:
    """Read pairs from rows in memory (dicts, or pairs, which start again as version 1); see `read_pairs`."""
    rows = list(rows)
    reader = PairReader(Table("pairs", "these pairs", "row", lambda: enumerate(rows, 1)))
    pairs = list(reader)
    return ImportedPairs(pairs, reader.report)


def pair_of(row: Any) -> Pair:
    """Convert one row (or pair) to a pair of version 1; columns that are not read go to `meta`.

    Raises PairsError, in a sentence that does not name the row's place.
    """
    return RowReader()(row)


def places_in_source(source: str, ids: Collection[str], *, split: str, configuration: str, home: Path) -> dict[str, str]:
    """Return where pairs stand in the file that they were read from: id -> "line 5". Pairs that are not found there are left out.

    Args:
        source: Path of the file or folder; nothing is found in anything else.
        ids: Ids of the pairs.
        split: Split that was read.
        configuration: Configuration that was read.
        home: Folder of remembered mappings.

    Raises:
        PairsError: The source cannot be read any more.
    """
    if not source or not Path(source).exists():
        return {}
    table = open_table(source, split, configuration)
    reader = PairReader(table, None, "skip", partial(remembered_mapping, home))
    return {pair.id: f"{table.unit} {reader.number}" for pair in reader if pair.id in ids}
