"""Read token values: log-probs and credit of every token of the pairs of the latest steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .connection import StoreConnection

if TYPE_CHECKING:
    import pandas as pd


class TokenReader:
    """Token values of the latest steps."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def steps(self) -> list[int]:
        """Return the steps whose token values are still stored, ascending."""
        return [step for (step,) in self._store.query("SELECT DISTINCT step FROM tokens ORDER BY step")]

    def read(self, step: int, pair: str | None = None) -> pd.DataFrame:
        """Return the token values of a step, of one pair or of all.

        Returns:
            One row per pair and side: pair, side, then ids, logps, ref_logps (nats), credit and pilot, each cell an array [T] or
            None.
        """
        import pandas as pd

        rows = self._store.query(
            "SELECT p.pair, t.side, t.ids, t.logps, t.ref_logps, t.credit, t.pilot FROM tokens t JOIN pairs p ON p.id = t.pair "
            "WHERE t.step = ? AND (? IS NULL OR p.pair = ?) ORDER BY t.pair, t.side",
            (step, pair, pair),
        )
        kinds = (np.int32, np.float32, np.float32, np.float32, np.bool_)
        cells = [
            (pair_, side, *(None if blob is None else np.frombuffer(blob, kind) for blob, kind in zip(blobs, kinds)))
            for pair_, side, *blobs in rows
        ]
        return pd.DataFrame(cells, columns=["pair", "side", "ids", "logps", "ref_logps", "credit", "pilot"])
