"""Files of a run: its folder, its database (one writer, many readers), and the changes made while it ran."""

from .changes import Change, checkpoint_before, read_changes, write_changes
from .data_export import TABLES, DataExportError, export, write_page, write_table
from .folder import ENDED, NoStoreError, RunError, as_step, best_checkpoint, last_log_line, list_checkpoints, read_manifest
from .reader import StoreReader
from .readers.scalars import SCREEN_POINTS
from .schema import EVENT_KINDS, EventKind
from .summaries import spike_keeping
from .twin_links import read_twins, write_twins
from .writer import KEEP_PAIR_ROWS, LayerRow, Listener, PanelRow, SilentWriter, StoreWriter, TokenRow

__all__ = [
    "ENDED",
    "EVENT_KINDS",
    "KEEP_PAIR_ROWS",
    "SCREEN_POINTS",
    "TABLES",
    "Change",
    "DataExportError",
    "EventKind",
    "LayerRow",
    "Listener",
    "NoStoreError",
    "PanelRow",
    "RunError",
    "SilentWriter",
    "StoreReader",
    "StoreWriter",
    "TokenRow",
    "as_step",
    "best_checkpoint",
    "checkpoint_before",
    "export",
    "last_log_line",
    "list_checkpoints",
    "read_changes",
    "read_manifest",
    "read_twins",
    "spike_keeping",
    "write_changes",
    "write_page",
    "write_table",
    "write_twins",
]
