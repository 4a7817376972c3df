"""Evidence for the checks: numbers of the first and the latest steps of a run, and the pairs of its latest batches.

Everything is read up to one step, on first access, and in amounts that do not grow with the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
"""Minimum number of values for a median to count."""

BATCHES, PAIRS = 6, 24
"""Latest batches whose pairs are examined; more batches if these hold fewer than PAIRS pairs."""

NAMED = 5
"""Maximum number of pairs that a finding names."""

CURVE_POINTS = 200
"""Points of a curve over the whole run, from which the beginning of a finding is read."""

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
"""Series whose scale depends on the objective's parameters, so that values before a change of these cannot be compared."""


@dataclass(frozen=True)
class Level:
    """Level of a noisy number: the median of `count` values, and its standard error from the median absolute deviation."""

    value: float
    error: float
    count: int


def level(values: Iterable[float]) -> Level | None:
    """Return the level of some values, robust to outliers; None if too few are finite."""
    array = np.asarray(list(values), np.float64)
    finite = array[np.isfinite(array)]
    if len(finite) < FEWEST:
        return None
    middle = float(np.median(finite))
    deviation = 1.4826 * float(np.median(np.abs(finite - middle)))
    return Level(middle, 1.2533 * deviation / math.sqrt(len(finite)), len(finite))


def above(one: Level, other: Level, by: float) -> bool:
    """Return whether `one - other` is larger than `by` and also larger than three standard errors of the difference."""
    difference = one.value - other.value
    return difference > by and difference > 3 * math.hypot(one.error, other.error)


NOTHING = Level(0.0, 0.0, 0)
"""A level of exactly 0, such as a log-ratio before training."""


