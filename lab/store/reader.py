"""Read a run store from any thread or process, while the run trains or afterwards.

Every read sees one consistent state of the store. Readers never wait for the writer and never delay it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .readers.connection import StoreConnection
from .readers.events import EventReader
from .readers.layers import LayerReader
from .readers.pairs import HeldOutReader, PairReader
from .readers.panel import PanelReader
from .readers.scalars import ScalarReader
from .readers.tokens import TokenReader


class StoreReader:
    """Read-only view of the run store in a folder, with one reader per family of data. May be shared between threads.

    Data comes back as pandas frames; an empty store gives empty frames with their columns.

    Args:
        folder: Folder of the run.

    Raises:
        NoStoreError: The folder holds no run store.
        sqlite3.Error: The file is no run store, or has another format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = connection = StoreConnection(folder)
        self.scalars = ScalarReader(connection)
        self.pairs = PairReader(connection)
        self.held_out = HeldOutReader(connection)
        self.tokens = TokenReader(connection)
        self.layers = LayerReader(connection)
        self.panel = PanelReader(connection)
        self.events = EventReader(connection)
        self.status()  # fails here, not later, if the file is no run store

    def close(self) -> None:
        """Close this thread's connection to the file; it is opened again by the next read."""
        self._store.close()

    def status(self) -> dict[str, Any]:
        """Return the latest status values by name: state, step, stage, error, ..."""
        return {key: json.loads(value) for key, value in self._store.query("SELECT key, value FROM status")}

    @property
    def step(self) -> int:
        """Number of optimizer steps done."""
        rows = self._store.query("SELECT value FROM status WHERE key = 'step'")
        return int(json.loads(rows[0][0])) if rows else 0
