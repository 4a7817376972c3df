"""Watching a run: its store (one writer, many readers), its lock, its mailbox, and probes of the gradient."""

from .changes import Change, read_changes, write_changes
from .folder import ENDED, RunError, best_checkpoint, list_checkpoints, read_about
from .lock import RunLock, is_held
from .mailbox import Request, send, take
from .reader import SCREEN_POINTS, StoreReader, spike_keeping
from .writer import LayerRow, StoreWriter, TokenRow

__all__ = [
    "ENDED",
    "SCREEN_POINTS",
    "Change",
    "LayerRow",
    "Request",
    "RunError",
    "RunLock",
    "StoreReader",
    "StoreWriter",
    "TokenRow",
    "best_checkpoint",
    "is_held",
    "list_checkpoints",
    "read_about",
    "read_changes",
    "send",
    "spike_keeping",
    "take",
    "write_changes",
]
