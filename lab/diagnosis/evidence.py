"""What the diagnosis knows of a run: numbers of its beginning, of its latest steps, and of the pairs in its latest batches.

Everything is read up to one step, when it is first asked for, and in portions that do not grow with the run.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lab.store import StoreReader
from lab.store.folder import ENDED, RunError, read_manifest

from .history import MadeChange, copied, made_changes, put
from .history import twin_objectives as objectives_of_twins

if TYPE_CHECKING:
    from lab.objectives import Objective

FEWEST = 4
"""Values a median needs before anything is concluded from it."""

BATCHES, PAIRS = 6, 24
"""Latest batches whose pairs are looked at; more of them where so many pairs are not in these."""

NAMED = 5
"""Pairs that a finding names, at most."""

CURVE_POINTS = 200
"""Points of a curve over the whole run, from which the step is read since when something holds."""

SERIES = (
    "loss",
    "grad_norm",
    "log_ratio_chosen",
    "log_ratio_rejected",
    "logps/chosen",
    "logps/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "weight_chosen",
    "weight_rejected",
    "learning_rate",
    "num_tokens",
)

SCALED = ("loss", "grad_norm", "rewards/margins", "weight_chosen", "weight_rejected")
"""Series whose scale follows from the objective's parameters, so that values from before a change of these are no measure."""


@dataclass(frozen=True)
class Level:
    """Where a noisy number stands: the median of `count` values and the median's standard error, by the median deviation."""

    value: float
    error: float
    count: int


def level(values: Iterable[float]) -> Level | None:
    """None where there are too few finite values. Outliers do not move it."""
    found = np.asarray(list(values), np.float64)
    found = found[np.isfinite(found)]
    if len(found) < FEWEST:
        return None
    middle = float(np.median(found))
    deviation = 1.4826 * float(np.median(np.abs(found - middle)))
    return Level(middle, 1.2533 * deviation / math.sqrt(len(found)), len(found))


def above(one: Level, other: Level, by: float) -> bool:
    """Whether `one` is above `other` by more than `by`, and by more than three standard errors of the two."""
    difference = one.value - other.value
    return difference > by and difference > 3 * math.hypot(one.error, other.error)


NOTHING = Level(0.0, 0.0, 0)
"""A known 0, such as a log-ratio before training."""


