"""Read the panel: log-probs of chosen, rejected and greedy answer of a few held-out pairs at every evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .connection import StoreConnection
from .series import end_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("chosen", "rejected", "greedy", "chosen_tokens", "rejected_tokens", "greedy_tokens", "answer", "ended")


class PanelReader:
    """The panel of held-out pairs at every evaluation."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def read(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Return the panel at every evaluation from step `first` to `last` (None: to the end), oldest first.

        Returns:
            One row per pair and evaluation: step, pair, chosen, rejected, greedy (log-prob of each answer, summed over its tokens,
            in nats), chosen_tokens, rejected_tokens, greedy_tokens, answer (text of the greedy answer), ended (False if it was cut
            at the length limit).
        """
        import pandas as pd

        rows = self._store.query(
            f"SELECT t.step, p.pair, {', '.join(COLUMNS)} FROM panel t JOIN pairs p ON p.id = t.pair WHERE t.step BETWEEN ? AND ? "
            "ORDER BY t.step, t.pair",
            (first, end_of(last)),
        )
        frame = pd.DataFrame(rows, columns=["step", "pair", *COLUMNS])
        return frame.astype({"chosen": np.float64, "rejected": np.float64, "greedy": np.float64, "ended": bool})

    def span(self) -> tuple[int, int] | None:
        """Return the steps of the first and the last evaluation of the panel, or None if there is none."""
        return self._store.span(("step", "step", "panel"))
