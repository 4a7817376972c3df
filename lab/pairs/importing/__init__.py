"""Import of preference data: sources and formats, columns, layouts of a row, and the report."""

from .columns import LAYOUTS, ColumnMapping, forget_mapping, guess_mapping, remember_mapping, remembered_mapping
from .limits import Limits
from .reader import ImportedPairs, OnError, PairReader, Remembered, pair_of, pairs_from_rows, places_in_source, read_pairs
from .report import ImportReport, Refusal, RefusedRows
from .sources import Table, open_table
from .values import degree_of

__all__ = [
    "LAYOUTS",
    "ColumnMapping",
    "ImportReport",
    "ImportedPairs",
    "Limits",
    "OnError",
    "PairReader",
    "Refusal",
    "RefusedRows",
    "Remembered",
    "Table",
    "degree_of",
    "forget_mapping",
    "guess_mapping",
    "open_table",
    "pair_of",
    "pairs_from_rows",
    "places_in_source",
    "read_pairs",
    "remember_mapping",
    "remembered_mapping",
]
