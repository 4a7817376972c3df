"""Cached data of one run for its figures; a page that redraws every second reads only what is new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pandas as pd

from lab.errors import FigureError
from lab.store import SCREEN_POINTS, StoreReader

from .marks import notable

HEAT_COLUMNS = 240
"""Number of steps whose pairs are read for the distributions."""

LAYER_COLUMNS = 120
"""Number of columns of the heat maps of layers."""

VISIBLE = 1 / 250
"""Distributions and layers are read again when the run has advanced by this share; less would be invisible."""

AT_MOST = 1 / 20
"""Share of the time that reading all pairs may take; a large set is read less often than every second."""

HEAVY = ("samples",)
"""Parts of events that no figure needs; `EventReader.detail` returns them."""

T = TypeVar("T")


class Record:
    """Data of one run in the resolution of a screen, cached until `refresh()`. Not thread-safe: use one per session.

    Args:
        reader: Reader of the run.
        until: Show the run up to this step; None: up to the latest.

    Attributes:
        version: Changes whenever there is something new to draw.
    """

    def __init__(self, reader: StoreReader, until: int | None = None) -> None:
        self.reader = getattr(reader, "reader", reader)  # also of a run
        if not hasattr(self.reader, "scalars"):
            raise FigureError(f"{reader!r} is no run; give a run, for example lab.open_run(folder), or its reader.")
        self.until = until
        self._notable: pd.DataFrame | None = None
        self._forget()
        self._events = pd.DataFrame()
        self._running = False
        self._read_events()
        self._step = reader.step

    def refresh(self, until: int | None = None) -> None:
        """Read what is new, and show the run up to the step `until` from now on (None: the latest)."""
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
        """Key that changes whenever there is something new to draw."""
        last = None if self._events.empty else (int(self._events["number"].iloc[-1]), float(self._events["time"].iloc[-1]))
        return (self._step if self.until is None else min(self._step, self.until), self.until, last)

    @property
    def step(self) -> int:
        """Last step that is shown."""
        return self._step if self.until is None else min(self.until, self._step)

    @property
    def latest(self) -> int:
        """Last step of the run."""
        return self._step

    def _read_events(self) -> None:
        if self._events.empty:
            new = self._events = self.reader.events.read(without=HEAVY)
        else:
            last = self._events.iloc[-1]
            later = self.reader.events.read(after=int(last["number"]) - 1, without=HEAVY)
            if later.empty or later["time"].iloc[0] != last["time"]:  # the last event is gone: the run resumed before it
                new = self._events = self.reader.events.read(without=HEAVY)
                self._forget()
            else:
                new = later.iloc[1:]
                self._events = pd.concat([self._events, new], ignore_index=True) if len(new) else self._events
        if len(new):
            self._notable = None
        states = new.loc[new["kind"] == "state", "detail"]
        if len(states):
            self._running = states.iloc[-1]["state"] == "running"
        if (new["kind"] == "resumed").any():  # the steps after the checkpoint are written again
            self._forget()

    def _forget(self) -> None:
        self._read: dict[Any, Any] = {}
        self._coarse: dict[str, tuple[int, pd.DataFrame]] = {}
        self._all_pairs: tuple[tuple[Any, ...], float, float, pd.DataFrame] | None = None
        self._panel: pd.DataFrame | None = None
        self._notable = None

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        """Return the result of `read`, cached until a refresh with something new."""
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    def _coarsely(self, name: str, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return the result of `read`; for the end of a running run, cached until it has advanced by more than VISIBLE."""
        if self.until is not None or not self._running:
            return self._once(("coarse", name), read)
        known = self._coarse.get(name)
        if known is None or abs(self.step - known[0]) > self.step * VISIBLE:
            known = self._coarse[name] = (self.step, read())
        return known[1]

    def scalars(self, names: Sequence[str]) -> pd.DataFrame:
        """Return some scalars, thinned for a screen; see `ScalarReader.read`."""
        return self._once(("scalars", *names), lambda: self._scalars(names))

    def _scalars(self, names: Sequence[str]) -> pd.DataFrame:
        return self.reader.scalars.read(list(names), last=self.until, points=SCREEN_POINTS)

    def means(self, names: Sequence[str], width: int) -> pd.DataFrame:
        """Return trailing means over `width` values, thinned for a screen; see `ScalarReader.means`."""
        return self._once(("means", *names, width), lambda: self._means(names, width))

    def _means(self, names: Sequence[str], width: int) -> pd.DataFrame:
        return self.reader.scalars.means(list(names), width=width, last=self.until)

    def scalar_names(self, prefix: str) -> list[str]:
        """Return the names of the recorded scalars with this prefix."""
        return self._once(("names", prefix), lambda: [name for name in self.reader.scalars.names() if name.startswith(prefix)])

    def events(self) -> pd.DataFrame:
        """Return all events, oldest first, without the sampled answers of evaluations."""
        return self._events if self.until is None else self._events[self._events["step"] <= self.until]

    def notable(self) -> pd.DataFrame:
        """Return the events that figures mark; see `lab.plots.marks.notable`."""
        if self._notable is None:
            self._notable = notable(self.events())
        return self._notable

    def layers(self) -> pd.DataFrame:
        """Return the gradient by layer, in at most LAYER_COLUMNS buckets of steps; see `LayerReader.read`."""
        return self._coarsely("layers", lambda: self.reader.layers.read(last=self.until, points=LAYER_COLUMNS))

    def panel(self) -> pd.DataFrame:
        """Return all scores of the panel of held-out pairs; see `PanelReader.read`."""
        if self._panel is None or self._panel.empty or self.until is not None:
            self._panel = None
            return self._once("panel", self._whole_panel)
        return self._once("panel", self._longer_panel)

    def _whole_panel(self) -> pd.DataFrame:
        panel = self.reader.panel.read(last=self.until)
        if self.until is None:
            self._panel = panel
        return panel

    def _longer_panel(self) -> pd.DataFrame:
        assert self._panel is not None
        last = int(self._panel["step"].iloc[-1])
        earlier = self._panel[self._panel["step"] < last]
        self._panel = pd.concat([earlier, self.reader.panel.read(first=last)], ignore_index=True)
        return self._panel

    def terms(self) -> pd.DataFrame:
        """Return the terms of the pairs of at most HEAT_COLUMNS steps: step, pair, one column per term."""
        return self._coarsely(
            "terms", lambda: self.reader.pairs.over_time(self.term_names(), columns=HEAT_COLUMNS, last=self.until)
        )

    def pairs(self) -> pd.DataFrame:
        """Return the latest terms of every pair; see `PairReader.latest`."""
        now = time.monotonic()
        known = self._all_pairs
        if known is not None and (known[0] == self.version or (self.until is None and now - known[1] < known[2] / AT_MOST)):
            return known[3]
        pairs = self.reader.pairs.latest(self.until)
        self._all_pairs = (self.version, now, time.monotonic() - now, pairs)
        return pairs

    def term_names(self) -> tuple[str, ...]:
        """Return the names of the pair terms that this run records; empty before its first step."""
        return self._once("terms", lambda: self.reader.pairs.term_names(self.until))
