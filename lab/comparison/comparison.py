"""Compare several runs, reading from their stores what the pure functions of this package need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from lab.glossary import entry
from lab.run.handle import Run, open_run
from lab.store import SCREEN_POINTS, RunError

from . import answers, matching, numbers, pairwise, settings
from .axes import AXES, by, interpolated, pairs_seen, require_recorded
from .reading import column, read_events, window_width, with_attrs

if TYPE_CHECKING:
    import plotly.graph_objects as go

CHECKPOINTS = 12
"""At most this many checkpoints per run are marked in figures. Evaluations are not marked, because the curves show them."""

T = TypeVar("T")

MOST = 8
"""At most this many runs are compared, because more colours and dashes cannot be told apart."""

CHECKED = 200
"""At most this many steps, evenly spaced, have their batches compared."""


def compare(runs: Sequence[Run | str | Path]) -> Comparison:
    """Compare one to eight runs.

    Args:
        runs: Each a run, its folder, or its name as in `lab.runs()`.

    Raises:
        RunError: No run is given, more than eight, or one twice.

    Example:
        both = lab.compare([run, "20260101-120000-dpo"])
        both.figure("eval/oracle_reward", by="kl").show()
        both.settings(); both.numbers(); both.pairs("log_ratio_chosen"); both.data(["loss"])
    """
    return Comparison([run if isinstance(run, Run) else open_run(run) for run in runs])


class Comparison:
    """Several runs side by side. Data is cached until `refresh()`, which reads what is new.

    Attributes:
        runs: The runs.
        labels: Label of each run: a letter and its name, or its objective if it has no name.
        steps: Step of each run at the last refresh.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        folders = [run.dir.resolve() for run in runs]
        if not 1 <= len(runs) <= MOST:
            raise RunError(f"Choose one to {MOST} runs to compare; {len(runs)} are given.")
        if len(set(folders)) < len(folders):
            raise RunError("A run is given twice, and a run cannot be compared with itself; give each run once.")
        self.runs = list(runs)
        self.labels = [f"{chr(65 + number)} {label(run)}" for number, run in enumerate(runs)]
        self._manifests = [run.manifest for run in runs]
        self._kept: dict[Any, tuple[tuple[int, int], Any]] = {}
        self._events: dict[int, pd.DataFrame] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the current step and the new events of every run."""
        self.steps = [run.step for run in self.runs]
        for number, run in enumerate(self.runs):
            self._events[number] = read_events(run, self._events.get(number))

    def names(self) -> list[str]:
        """Return the names of the scalars that any of the runs has recorded."""
        return sorted({name for run in self.runs for name in run.reader.scalars.names()})

    # Curves.

    def scalar(self, number: int, name: str, *, whole: bool = False) -> pd.Series:
        """Return a scalar of one run by step.

        At most 1,000 points that keep the extremes, or every recorded value with `whole`; `attrs["stands_for"]` is the number of
        recorded values.
        """
        if whole:
            return column(self.runs[number].reader.scalars.read([name]), name)
        return self._once(number, name, lambda: column(self.runs[number].reader.scalars.read([name], points=SCREEN_POINTS), name))

    def _mean(self, number: int, name: str, width: int, points: int) -> pd.Series:
        """Return the mean of the last `width` values at up to `points` steps; the points of `scalar` are extremes."""
        return column(self.runs[number].reader.scalars.means([name], width=width, points=points), name)

    def _once(self, number: int, key: Any, read: Callable[[], T]) -> T:
        """Return the result of `read`, cached until the run has a new step or event."""
        moment = self.steps[number], len(self._events[number])  # the last evaluation comes after the last step
        known, kept = self._kept.get((number, key), ((-1, -1), None))
        if moment != known:
            kept = read()
            self._kept[number, key] = moment, kept
        return kept

    def curve(self, number: int, name: str, axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return a scalar of one run by an axis.

        Args:
            number: Position of the run.
            name: Name of the scalar.
            axis: Name of an axis in `lab.comparison.AXES`.
            whole: Return every recorded value. Otherwise at most 1,000: if more were recorded, `value` holds extremes and `mean`
                the moving mean, each at its own steps, so that a row lacks one or the other.

        Returns:
            Index: position on the axis; columns value, mean (moving mean), step and, if measured, low and high (95 % interval).
            `attrs["stands_for"]` is the number of recorded values (by KL: of evaluations), `attrs["window"]` the width of the mean.
        """
        values = self.scalar(number, name, whole=whole)
        window = window_width(name, values.attrs["stands_for"])
        means = values
        if window > 1 and whole:
            means = self._mean(number, name, window, values.attrs["stands_for"])
        elif window > 1:
            means = self._once(number, (name, "mean"), lambda: self._mean(number, name, window, SCREEN_POINTS))
        frame = pd.concat({"value": values, "mean": means}, axis=1).sort_index()
        frame = frame.join(self._interval(number, name), how="left") if name in numbers.INTERVALS else frame
        frame.index.name = "step"
        if axis == "kl":  # the value at the single step of an evaluation would be noisy
            frame["value"] = frame["mean"]
        curve = by(frame, axis, self._places(number, frame, axis, whole))
        attrs = {"stands_for": values.attrs["stands_for"], "window": window}
        return with_attrs(curve, attrs | ({"stands_for": len(curve), "of": ("evaluation", "evaluations")} if axis == "kl" else {}))

    def curves(self, name: str, axis: str = "step") -> dict[str, pd.DataFrame]:
        """Return a scalar of every run that has it, by the run's label; see `curve`."""
        curves = {label: self.curve(number, name, axis) for number, label in enumerate(self.labels)}
        return {label: frame for label, frame in curves.items() if len(frame)}

    def difference(self, name: str, axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return a scalar of the first run minus that of the second: index and attrs as in `curve`, columns value, mean, step.

        Up to 1,000 recorded steps (or with `whole`) every step that both runs recorded is compared; in longer runs the moving means
        at 1,000 steps. By KL: at 200 distances that both runs have reached, each at the step where it first reached them.
        """
        one, other = (self._means(number, name, whole) for number in (0, 1))
        if one.empty or other.empty:
            return pd.DataFrame({"value": [], "mean": [], "step": []}, dtype=np.float64)
        if axis == "kl":
            return self._difference_by_kl(name)
        counts = [frame.attrs["stands_for"] for frame in (one, other)]
        if whole or max(counts) <= SCREEN_POINTS:
            steps = one.index[one["value"].notna()].intersection(other.index[other["value"].notna()])
            counts = [len(steps)]
        else:
            low, high = max(one.index[0], other.index[0]), min(one.index[-1], other.index[-1])
            steps = pd.Index(np.unique(np.linspace(low, high, SCREEN_POINTS).astype(np.int64))) if high >= low else one.index[:0]
            one, other = (frame.assign(value=frame["mean"]) for frame in (one, other))
        sides = [interpolated(frame, steps.to_numpy()) for frame in (one, other)]
        less = by(sides[0] - sides[1], axis, self._places(0, sides[0], axis, whole))
        return with_attrs(less, {"stands_for": min(counts), "window": min(frame.attrs["window"] for frame in (one, other))})

    def _difference_by_kl(self, name: str) -> pd.DataFrame:
        distances = {label: self.scalar(number, "eval/kl") for number, label in enumerate(self.labels[:2])}
        top = matching.common_reach(distances)
        if not top > 0:
            return pd.DataFrame({"value": [], "mean": [], "step": []}, dtype=np.float64)
        targets = np.linspace(0, top, 200)
        steps = [np.array([matching.first_reach(kl, target) for target in targets]) for kl in distances.values()]
        one, other = (interpolated(self._means(number, name)[["mean"]], at)["mean"] for number, at in enumerate(steps))
        frame = pd.DataFrame({"mean": one.to_numpy() - other.to_numpy(), "step": steps[0]}, index=pd.Index(targets, name="kl"))
        frame = frame.dropna(subset="mean")
        return with_attrs(frame.assign(value=frame["mean"]), {"stands_for": len(frame), "of": ("distance", "distances")})

    def _means(self, number: int, name: str, whole: bool = False) -> pd.DataFrame:
        frame = self.curve(number, name, whole=whole)
        return frame[["value", "mean"]].set_axis(pd.Index(frame["step"], name="step")).pipe(with_attrs, frame.attrs)

    def _places(self, number: int, frame: pd.DataFrame, axis: str, whole: bool = False) -> pd.Series | None:
        if axis == "pairs":
            manifest = self._manifests[number]
            branch = manifest.get("branch")
            start, before = (branch["step"], branch["settings"]["batch_size"]) if branch else (0, None)
            steps = frame.index.to_numpy(np.int64)
            return pd.Series(pairs_seen(steps, manifest["config"]["batch_size"], start=start, before=before), index=frame.index)
        scalar = AXES[axis].scalar if axis in AXES else ""
        return self.scalar(number, scalar, whole=whole) if scalar else None

    def _interval(self, number: int, name: str) -> pd.DataFrame:
        """Return the ends of a scalar's 95 % interval at the evaluations that measured one."""
        key = numbers.INTERVALS[name]
        ends = [f"{key}_low", f"{key}_high"]
        rows = {
            step: [detail[end] for end in ends]
            for step, detail in self.evaluations(number).items()
            if all(end in detail for end in ends)
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["low", "high"])

    # Evaluations.

    def evaluations(self, number: int) -> dict[int, dict[str, Any]]:
        """Return the details of one run's evaluation events, by step."""
        events = self._evaluations(number)
        return {int(step): detail for step, detail in zip(events["step"], events["detail"])}

    def _evaluations(self, number: int) -> pd.DataFrame:
        events = self._events[number]
        return events[events["kind"] == "evaluation"]

    def numbers(self) -> pd.DataFrame:
        """Return the results of every run's latest evaluation with 95 % intervals; see `lab.comparison.numbers.numbers`."""
        by_run = {label: self.evaluations(number) for number, label in enumerate(self.labels)}
        return numbers.numbers({label: details[max(details)] if details else {} for label, details in by_run.items()})

    def at_kl(self, target: float | None = None, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the values of the runs at the same distance from the reference: one row per run, `step` and one column per scalar.

        Args:
            target: Distance in nats per answer; None: the largest that all runs have reached.
            names: Scalars; None: the measures of the evaluations.

        Raises FigureError for a scalar that no run has recorded.
        """
        require_recorded(names or [], self.names())
        distances = {label: self.scalar(number, "eval/kl") for number, label in enumerate(self.labels)}
        recorded = set(self.names())
        wanted = [name for name in numbers.MEASURES if name in recorded] if names is None else list(names)
        frames = {
            label: pd.DataFrame({name: self._means(number, name)["mean"] for name in wanted}).sort_index()
            for number, label in enumerate(self.labels)
        }
        return matching.at_kl(frames, distances, matching.common_reach(distances) if target is None else target)

    def answers(self, prompt: str | None = None, step: int | None = None) -> pd.DataFrame:
        """Return the answers of the reference and every run to a held-out prompt (None: the first); see `answers.side_by_side`."""
        samples = self.samples()
        chosen = prompt if prompt is not None else next(iter(answers.prompts(samples)), "")
        return answers.side_by_side(samples, chosen, step)

    def samples(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """Return the sampled answers of every run's evaluations, by label and step."""
        return {label: answers.samples_of(self._evaluations(number)) for number, label in enumerate(self.labels)}

    # Settings and pairs.

    def settings(self) -> pd.DataFrame:
        """Return the settings of the runs as a table, those that differ first; see `lab.comparison.settings.difference`."""
        return settings.difference(
            dict(zip(self.labels, self._manifests)), {label: run.changes() for label, run in zip(self.labels, self.runs)}
        )

    def last_common_step(self) -> int:
        """Return the last step that all runs have reached."""
        return min(self.steps)

    def pairs(self, term: str, *, held_out: bool = False, step: int | None = None) -> pd.DataFrame:
        """Return a term of every pair under the first two runs, the largest difference first.

        See `lab.comparison.pairwise.term_by_pair` for the columns.

        Args:
            term: Name of the term.
            held_out: Compare the held-out pairs instead of those trained on.
            step: Compare the latest values up to this step; None: the last step that all runs have reached.
        """
        last = self.last_common_step() if step is None else step
        one, other = (run.reader.held_out.latest(last) if held_out else run.reader.pairs.latest(last) for run in self.runs[:2])
        return pairwise.term_by_pair(one, other, term)

    def pair(self, pair: str, points: int | None = None) -> dict[str, pd.DataFrame]:
        """Return the history of one pair under every run, by label; index `step`, see `PairReader.history`.

        Args:
            pair: Id of the pair.
            points: At most this many rows per run, evenly spaced; None: all.
        """
        histories = {label: run.reader.pairs.history(pair, points=points) for label, run in zip(self.labels, self.runs)}
        return {label: with_attrs(history.set_index("step"), history.attrs) for label, history in histories.items()}

    def terms(self) -> list[str]:
        """Return the names of the pair terms that all runs record."""
        recorded = [run.reader.pairs.batch(step).columns for run, step in zip(self.runs, self.steps)]
        shared = [name for name in recorded[0] if all(name in other for other in recorded[1:])]
        return [name for name in shared if name not in ("pair", "step", "version")]

    def batches(self, checked: int = CHECKED) -> pairwise.Batches:
        """Return whether the first two runs trained on the same pairs, at up to `checked` evenly spaced common steps."""
        begin = max(self._first_step(number) for number in (0, 1))
        last = min(self.steps[:2])
        if last < begin:
            return pairwise.compare_batches([])
        steps = np.unique(np.linspace(begin, last, min(checked, last - begin + 1)).astype(np.int64)).tolist()
        one, other = (run.reader.pairs for run in self.runs[:2])
        return pairwise.compare_batches((step, one.batch(step), other.batch(step)) for step in steps)

    def _first_step(self, number: int) -> int:
        branch = self._manifests[number].get("branch")
        return (branch["step"] if branch else 0) + 1

    def are_twins(self) -> bool:
        """Return whether the first two runs are twins."""
        return len(self.runs) >= 2 and self.runs[1].dir.resolve() in {twin.dir.resolve() for twin in self.runs[0].twins}

    # Data and figures.

    def data(self, names: Sequence[str], axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return the data behind the curves of some scalars in long form.

        Args:
            names: Names of the scalars.
            axis: Name of an axis in `lab.comparison.AXES`.
            whole: Return every recorded value instead of at most 1,000 per curve.

        Returns:
            A frame with run (folder name), label, scalar, axis, x, step, value, mean, low, high.
        """
        parts = []
        for name in names:
            for number, (run, label) in enumerate(zip(self.runs, self.labels)):
                frame = self.curve(number, name, axis, whole=whole)
                columns = frame.reindex(columns=["step", "value", "mean", "low", "high"]).rename_axis("x").reset_index()
                parts.append(columns.assign(run=run.dir.name, label=label, scalar=name, axis=axis))
        order = ["run", "label", "scalar", "axis", "x", "step", "value", "mean", "low", "high"]
        return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)

    def pair_data(self, pair: str, terms: Sequence[str]) -> pd.DataFrame:
        """Return the whole history of one pair under every run: run (folder), label, pair, step, version, one column per term."""
        parts = [
            frame.reset_index().assign(run=run.dir.name, label=label, pair=pair)
            for run, (label, frame) in zip(self.runs, self.pair(pair).items())
        ]
        return pd.concat(parts, ignore_index=True).reindex(columns=["run", "label", "pair", "step", "version", *terms])

    def marked(self, axis: str = "step") -> dict[str, pd.DataFrame]:
        """Return the events of each run that figures mark, by label: the columns of `Run.events`, `message`, `x` (axis position).

        A run without a known position on the axis is left out.
        """
        by_run = {
            label: self._once(number, ("marked", axis), partial(self._marked, number, axis))
            for number, label in enumerate(self.labels)
        }
        return {label: events for label, events in by_run.items() if len(events)}

    def _marked(self, number: int, axis: str) -> pd.DataFrame:
        from lab.plots.marks import notable

        events = notable(self._events[number], clocked=("checkpoint",), quiet=CHECKPOINTS)
        if axis == "step":
            return events.assign(x=events["step"])
        steps = pd.DataFrame(index=pd.Index(events["step"].to_numpy(np.int64)))
        known = self._places(number, steps, axis)
        known = pd.Series(dtype=np.float64) if known is None else known.dropna()
        if known.empty or events.empty:
            return events.iloc[:0].assign(x=np.empty(0))
        return events.assign(x=np.interp(steps.index, known.index.to_numpy(np.float64), known.to_numpy(np.float64)))

    def figure(self, name: str, by: str = "step", *, dark: bool = False) -> go.Figure:
        """Return a figure with the curves of one scalar of all runs.

        Args:
            name: Name of the scalar.
            by: Name of an axis in `lab.comparison.AXES`.
            dark: Use a dark background.

        Raises FigureError for a scalar that no run has recorded, or an unknown axis.
        """
        from lab.plots.comparison.overlay import overlay
        from lab.plots.style import with_background

        require_recorded([name], self.names(), by)
        events = self.marked(by)
        drawn = overlay(self.curves(name, by), name, labels=self.labels, axis=AXES[by].title, events=events, dark=dark)
        return with_background(drawn, dark)

    def difference_figure(self, name: str, by: str = "step", *, dark: bool = False) -> go.Figure:
        """Return a figure of a scalar of the first run minus that of the second, with a line at zero; arguments as in `figure`."""
        from lab.plots.comparison.overlay import difference
        from lab.plots.style import with_background

        require_recorded([name], self.names(), by, compared=len(self.runs))
        events = {label: marked for label, marked in self.marked(by).items() if label in self.labels[:2]}
        title = f"{entry(name).title}: {' − '.join(label.split()[0] for label in self.labels[:2])}"  # a whole label has no room
        drawn = difference(
            self.difference(name, by), name, labels=self.labels[:2], axis=AXES[by].title, title=title, events=events, dark=dark
        )
        return with_background(drawn, dark)


def label(run: Run) -> str:
    """Return a run's name, or its objective if it has no name of its own."""
    config = run.manifest["config"]
    return config["name"] or config["objective"]["name"]
