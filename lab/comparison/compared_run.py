"""One run of a comparison: its curves on any axis, its evaluations and its marked events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lab.run.handle import Run
from lab.store import SCREEN_POINTS

from . import answers, numbers
from .axes import AXES, by, pairs_seen
from .groups import OfExperiment
from .reading import column, read_events, window_width, with_attrs

CHECKPOINTS = 12
"""At most this many checkpoints per run are marked in figures. Evaluations are not marked, because the curves show them."""

T = TypeVar("T")


class ComparedRun:
    """A run of a comparison. Data is cached until `refresh()`, which reads what is new.

    Attributes:
        run: The run.
        manifest: Content of its `run.json`.
        step: Its step at the last refresh.
        moment: Step and number of events at the last refresh: they tell whether anything is new.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.manifest = run.manifest
        self._events: pd.DataFrame | None = None
        self._kept: dict[Any, tuple[tuple[int, int], Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the current step and the new events."""
        self.step = self.run.step
        self._events = read_events(self.run, self._events)
        self.moment = self.step, len(self._events)  # the last evaluation comes after the last step

    @property
    def name(self) -> str:
        """The run's name, or its objective if it was given no name."""
        config = self.manifest["config"]
        return str(self.run.labels.name or config["name"] or config["objective"]["name"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.manifest["config"]["seed"])

    @property
    def place(self) -> OfExperiment:
        """The run's place in the experiment that it belongs to."""
        own = self.manifest.get("experiment", {})
        return OfExperiment(own.get("name", ""), own.get("variant", ""), tuple(own.get("with_seed", ())))

    @property
    def first_step(self) -> int:
        """The first step that the run trained itself: 1, or that after the step of its parent at which it branched."""
        branch = self.manifest.get("branch")
        return (branch["step"] if branch else 0) + 1

    def scalar(self, name: str, *, whole: bool = False) -> pd.Series:
        """Return a scalar by step.

        At most 1,000 points that keep the extremes, or every recorded value with `whole`; `attrs["stands_for"]` is the number of
        recorded values.
        """
        if whole:
            return column(self.run.reader.scalars.read([name]), name)
        return self._once(name, lambda: column(self.run.reader.scalars.read([name], points=SCREEN_POINTS), name))

    def curve(self, name: str, axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return a scalar by an axis.

        Args:
            name: Name of the scalar.
            axis: Name of an axis in `lab.comparison.AXES`.
            whole: Return every recorded value. Otherwise at most 1,000: if more were recorded, `value` holds extremes and `mean`
                the moving mean, each at its own steps, so that a row lacks one or the other.

        Returns:
            Index: position on the axis; columns value, mean (moving mean), step and, if measured, low and high (95 % interval).
            `attrs["stands_for"]` is the number of recorded values (by KL: of evaluations), `attrs["window"]` the width of the mean.
        """
        values = self.scalar(name, whole=whole)
        window = window_width(name, values.attrs["stands_for"])
        means = values
        if window > 1 and whole:
            means = self._mean(name, window, values.attrs["stands_for"])
        elif window > 1:
            means = self._once((name, "mean"), lambda: self._mean(name, window, SCREEN_POINTS))
        frame = pd.concat({"value": values, "mean": means}, axis=1).sort_index()
        frame = frame.join(self._interval(name), how="left") if name in numbers.INTERVALS else frame
        frame.index.name = "step"
        if axis == "kl":  # the value at the single step of an evaluation would be noisy
            frame["value"] = frame["mean"]
        curve = by(frame, axis, self.places(frame, axis, whole))
        attrs = {"stands_for": values.attrs["stands_for"], "window": window}
        return with_attrs(curve, attrs | ({"stands_for": len(curve), "of": ("evaluation", "evaluations")} if axis == "kl" else {}))

    def means(self, name: str, *, whole: bool = False) -> pd.DataFrame:
        """Return value and moving mean of a scalar by step, with the attrs of `curve`."""
        frame = self.curve(name, whole=whole)
        return frame[["value", "mean"]].set_axis(pd.Index(frame["step"], name="step")).pipe(with_attrs, frame.attrs)

    def _mean(self, name: str, width: int, points: int) -> pd.Series:
        """Return the mean of the last `width` values at up to `points` steps; the points of `scalar` are extremes."""
        return column(self.run.reader.scalars.means([name], width=width, points=points), name)

    def places(self, frame: pd.DataFrame, axis: str, whole: bool = False) -> pd.Series | None:
        """Return positions on an axis for the steps of a frame, or those recorded; None for the axis of the steps."""
        if axis == "pairs":
            branch = self.manifest.get("branch")
            start, before = (branch["step"], branch["settings"]["batch_size"]) if branch else (0, None)
            steps = frame.index.to_numpy(np.int64)
            return pd.Series(
                pairs_seen(steps, self.manifest["config"]["batch_size"], start=start, before=before), index=frame.index
            )
        scalar = AXES[axis].scalar if axis in AXES else ""
        return self.scalar(scalar, whole=whole) if scalar else None

    def _interval(self, name: str) -> pd.DataFrame:
        """Return the ends of a scalar's 95 % interval over prompts, at the evaluations that measured one."""
        key = numbers.INTERVALS[name]
        ends = [f"{key}_low", f"{key}_high"]
        rows = {
            step: [detail[end] for end in ends] for step, detail in self.evaluations().items() if all(end in detail for end in ends)
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["low", "high"])

    def evaluations(self) -> dict[int, dict[str, Any]]:
        """Return the details of the evaluation events, by step."""
        events = self._evaluations()
        return {int(step): detail for step, detail in zip(events["step"], events["detail"])}

    def samples(self) -> dict[int, list[dict[str, Any]]]:
        """Return the sampled answers of the evaluations, by step."""
        return answers.samples_of(self._evaluations())

    def _evaluations(self) -> pd.DataFrame:
        assert self._events is not None
        return self._events[self._events["kind"] == "evaluation"]

    def latest_pairs(self, last: int, held_out: bool) -> pd.DataFrame:
        """Return the latest row of every pair up to a step, of those trained on or held out."""
        return self.run.reader.held_out.latest(last) if held_out else self.run.reader.pairs.latest(last)

    def visits(self, last: int, held_out: bool) -> pd.DataFrame:
        """Return every stored row of the pairs up to a step, oldest first: held-out pairs at the evaluations after the first."""
        reader = self.run.reader
        return reader.held_out.read(first=self.first_step, last=last) if held_out else reader.pairs.read(last=last)

    def marked(self, axis: str = "step") -> pd.DataFrame:
        """Return the events that figures mark: the columns of `Run.events`, `message` and `x` (position on the axis).

        Empty if no position on the axis is known.
        """
        return self._once(("marked", axis), partial(self._marked, axis))

    def _marked(self, axis: str) -> pd.DataFrame:
        from lab.plots.marks import notable

        assert self._events is not None
        events = notable(self._events, clocked=("checkpoint",), quiet=CHECKPOINTS)
        if axis == "step":
            return events.assign(x=events["step"])
        steps = pd.DataFrame(index=pd.Index(events["step"].to_numpy(np.int64)))
        known = self.places(steps, axis)
        known = pd.Series(dtype=np.float64) if known is None else known.dropna()
        if known.empty or events.empty:
            return events.iloc[:0].assign(x=np.empty(0))
        return events.assign(x=np.interp(steps.index, known.index.to_numpy(np.float64), known.to_numpy(np.float64)))

    def _once(self, key: Any, read: Callable[[], T]) -> T:
        """Return the result of `read`, cached until the run has a new step or event."""
        known, kept = self._kept.get(key, ((-1, -1), None))
        if self.moment != known:
            kept = read()
            self._kept[key] = self.moment, kept
        return kept