class Evidence:
    """What is known of the run behind `reader` at a step; None: the latest. Missing series and tables are empty, never an error."""

    def __init__(self, reader: StoreReader, step: int | None = None) -> None:
        self.reader = reader
        done = reader.step
        self.step = done if step is None else max(0, min(step, done))

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What was written down when the run was made, or nothing."""
        try:
            return read_manifest(self.reader.folder)
        except RunError:
            return {}

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The settings as plain values, with the changes made up to the step."""
        config = dict(self.manifest.get("config") or {})
        config["objective"] = copied(config.get("objective") or {})
        for change in self.changes:
            for path, (_, value) in change.settings.items():
                put(config if path in config else config["objective"], path, value)
        return config

    @cached_property
    def changes(self) -> list[MadeChange]:
        """What was changed in mid-run before the step, oldest first; changes that were made together are one. Where the run failed
        right behind the step, also what was changed between the two."""
        edits = self.events("edit")
        counts = {int(detail.get("version", -1)): detail for detail in edits["detail"]}
        every = made_changes(self.reader.folder, self.manifest.get("config") or {}, counts)
        failed = self.step == self.reader.step and self.reader.status().get("state") == "failed"
        return [change for change in every if self.first_step <= change.after < self.step + failed]

    @cached_property
    def objective(self) -> Objective | None:
        """The objective with the parameters in use; None where it is not known here."""
        from lab.objectives import make_objective  # brings torch, which reading a store does not need

        try:
            return make_objective(**self.config["objective"])
        except (ValueError, TypeError):
            return None

    @cached_property
    def twin_objectives(self) -> frozenset[str]:
        """Names of the objectives that the run's twins train with."""
        return objectives_of_twins(self.reader.folder)

    @cached_property
    def ended(self) -> bool:
        """Whether nothing trains any more."""
        return str(self.reader.status().get("state")) in ENDED

    @property
    def first_step(self) -> int:
        """Optimizer steps done before this run's first: 0, or where its parent was when it branched off."""
        return int((self.manifest.get("branch") or {}).get("step", 0))

    @property
    def done(self) -> int:
        """Optimizer steps of this run up to the step."""
        return max(0, self.step - self.first_step)

    @property
    def origin(self) -> str:
        """What the log-probs of answers are compared with, in words."""
        if not self.has_reference:
            return "that of the first steps"
        return "its parent's reference" if self.first_step else "its start"

    @property
    def has_reference(self) -> bool:
        """Whether log-ratios are recorded; where the objective has no reference, log-probs are compared with the first steps."""
        return self.now("log_ratio_chosen") is not None

    def setting(self, name: str, default: float) -> float:
        """A numeric setting of the run."""
        value = self.config.get(name)
        return float(value) if isinstance(value, (int, float)) else default

    # Series: exact in two windows, thinned over the whole run.

    @property
    def window(self) -> int:
        """Latest steps that count as now."""
        return min(50, max(8, self.done // 5))

    @cached_property
    def _now(self) -> pd.DataFrame:
        return self.reader.scalars.read(SERIES, first=max(self.first_step + 1, self.step - self.window + 1), last=self.step)

    @property
    def settled(self) -> int:
        """The step after which the objective's parameters are those in use now: that of their last change, or the first."""
        return max([self.first_step, *(change.after for change in self.changes if change.parameters)])

    def _first(self, after: int) -> pd.DataFrame:
        last = after + min(20, max(FEWEST, (self.step - after) // 10))
        return self.reader.scalars.read(SERIES, first=after + 1, last=min(last, self.step))

    @cached_property
    def _starts(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The first steps of the run, and those since the objective's parameters changed last."""
        first = self._first(self.first_step)
        return first, first if self.settled == self.first_step else self._first(self.settled)

    def now(self, name: str) -> Level | None:
        """Where a series stands in the latest steps."""
        return level(self._now[name])

    def start(self, name: str) -> Level | None:
        """Where a series stood in the first steps, or since its scale changed (see SCALED). None as long as these are the latest
        ones, too."""
        after = self.settled if name in SCALED else self.first_step
        if self.step - after < 2 * FEWEST + self.window:
            return None
        return level(self._starts[name in SCALED][name])

    def recent(self, name: str, steps: int | None = None) -> pd.Series:
        """The recorded values of the latest steps (None: those of the window), NaN among them where NaN was recorded."""
        first = max(self.first_step + 1, self.step - (steps or self.window) + 1)
        return self.reader.scalars.read([name], first=first, last=self.step)[name]

    def looks(self, name: str) -> pd.Series:
        """What the looks at held-out pairs and prompts said up to the step, without gaps; a thinned row of a long run."""
        return self.reader.scalars.read([name], first=0, last=self.step, points=CURVE_POINTS)[name].dropna()

    def since(self, name: str, above: float) -> int:
        """The step after which a series, smoothed, has stayed below a value; the first step where it always was."""
        curve = self.reader.scalars.read([name], first=self.first_step, last=self.step, points=CURVE_POINTS)[name].dropna()
        if curve.empty:
            return self.step
        smooth = curve.rolling(9, center=True, min_periods=1).median()
        before = smooth.index[smooth.to_numpy() >= above]
        return int(before[-1]) if len(before) else int(curve.index[0])

    @cached_property
    def tokens(self) -> float:
        """Tokens of an answer, on average; 1 where nobody counted."""
        counted = self._now["num_tokens"].dropna() if len(self._now) else pd.Series(dtype=float)
        if counted.empty:
            return 1.0
        steps, total = self.done, float(counted.iloc[-1])
        if len(counted) > 1:
            steps, total = int(counted.index[-1] - counted.index[0]), float(counted.iloc[-1] - counted.iloc[0])
        return max(1.0, total / max(1.0, steps * 2 * self.setting("batch_size", 1)))

    # Pairs, layers, events.

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """The pairs of the latest batches that are kept: `pair`, `step`, a column a term."""
        most = max(BATCHES, math.ceil(PAIRS / max(1.0, self.setting("batch_size", 1))))
        return self.reader.pairs.batches(most, self.step)

    def term(self, name: str) -> np.ndarray:
        """One term of the latest pairs, [n]; empty where the run has no such term."""
        return self.pairs[name].to_numpy(np.float64) if name in self.pairs else np.empty(0)

    def worst(self, score: np.ndarray) -> tuple[str, ...]:
        """Ids of the latest pairs with the lowest scores [n], each once; a score that is not finite leaves its pair out."""
        order = [i for i in np.argsort(score, kind="stable") if np.isfinite(score[i])]
        return tuple(dict.fromkeys(self.pairs["pair"].iloc[order]))[:NAMED]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The latest probes of the gradient, from the smallest stretch of steps that has some."""
        reach = self.window
        while True:
            found = self.reader.layers.read(first=max(0, self.step - reach + 1), last=self.step)
            if len(found) or reach >= self.step:
                return found
            reach *= 8

    def events(self, kind: str) -> pd.DataFrame:
        """Events of one kind up to the step."""
        found = self.reader.events.read(kind)
        return found[found["step"] <= self.step]


READING_ERRORS: Sequence[type[Exception]] = (sqlite3.Error, OSError, ValueError, KeyError, TypeError, IndexError)
"""What a store that is odd, damaged or half deleted may raise in a rule."""
