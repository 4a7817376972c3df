"""Watching a run: its store (one writer, many readers), its lock, its mailbox, its place in a queue, and probes of the gradient."""

from .changes import Change, checkpoint_before, read_changes, write_changes
from .folder import ENDED, RunError, best_checkpoint, last_words, list_checkpoints, read_about
from .lock import RunLock, is_held
from .mailbox import Request, pending, send, take
from .queue import DeviceQueue, Line, queues
from .reader import SCREEN_POINTS, StoreReader
from .summaries import spike_keeping
from .tables import TABLES, DataExportError, export, write_page, write_table
from .twins import read_twins, write_twins
from .writer import KEEP_PAIR_ROWS, LayerRow, Listener, PanelRow, SilentWriter, StoreWriter, TokenRow

__all__ = [
    "ENDED",
    "KEEP_PAIR_ROWS",
    "SCREEN_POINTS",
    "TABLES",
    "Change",
    "DataExportError",
    "DeviceQueue",
    "LayerRow",
    "Line",
    "Listener",
    "PanelRow",
    "Request",
    "RunError",
    "RunLock",
    "SilentWriter",
    "StoreReader",
    "StoreWriter",
    "TokenRow",
    "best_checkpoint",
    "checkpoint_before",
    "export",
    "is_held",
    "last_words",
    "list_checkpoints",
    "pending",
    "queues",
    "read_about",
    "read_changes",
    "read_twins",
    "send",
    "spike_keeping",
    "take",
    "write_changes",
    "write_page",
    "write_table",
    "write_twins",
]
