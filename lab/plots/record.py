"""What the figures of one run are drawn from; a page that redraws every second keeps it and reads only what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pandas as pd

from lab.errors import FigureError
from lab.store import SCREEN_POINTS, StoreReader

from .marks import notable

HEAT_COLUMNS = 240
"""Steps whose pairs are read for the distributions."""

LAYER_COLUMNS = 120
"""Columns of the heat maps of layers."""

VISIBLE = 1 / 250
"""Distributions and layers are read anew when the run has gone on by this share: less would not be seen in the picture."""

AT_MOST = 1 / 20
"""Share of the time that reading all pairs may take; a big set is read less often than every second."""

HEAVY = ("samples",)
"""Parts of events that no figure draws; `StoreReader.event` has them."""

T = TypeVar("T")


class Record:
    """The numbers of a run as a screen needs them. `refresh()` looks again; between refreshes nothing changes.

    until: the step that is shown; nothing later is read. None: the latest.
    `version` names what was read: while it stays, every figure stays. Use one per session: it is not shared between threads.
    """

    def __init__(self, reader: StoreReader, until: int | None = None) -> None:
        self.reader = getattr(reader, "reader", reader)  # also of a run
        if not hasattr(self.reader, "scalars"):
            raise FigureError(f"{reader!r} is no run; give a run, for example lab.open_run(folder), or its reader.")
        self.until = until
        self._forget()
        self._events = pd.DataFrame()
        self._running = False
        self._read_events()
        self._step = reader.step

    def refresh(self, until: int | None = None) -> None:
        """Look again, at the step `until` from now on (None: the latest). What cannot have changed is read no second time."""
        before = self.version
        if until != self.until:
            self.until = until
            self._notable = None
        self._step = self.reader.step
        self._read_events()
        if self.version != before:
            self._read.clear()

    @property
    def version(self) -> tuple[Any, ...]:
        """Changes when there is something new to draw."""
        last = None if self._events.empty else (int(self._events["number"].iloc[-1]), float(self._events["time"].iloc[-1]))
        return (self._step if self.until is None else min(self._step, self.until), self.until, last)

    @property
    def step(self) -> int:
        """The last step that is shown."""
        return self._step if self.until is None else min(self.until, self._step)

    @property
    def latest(self) -> int:
        """The last step there is."""
        return self._step

    def _read_events(self) -> None:
        if self._events.empty:
            new = self._events = self.reader.events(without=HEAVY)
        else:
            last = self._events.iloc[-1]
            found = self.reader.events(after=int(last["number"]) - 1, without=HEAVY)
            if found.empty or found["time"].iloc[0] != last["time"]:  # the last event is gone: the run went back behind it
                new = self._events = self.reader.events(without=HEAVY)
                self._forget()
            else:
                new = found.iloc[1:]
                self._events = pd.concat([self._events, new], ignore_index=True) if len(new) else self._events
        if len(new):
            self._notable = None
        states = new.loc[new["kind"] == "state", "detail"]
        if len(states):
            self._running = states.iloc[-1]["state"] == "running"
        if (new["kind"] == "resumed").any():  # the steps after the checkpoint are written afresh
            self._forget()

    def _forget(self) -> None:
        self._read: dict[Any, Any] = {}
        self._coarse: dict[str, tuple[int, pd.DataFrame]] = {}
        self._all_pairs: tuple[tuple[Any, ...], float, float, pd.DataFrame] | None = None
        self._panel: pd.DataFrame | None = None
        self._notable = None

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        """What `read` returns, read once between two refreshes that found something new."""
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    def _coarsely(self, name: str, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """What `read` returns; while the run goes on and its end is shown, read again when it has moved by more than VISIBLE."""
        if self.until is not None or not self._running:
            return self._once(("coarse", name), read)
        known = self._coarse.get(name)
        if known is None or abs(self.step - known[0]) > self.step * VISIBLE:
            known = self._coarse[name] = (self.step, read())
        return known[1]

    def scalars(self, names: Sequence[str]) -> pd.DataFrame:
        """Some scalars: index `step`, one column a name; of more than a screen shows, the extremes of every stretch.

        attrs["stands_for"]: how many recorded values each column stands for.
        """
        return self._once(("scalars", *names), lambda: self._scalars(names))

    def _scalars(self, names: Sequence[str]) -> pd.DataFrame:
        return self.reader.scalars(list(names), last=self.until, points=SCREEN_POINTS)

    def means(self, names: Sequence[str], width: int) -> pd.DataFrame:
        """Trailing means over `width` values, at no more steps than a screen shows: index `step`, one column a name."""
        return self._once(("means", *names, width), lambda: self._means(names, width))

    def _means(self, names: Sequence[str], width: int) -> pd.DataFrame:
        return self.reader.means(list(names), width=width, last=self.until)

    def scalar_names(self, prefix: str) -> list[str]:
        """Names of the recorded scalars that begin so."""
        return self._once(("names", prefix), lambda: [name for name in self.reader.names() if name.startswith(prefix)])

    def events(self) -> pd.DataFrame:
        """Everything that happened, oldest first, without the answers that evaluations sampled."""
        return self._events if self.until is None else self._events[self._events["step"] <= self.until]

    def notable(self) -> pd.DataFrame:
        """The events that figures mark."""
        if self._notable is None:
            self._notable = notable(self.events())
        return self._notable

    def layers(self) -> pd.DataFrame:
        """Gradient flow by layer; of more probed steps than the picture has columns, the mean of every bucket."""
        return self._coarsely("layers", lambda: self.reader.layers(last=self.until, points=LAYER_COLUMNS))

    def panel(self) -> pd.DataFrame:
        """Every look at the panel of held-out pairs; see `StoreReader.panel`."""
        if self._panel is None or self._panel.empty or self.until is not None:
            self._panel = None
            return self._once("panel", self._whole_panel)
        return self._once("panel", self._longer_panel)

    def _whole_panel(self) -> pd.DataFrame:
        found = self.reader.panel(self.until)
        if self.until is None:
            self._panel = found
        return found

    def _longer_panel(self) -> pd.DataFrame:
        assert self._panel is not None
        last = int(self._panel["step"].iloc[-1])
        earlier = self._panel[self._panel["step"] < last]
        self._panel = pd.concat([earlier, self.reader.panel(first=last)], ignore_index=True)
        return self._panel

    def terms(self) -> pd.DataFrame:
        """Every term of the pairs of up to HEAT_COLUMNS steps: `step`, `pair`, one column a term."""
        return self._coarsely(
            "terms", lambda: self.reader.terms_over_time(self.term_names(), columns=HEAT_COLUMNS, last=self.until)
        )

    def pairs(self) -> pd.DataFrame:
        """Every pair's terms when it was last seen: `pair`, `step`, `version`, a column a term."""
        now = time.monotonic()
        known = self._all_pairs
        if known is not None and (known[0] == self.version or (self.until is None and now - known[1] < known[2] / AT_MOST)):
            return known[3]
        found = self.reader.pairs(self.until)
        self._all_pairs = (self.version, now, time.monotonic() - now, found)
        return found

    def term_names(self) -> tuple[str, ...]:
        """The pair terms that this run records; none before its first step."""
        return self._once("terms", lambda: self.reader.term_names(self.until))
