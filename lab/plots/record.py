"""What the figures of one run are drawn from; a page that redraws every second keeps it and reads only what is new."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lab.monitor import StoreReader

from .marks import notable

HEAT_COLUMNS = 240
"""Steps whose pairs are read for the distributions."""

VISIBLE = 1 / 250
"""The distributions are read anew when the run has gone on by this share: less would not be seen in the picture."""

NOT_TERMS = ("step", "pair", "version")


class Record:
    """The numbers of a run as far as they have been read. `refresh()` reads on; between refreshes nothing changes.

    Use one per session: it is not shared between threads.
    """

    def __init__(self, reader: StoreReader) -> None:
        self.reader = reader
        self._forget()
        self._events = reader.events()
        self._notable = notable(self._events)

    def refresh(self) -> None:
        """Look again; what was read so far is read no second time, unless the run went back to a checkpoint."""
        self._fresh.clear()
        if self._events.empty:
            new = self._events = self.reader.events()
        else:
            last = self._events.iloc[-1]
            found = self.reader.events(after=int(last["number"]) - 1)
            if found.empty or found["time"].iloc[0] != last["time"]:  # the last event is gone: the run went back behind it
                new = self._events = self.reader.events()
                self._forget()
            else:
                new = found.iloc[1:]
                self._events = pd.concat([self._events, new], ignore_index=True) if len(new) else self._events
        if len(new):
            self._notable = notable(self._events)
        if (new["kind"] == "resumed").any():  # the steps after the checkpoint are written afresh
            self._forget()

    def _forget(self) -> None:
        self._scalars: dict[str, pd.Series] = {}
        self._fresh: set[str] = set()
        self._layers: pd.DataFrame | None = None
        self._panel: pd.DataFrame | None = None
        self._terms: pd.DataFrame | None = None
        self._terms_step = 0

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
            return self.reader.scalars([name])[name]
        # The last step is read again: a value may be written a second time.
        return pd.concat([known.iloc[:-1], self.reader.scalars([name], first=int(known.index[-1]))[name]])

    def scalar_names(self, prefix: str) -> list[str]:
        """Names of the recorded scalars that begin so."""
        return [name for name in self.reader.names() if name.startswith(prefix)]

    def events(self) -> pd.DataFrame:
        """Everything that happened, oldest first."""
        return self._events

    def notable(self) -> pd.DataFrame:
        """The events that figures mark."""
        return self._notable

    def layers(self) -> pd.DataFrame:
        """Gradient flow by layer of every probed step."""
        if self._layers is None or self._layers.empty:
            self._layers = self.reader.layers()
        elif "layers" not in self._fresh:
            last = int(self._layers["step"].iloc[-1])
            earlier = self._layers[self._layers["step"] < last]
            self._layers = pd.concat([earlier, self.reader.layers(first=last)], ignore_index=True)
        self._fresh.add("layers")
        return self._layers

    def panel(self) -> pd.DataFrame:
        """Every look at the panel of held-out pairs; see `StoreReader.panel`."""
        if self._panel is None or self._panel.empty:
            self._panel = self.reader.panel()
        elif "panel" not in self._fresh:
            last = int(self._panel["step"].iloc[-1])
            earlier = self._panel[self._panel["step"] < last]
            self._panel = pd.concat([earlier, self.reader.panel(first=last)], ignore_index=True)
        self._fresh.add("panel")
        return self._panel

    def terms(self) -> pd.DataFrame:
        """Every term of the pairs of up to HEAT_COLUMNS steps: `step`, `pair`, one column a term."""
        step = self.reader.step
        if self._terms is None or step - self._terms_step > step * VISIBLE:
            self._terms, self._terms_step = self.reader.terms_over_time(self.term_names(), columns=HEAT_COLUMNS), step
        return self._terms

    def term_names(self) -> tuple[str, ...]:
        """The pair terms that this run records; none before its first step."""
        frame = self.reader.batch(self.reader.step)
        return tuple(name for name in frame.columns if name not in NOT_TERMS)
