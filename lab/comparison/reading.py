"""Read parts of a run for a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lab.run.handle import Run
from lab.store import SCREEN_POINTS


def with_attrs(frame: pd.DataFrame, attrs: Mapping[Any, Any]) -> pd.DataFrame:
    """Set the attrs of a frame and return it."""
    frame.attrs = dict(attrs)
    return frame


def window_width(name: str, values: int) -> int:
    """Return the width of the moving mean: a fortieth of the values; 1 for evaluations that fit on a screen."""
    if name.startswith("eval/") and values <= SCREEN_POINTS:
        return 1
    return min(max(values // 40, 1), 500)


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column without its NaN; `attrs["stands_for"]` is the number of recorded values."""
    values = frame[name].dropna()
    counts: Mapping[str, int] = frame.attrs.get("stands_for", {})
    values.attrs = {"stands_for": int(counts.get(name, len(values)))}
    return values


def read_events(run: Run, known: pd.DataFrame | None) -> pd.DataFrame:
    """Return a run's events, reading only those that are new unless the run went back to an earlier checkpoint."""
    if known is not None and len(known):
        last = known.iloc[-1]
        new = run.reader.events.read(after=int(last["number"]) - 1)
        if len(new) and new["time"].iloc[0] == last["time"]:
            return pd.concat([known, new.iloc[1:]], ignore_index=True) if len(new) > 1 else known
    return run.reader.events.read()
