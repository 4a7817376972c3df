"""Watching a run: its store (one writer, many readers), its lock, its mailbox, and probes of the gradient."""

from .folder import ENDED, RunError, list_checkpoints, read_about
from .lock import RunLock, is_held
from .mailbox import Request, send, take
from .reader import SCREEN_POINTS, StoreReader, spike_keeping
from .writer import LayerRow, Listener, StoreWriter, TokenRow

__all__ = [
    "ENDED",
    "SCREEN_POINTS",
    "LayerRow",
    "Listener",
    "Request",
    "RunError",
    "RunLock",
    "StoreReader",
    "StoreWriter",
    "TokenRow",
    "is_held",
    "list_checkpoints",
    "read_about",
    "send",
    "spike_keeping",
    "take",
]