class Evidence:
    """Evidence about a run up to a step. Missing series and tables are empty, never an error.

    Args:
        reader: Reader of the run.
        step: The step; None: the latest.
    """

    def __init__(self, reader: StoreReader, step: int | None = None) -> None:
        self.reader = reader
        done = reader.step
        self.step = done if step is None else max(0, min(step, done))

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest of the run, or an empty mapping if it cannot be read."""
        try:
            return read_manifest(self.reader.folder)
        except RunError:
            return {}

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The settings as JSON values, with the changes made up to the step."""
        config = dict(self.manifest.get("config") or {})
        config["objective"] = copied(config.get("objective") or {})
        for change in self.changes:
            for path, (_, value) in change.settings.items():
                put(config if path in config else config["objective"], path, value)
        return config

    @cached_property
    def changes(self) -> list[MadeChange]:
        """The changes made during the run before the step, oldest first; those made at the same step are merged.

        If the run failed right after the step, changes made in between are included.
        """
        edits = self.events("edit")
        counts = {int(detail.get("version", -1)): detail for detail in edits["detail"]}
        every = made_changes(self.reader.folder, self.manifest.get("config") or {}, counts)
        failed = self.step == self.reader.step and self.reader.status().get("state") == "failed"
        return [change for change in every if self.first_step <= change.after < self.step + failed]

    @cached_property
    def objective(self) -> Objective | None:
        """The objective with the parameters in use; None if it is unknown here."""
        from lab.objectives import make_objective  # imports pydantic, which reading a store does not need

        try:
            return make_objective(**self.config["objective"])
        except (ValueError, TypeError):
            return None

    @cached_property
    def twin_objectives(self) -> frozenset[str]:
        """Names of the objectives of the run's twins."""
        return objectives_of_twins(self.reader.folder)

    @cached_property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return str(self.reader.status().get("state")) in ENDED

    @property
    def first_step(self) -> int:
        """Optimizer steps done before this run's first one: 0, or the step at which it branched from its parent."""
        return int((self.manifest.get("branch") or {}).get("step", 0))

    @property
    def done(self) -> int:
        """Optimizer steps that this run itself has done, up to the step."""
        return max(0, self.step - self.first_step)

    @property
    def origin(self) -> str:
        """Phrase for what the log-probs of answers are compared with."""
        if not self.has_reference:
            return "that of the first steps"
        return "its parent's reference" if self.first_step else "its start"

    @property
    def has_reference(self) -> bool:
        """Whether log-ratios are recorded; without a reference, log-probs are compared with the first steps."""
        return self.now("log_ratio_chosen") is not None

    def setting(self, name: str, default: float) -> float:
        """Return a numeric setting of the run, or `default` if it has none."""
        value = self.config.get(name)
        return float(value) if isinstance(value, (int, float)) else default

    # Series: exact at the beginning and the end, thinned over the whole run.

    @property
    def window(self) -> int:
        """Number of latest steps that count as now."""
        return min(50, max(8, self.done // 5))

    @cached_property
    def _now(self) -> pd.DataFrame:
        return self.reader.scalars.read(SERIES, first=max(self.first_step + 1, self.step - self.window + 1), last=self.step)

    @property
    def settled(self) -> int:
        """Step since which the objective has its present parameters: that of their last change, or the first step."""
        return max([self.first_step, *(change.after for change in self.changes if change.parameters)])

    def _first(self, after: int) -> pd.DataFrame:
        last = after + min(20, max(FEWEST, (self.step - after) // 10))
        return self.reader.scalars.read(SERIES, first=after + 1, last=min(last, self.step))

    @cached_property
    def _starts(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scalars of the first steps of the run, and of those after the last change of the objective's parameters."""
        first = self._first(self.first_step)
        return first, first if self.settled == self.first_step else self._first(self.settled)

    def now(self, name: str) -> Level | None:
        """Return the level of a series in the latest steps."""
        return level(self._now[name])

    def start(self, name: str) -> Level | None:
        """Return the level of a series in the first steps, or after the last change of its scale (see SCALED).

        None while these steps are still among the latest.
        """
        after = self.settled if name in SCALED else self.first_step
        if self.step - after < 2 * FEWEST + self.window:
            return None
        return level(self._starts[name in SCALED][name])

    def recent(self, name: str, steps: int | None = None) -> pd.Series:
        """Return the recorded values, NaN included, of the latest `steps` steps (None: those of the window)."""
        first = max(self.first_step + 1, self.step - (steps or self.window) + 1)
        return self.reader.scalars.read([name], first=first, last=self.step)[name]

    def evaluations(self, name: str) -> pd.Series:
        """Return a scalar of the evaluations up to the step, without NaN, thinned for a long run."""
        return self.reader.scalars.read([name], first=0, last=self.step, points=CURVE_POINTS)[name].dropna()

    def since(self, name: str, above: float) -> int:
        """Return the step since which a smoothed series has stayed below a value; the first step if it always was."""
        curve = self.reader.scalars.read([name], first=self.first_step, last=self.step, points=CURVE_POINTS)[name].dropna()
        if curve.empty:
            return self.step
        smooth = curve.rolling(9, center=True, min_periods=1).median()
        before = smooth.index[smooth.to_numpy() >= above]
        return int(before[-1]) if len(before) else int(curve.index[0])

    @cached_property
    def tokens(self) -> float:
        """Average number of tokens per answer; 1 if it is not recorded."""
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
        """The pairs of the latest stored batches: pair, step, version and one column per term."""
        most = max(BATCHES, math.ceil(PAIRS / max(1.0, self.setting("batch_size", 1))))
        return self.reader.pairs.batches(most, self.step)

    def term(self, name: str) -> np.ndarray:
        """Return a term of the latest pairs, [n]; empty if the run has no such term."""
        return self.pairs[name].to_numpy(np.float64) if name in self.pairs else np.empty(0)

    def worst(self, score: np.ndarray) -> tuple[str, ...]:
        """Return the ids of the latest pairs with the lowest scores [n], without repetition and non-finite scores."""
        order = [i for i in np.argsort(score, kind="stable") if np.isfinite(score[i])]
        return tuple(dict.fromkeys(self.pairs["pair"].iloc[order]))[:NAMED]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The latest probes of the gradient, from the shortest range of latest steps that has any."""
        reach = self.window
        while True:
            probes = self.reader.layers.read(first=max(0, self.step - reach + 1), last=self.step)
            if len(probes) or reach >= self.step:
                return probes
            reach *= 8

    def events(self, kind: str) -> pd.DataFrame:
        """Return the events of one kind up to the step."""
        events = self.reader.events.read(kind)
        return events[events["step"] <= self.step]
