"""Reading a run store, from any thread or process, while it is being written or long after."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .schema import open_for_reading

TERMS = "SELECT p.pair, t.step, t.version, t.columns, t.terms FROM pair_terms t JOIN pairs p ON p.id = t.pair"
HELD_OUT = TERMS.replace("pair_terms", "held_out")

SCREEN_POINTS = 1000
"""No curve on a screen needs more points than this."""


class StoreReader:
    """A read-only view of the run store in `folder`. Raises FileNotFoundError where there is none.

    Safe to share between threads. All frames come back as pandas; an empty store gives empty frames with their columns.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self.status()  # a file that is no store is met here, and not in the middle of a page

    def status(self) -> dict[str, Any]:
        """Facts about the run as a whole, by name."""
        return {key: json.loads(value) for key, value in self._query("SELECT key, value FROM status")}

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.status().get("step", 0))

    def names(self) -> list[str]:
        """Names of the scalars that were recorded."""
        return [name for (name,) in self._query("SELECT name FROM series ORDER BY name")]

    def scalars(
        self, names: Sequence[str] | None = None, *, first: int = 0, last: int | None = None, points: int | None = None
    ) -> pd.DataFrame:
        """Scalars by step: index `step`, one column a name, NaN where a name has no value at a step.

        points: if given, at most about this many rows: of every bucket of steps the lowest and the highest value of each
        series are kept, so that spikes stay. Names that were never recorded come back as empty columns.
        """
        wanted = list(names) if names is not None else self.names()
        columns = {name: self._one_series(name, first, last, points) for name in wanted}
        frame = pd.DataFrame(columns)
        frame.index.name = "step"
        return frame.sort_index()

    def _one_series(self, name: str, first: int, last: int | None, points: int | None) -> pd.Series:
        rows = self._query(
            "SELECT step, value FROM scalars WHERE series = (SELECT id FROM series WHERE name = ?) AND step BETWEEN ? AND ? "
            "ORDER BY step",
            (name, first, last if last is not None else 2**62),
        )
        steps = np.array([step for step, _ in rows], np.int64)
        values = np.array([np.nan if value is None else value for _, value in rows], np.float64)
        if points is not None and len(rows) > points:
            keep = spike_keeping(values, points)
            steps, values = steps[keep], values[keep]
        return pd.Series(values, index=steps, name=name, dtype=np.float64)

    def pairs(self, step: int | None = None) -> pd.DataFrame:
        """One row a pair: `pair` (id), the `step` it was last seen (at or before `step`, if given), `version`, a column a term."""
        rows = self._query(
            "SELECT p.pair, max(t.step), t.version, t.columns, t.terms FROM pair_terms t JOIN pairs p ON p.id = t.pair "
            "WHERE t.step <= ? GROUP BY t.pair ORDER BY t.pair",
            (step if step is not None else 2**62,),
        )
        return self._terms_frame(rows)

    def held_out(self, step: int | None = None) -> pd.DataFrame:
        """The pairs that are never trained on, at the latest look (at or before `step`, if given); columns as in `pairs`."""
        rows = self._query(
            f"{HELD_OUT} WHERE t.step = (SELECT max(step) FROM held_out WHERE step <= ?) ORDER BY t.pair",
            (step if step is not None else 2**62,),
        )
        return self._terms_frame(rows)

    def batch(self, step: int) -> pd.DataFrame:
        """The pairs of one step's batch, in the same columns as `pairs`."""
        rows = self._query(
            "SELECT p.pair, t.step, t.version, t.columns, t.terms FROM pair_terms t JOIN pairs p ON p.id = t.pair WHERE t.step = ?",
            (step,),
        )
        return self._terms_frame(rows)

    def pair_history(self, pair: str) -> pd.DataFrame:
        """Every step at which one pair was seen, trained on or held out, oldest first, in the same columns as `pairs`."""
        rows = self._query(
            f"{TERMS} WHERE p.pair = ? UNION ALL {HELD_OUT} WHERE p.pair = ?",
            (pair, pair),
        )
        return self._terms_frame(rows).sort_values("step", kind="stable", ignore_index=True)

    def terms_over_time(
        self, terms: Sequence[str], *, first: int = 0, last: int | None = None, columns: int = 150, rows_per_column: int = 64
    ) -> pd.DataFrame:
        """Values of some terms over the run, for a picture `columns` wide: `step`, `pair`, one column a term.

        Reads the batches of at most `columns` evenly spaced steps that were recorded (all of them if there are fewer).
        """
        low, high = self._query(
            "SELECT min(step), max(step) FROM pair_terms WHERE step >= ? AND step <= ?", (first, last or 2**62)
        )[0]
        if low is None:
            return pd.DataFrame(columns=["step", "pair", *terms])
        wanted = np.unique(np.linspace(low, high, columns).round().astype(int)).tolist()
        rows: list[tuple[Any, ...]] = []
        for step in wanted:
            rows += self._query(
                f"{TERMS} WHERE t.step = ? LIMIT ?",
                (step, rows_per_column),
            )
        frame = self._terms_frame(rows)
        return frame.reindex(columns=["step", "pair", *terms])

    def token_steps(self) -> list[int]:
        """Steps for which token values are still kept."""
        return [step for (step,) in self._query("SELECT DISTINCT step FROM tokens ORDER BY step")]

    def tokens(self, step: int, pair: str | None = None) -> pd.DataFrame:
        """Token values of a step: pair, side, then ids, logps, ref_logps, credit, pilot, each cell an array [T] (or None)."""
        rows = self._query(
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

    def layers(self, *, first: int = 0, last: int | None = None) -> pd.DataFrame:
        """Gradient flow by layer: step, layer, norm_chosen, norm_rejected, cosine, update_ratio (NaN where it was not measured)."""
        names = ["step", "layer", "norm_chosen", "norm_rejected", "cosine", "update_ratio"]
        rows = self._query(
            f"SELECT {', '.join(names)} FROM layers WHERE step BETWEEN ? AND ? ORDER BY step",
            (first, last if last is not None else 2**62),
        )
        return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[2:], np.float64))

    def panel(self, step: int | None = None, *, first: int = 0) -> pd.DataFrame:
        """Every look at the panel of held-out pairs, from step `first` to `step` (if given), oldest first; a row a pair and look:

        step, pair, chosen, rejected, greedy (log-prob of each answer, summed over its tokens, in nats), chosen_tokens,
        rejected_tokens, greedy_tokens, answer (the greedy one's text), ended (False where it was cut).
        """
        names = ["chosen", "rejected", "greedy", "chosen_tokens", "rejected_tokens", "greedy_tokens", "answer", "ended"]
        rows = self._query(
            f"SELECT t.step, p.pair, {', '.join(names)} FROM panel t JOIN pairs p ON p.id = t.pair WHERE t.step BETWEEN ? AND ? "
            "ORDER BY t.step, t.pair",
            (first, step if step is not None else 2**62),
        )
        frame = pd.DataFrame(rows, columns=["step", "pair", *names])
        return frame.astype({"chosen": np.float64, "rejected": np.float64, "greedy": np.float64, "ended": bool})

    def events(self, *kinds: str, after: int = 0) -> pd.DataFrame:
        """What happened: number, time (unix seconds), step, kind, detail (a dict); oldest first."""
        only = f" AND kind IN ({','.join('?' * len(kinds))})" if kinds else ""
        rows = self._query(
            f"SELECT number, time, step, kind, detail FROM events WHERE number > ?{only} ORDER BY number",
            (after, *kinds),
        )
        return pd.DataFrame([(*row[:4], json.loads(row[4])) for row in rows], columns=["number", "time", "step", "kind", "detail"])

    def _terms_frame(self, rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
        layouts = {number: json.loads(names) for number, names in self._query("SELECT id, names FROM columns")}
        frames = []
        for layout in sorted({row[3] for row in rows}):
            part = [row for row in rows if row[3] == layout]
            names = layouts[layout]
            values = np.frombuffer(b"".join(row[4] for row in part), np.float32).reshape(len(part), len(names))
            head = pd.DataFrame([row[:3] for row in part], columns=["pair", "step", "version"])
            frames.append(pd.concat([head, pd.DataFrame(values, columns=names)], axis=1))
        if not frames:
            return pd.DataFrame(columns=["pair", "step", "version"])
        return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_for_reading(self.folder)
        return connection.execute(sql, values).fetchall()


def spike_keeping(values: np.ndarray, points: int) -> np.ndarray:
    """Indices of at most `points` values that keep the lowest and the highest of every bucket, and both ends. [n] -> [<= points]"""
    buckets = max((points - 2) // 2, 1)
    edges = np.linspace(0, len(values), buckets + 1).astype(int)
    safe_low = np.where(np.isnan(values), np.inf, values)
    safe_high = np.where(np.isnan(values), -np.inf, values)
    keep = {0, len(values) - 1}
    for start, end in pairwise(edges):
        if end > start:
            keep.add(start + int(safe_low[start:end].argmin()))
            keep.add(start + int(safe_high[start:end].argmax()))
    return np.array(sorted(keep))
