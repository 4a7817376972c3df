"""What the figures of one run are drawn from; a page that redraws every second keeps it and reads only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from lab.training import Run

HEAT_COLUMNS = 240
"""Steps whose pairs are read for the distributions."""

NOT_TERMS = ("step", "pair", "version")


class Record:
    """The numbers of a run as far as they have been read. `refresh()` reads on; between refreshes nothing changes.

    Use one per session: it is not shared between threads.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._scalars: dict[str, pd.Series] = {}
        self._layers: pd.DataFrame | None = None
        self._events: pd.DataFrame | None = None
        self._resumed: tuple[object, ...] = ()
        self._fresh: set[str] = set()
        self._terms: pd.DataFrame | None = None

    def refresh(self) -> None:
        """Look again; what was drawn so far is read no second time, unless the run went back to a checkpoint."""
        self._fresh.clear()
        self._events = self._terms = None
        resumed = self._mark(self.events())
        if resumed != self._resumed:  # the steps after the checkpoint are written afresh
            self._scalars.clear()
            self._layers, self._resumed = None, resumed

    @staticmethod
    def _mark(events: pd.DataFrame) -> tuple[object, ...]:
        last = events[events["kind"] == "resumed"].tail(1)
        return tuple(last[["number", "time"]].itertuples(index=False, name=None))

    def scalars(self, names: Sequence[str]) -> pd.DataFrame:
        """Every value of some scalars: index `step`, one column a name."""
        for name in names:
            if name not in self._fresh:
                self._scalars[name] = self._read_on(name)
                self._fresh.add(name)
        return pd.DataFrame({name: self._scalars[name] for name in names})

    def _read_on(self, name: str) -> pd.Series:
        known = self._scalars.get(name)
        if known is None or known.empty:
            return self.run.reader.scalars([name])[name]
        last = int(known.index[-1])
        # The last step is read again: it may have been half written.
        return pd.concat([known.iloc[:-1], self.run.reader.scalars([name], first=last)[name]])

    def events(self) -> pd.DataFrame:
        """Everything that happened, oldest first."""
        if self._events is None:
            self._events = self.run.events()
        return self._events

    def layers(self) -> pd.DataFrame:
        """Gradient flow by layer of every probed step."""
        if "layers" not in self._fresh:
            self._fresh.add("layers")
            if self._layers is None or self._layers.empty:
                self._layers = self.run.layers()
            else:
                last = int(self._layers["step"].iloc[-1])
                earlier = self._layers[self._layers["step"] < last]
                self._layers = pd.concat([earlier, self.run.reader.layers(first=last)], ignore_index=True)
        return self._layers

    def terms(self) -> pd.DataFrame:
        """Every term of the pairs of up to HEAT_COLUMNS steps: `step`, `pair`, one column a term."""
        if self._terms is None:
            self._terms = self.run.reader.terms_over_time(self.term_names(), columns=HEAT_COLUMNS)
        return self._terms

    def term_names(self) -> tuple[str, ...]:
        """The pair terms that this run records; none before its first step."""
        frame = self.run.reader.batch(self.run.step)
        return tuple(name for name in frame.columns if name not in NOT_TERMS)
