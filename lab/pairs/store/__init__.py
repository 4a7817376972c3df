"""The store of preference pairs: versions, search, log, undo, numbers and findings, on SQLite or PostgreSQL."""

from .database import is_url
from .editing import KEEP, BulkChange, PairConflict, Preview
from .log import Edit
from .pair_store import PairStore

__all__ = ["KEEP", "BulkChange", "Edit", "PairConflict", "PairStore", "Preview", "is_url"]
