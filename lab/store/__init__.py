"""What a run keeps on disk: its folder, the database that one writer fills and many readers read, and the changes in mid-run."""

from .changes import Change, checkpoint_before, read_changes, write_changes
from .data_export import TABLES, DataExportError, export, write_page, write_table
from .folder import ENDED, RunError, best_checkpoint, last_words, list_checkpoints, read_manifest
from .reader import StoreReader
from .readers.scalars import SCREEN_POINTS
from .summaries import spike_keeping
from .twin_links import read_twins, write_twins
from .writer import KEEP_PAIR_ROWS, LayerRow, Listener, PanelRow, SilentWriter, StoreWriter, TokenRow

__all__ = [
    "ENDED",
    "KEEP_PAIR_ROWS",
    "SCREEN_POINTS",
    "TABLES",
    "Change",
    "DataExportError",
    "LayerRow",
    "Listener",
    "PanelRow",
    "RunError",
    "SilentWriter",
    "StoreReader",
    "StoreWriter",
    "TokenRow",
    "best_checkpoint",
    "checkpoint_before",
    "export",
    "last_words",
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
