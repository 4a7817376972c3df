"""The store of preference pairs: versions, search, log, undo, numbers and findings, on SQLite or PostgreSQL."""

from lab.pairs.update_report import Difference

from .editing import KEEP, BulkChange, PairConflict, Preview
from .log import Edit
from .pair_store import PairStore
from .sets import Snapshot

__all__ = [
    "KEEP",
    "BulkChange",
    "Difference",
    "Edit",
    "PairConflict",
    "PairStore",
    "Preview",
    "Snapshot",
]
