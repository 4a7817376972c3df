"""Some runs side by side, read from their stores; what is made of that are the pure functions beside this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lab.monitor import SCREEN_POINTS, RunError
from lab.run import Run, open_run

from . import answers, matching, numbers, pairwise, settings
from .axes import AXES, by, interpolated, pairs_seen

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST = 8
"""Runs that are compared at once; more colours and dashes nobody could tell apart."""

CHECKED = 200
"""Steps whose batches are compared, at most, evenly from all that both runs have made."""


def compare(runs: Sequence[Run | str | Path]) -> Comparison:
    """Lay one to eight runs side by side; each a run, its folder, or its name among `lab.runs()`.

    both = lab.compare([run, "20260101-120000-dpo"])
    both.figure("eval/oracle_reward", by="kl").show()
    both.settings(); both.numbers(); both.pairs("log_ratio_chosen"); both.data(["loss"])

    Raises RunError for no runs, more than eight, or one that is given twice.
    """
    return Comparison([run if isinstance(run, Run) else open_run(run) for run in runs])


class Comparison:
    """Some runs side by side. `refresh()` looks at them anew; between refreshes nothing changes, and nothing is read twice.

    labels: how the runs are called, in their order: a letter and the run's name, or its objective.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        folders = [run.dir.resolve() for run in runs]
        if not 1 <= len(runs) <= MOST:
            raise RunError(f"Choose one to {MOST} runs to lay side by side; these are {len(runs)}.")
        if len(set(folders)) < len(folders):
            raise RunError("A run that is given twice cannot be compared with itself; give each run once.")
        self.runs = list(runs)
        self.labels = [f"{chr(65 + number)} {label(run)}" for number, run in enumerate(runs)]
        self._abouts = [run.about for run in runs]
        self._kept: dict[tuple[int, str], tuple[tuple[int, int], pd.Series]] = {}
        self._events: dict[int, pd.DataFrame] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the runs anew; of one that has not moved nothing is read again."""
        self.steps = [run.step for run in self.runs]
        for number, run in enumerate(self.runs):
            self._events[number] = _read_on(run, self._events.get(number))

    def names(self) -> list[str]:
        """Every scalar that one of the runs has recorded."""
        return sorted({name for run in self.runs for name in run.reader.names()})

    # Curves.

    def scalar(self, number: int, name: str) -> pd.Series:
        """A scalar of one run by step: at most 1,000 points that keep its extremes, for `attrs["stands_for"]` values."""
        moment = self.steps[number], len(self._events[number])  # the last look comes after the last step
        known, kept = self._kept.get((number, name), ((-1, -1), pd.Series(dtype=np.float64)))
        if moment != known:
            frame = self.runs[number].reader.scalars([name], points=SCREEN_POINTS)
            kept = frame[name].dropna()
            counted: Mapping[str, int] = frame.attrs.get("stands_for", {})
            kept.attrs = {"stands_for": int(counted.get(name, len(kept)))}
            self._kept[number, name] = moment, kept
        return kept

    def curve(self, number: int, name: str, axis: str = "step") -> pd.DataFrame:
        """A scalar of one run by an axis: index by `by`, columns value, mean (its moving mean), low and high (the 95 % interval
        where looks have one), step. attrs: stands_for, and window, the width of the mean in points."""
        values = self.scalar(number, name)
        window = 1 if name.startswith("eval/") else min(max(len(values) // 40, 1), 500)
        frame = pd.DataFrame({"value": values, "mean": values.rolling(window, min_periods=1).mean()})
        frame = frame.join(self._interval(number, name), how="left") if name in numbers.INTERVALS else frame
        frame.index.name = "step"
        if axis == "kl":  # a point is a look, and one step's value is not worth more than those around it
            frame["value"] = frame["mean"]
        found = by(frame, axis, self._places(number, frame, axis))
        found.attrs = {"stands_for": values.attrs["stands_for"], "window": window}
        return found

    def curves(self, name: str, axis: str = "step") -> dict[str, pd.DataFrame]:
        """A scalar of every run that has it by an axis, by the runs' labels; see `curve`."""
        found = {label: self.curve(number, name, axis) for number, label in enumerate(self.labels)}
        return {label: frame for label, frame in found.items() if len(frame)}

    def difference(self, name: str, axis: str = "step") -> pd.DataFrame:
        """The first run less the second: index by the axis, columns value, mean, step.

        At every step that both have recorded, while the screen holds them all; of longer runs their moving means are compared, at
        1,000 steps. By KL: at 200 distances that both have reached, each run at the step where it first reached it.
        """
        one, other = (self._means(number, name) for number in (0, 1))
        if one.empty or other.empty:
            return pd.DataFrame({"value": [], "mean": [], "step": []}, dtype=np.float64)
        if axis == "kl":
            return self._difference_by_kl(name)
        if max(one.attrs["stands_for"], other.attrs["stands_for"]) <= SCREEN_POINTS:
            steps = one.index.intersection(other.index)
        else:
            low, high = max(one.index[0], other.index[0]), min(one.index[-1], other.index[-1])
            steps = pd.Index(np.unique(np.linspace(low, high, SCREEN_POINTS).astype(np.int64))) if high >= low else one.index[:0]
        columns = ("value", "mean") if len(steps) and steps.isin(one.index).all() and steps.isin(other.index).all() else ("mean",)
        sides = [interpolated(frame, steps.to_numpy()) for frame in (one, other)]
        found = pd.DataFrame({column: sides[0][column] - sides[1][column] for column in ("value", "mean")})
        if "value" not in columns:
            found["value"] = found["mean"]
        return by(found, axis, self._places(0, found, axis))

    def _difference_by_kl(self, name: str) -> pd.DataFrame:
        distances = {label: self.scalar(number, "eval/kl") for number, label in enumerate(self.labels[:2])}
        top = matching.common_reach(distances)
        if not top > 0:
            return pd.DataFrame({"value": [], "mean": [], "step": []}, dtype=np.float64)
        frames = {label: self._means(number, name)[["mean"]] for number, label in enumerate(self.labels[:2])}
        rows = []
        for target in np.linspace(0, top, 200):
            at = matching.at_kl(frames, distances, float(target))
            rows.append((target, at["mean"].iloc[0] - at["mean"].iloc[1], at["step"].iloc[0]))
        frame = pd.DataFrame(rows, columns=["kl", "mean", "step"]).set_index("kl").dropna(subset="mean")
        return frame.assign(value=frame["mean"])

    def _means(self, number: int, name: str) -> pd.DataFrame:
        frame = self.curve(number, name)
        return frame[["value", "mean"]].set_axis(pd.Index(frame["step"], name="step")).pipe(_with_attrs, frame.attrs)

    def _places(self, number: int, frame: pd.DataFrame, axis: str) -> pd.Series | None:
        if axis == "pairs":
            about = self._abouts[number]
            told = about.get("branch")
            start, before = (told["step"], told["settings"]["batch_size"]) if told else (0, None)
            steps = frame.index.to_numpy(np.int64)
            return pd.Series(pairs_seen(steps, about["config"]["batch_size"], start=start, before=before), index=frame.index)
        scalar = AXES[axis].scalar if axis in AXES else ""
        return self.scalar(number, scalar) if scalar else None

    def _interval(self, number: int, name: str) -> pd.DataFrame:
        """The ends of a scalar's 95 % interval at the looks that have one."""
        key = numbers.INTERVALS[name]
        looks = self.looks(number)
        ends = [f"{key}_low", f"{key}_high"]
        found = {step: [detail[end] for end in ends] for step, detail in looks.items() if all(end in detail for end in ends)}
        return pd.DataFrame.from_dict(found, orient="index", columns=["low", "high"])

    # Looks.

    def looks(self, number: int) -> dict[int, dict[str, Any]]:
        """What one run's looks found, by step."""
        events = self._events[number]
        return {int(step): detail for step, detail in zip(events["step"], events["detail"])}

    def numbers(self) -> pd.DataFrame:
        """The numbers of every run's latest look, with 95 % intervals; see `lab.comparing.numbers.numbers`."""
        latest = {label: self.looks(number) for number, label in enumerate(self.labels)}
        return numbers.numbers({label: looks[max(looks)] if looks else {} for label, looks in latest.items()})

    def at_kl(self, target: float | None = None, names: Sequence[str] | None = None) -> pd.DataFrame:
        """What the runs are at the same distance from the reference: one row a run, `step` and a column a scalar.

        target: nats an answer; None: the largest that all have reached.   names: scalars; None: the measures of the looks.
        """
        distances = {label: self.scalar(number, "eval/kl") for number, label in enumerate(self.labels)}
        there = set(self.names())
        wanted = [m.scalar for m in numbers.MEASURES if m.scalar in there] if names is None else list(names)
        frames = {
            label: pd.DataFrame({name: self._means(number, name)["mean"] for name in wanted}).sort_index()
            for number, label in enumerate(self.labels)
        }
        return matching.at_kl(frames, distances, matching.common_reach(distances) if target is None else target)

    def answers(self, prompt: str | None = None, step: int | None = None) -> pd.DataFrame:
        """Sampled answers to one held-out prompt (None: the first) of the reference and every run; see `answers.side_by_side`."""
        samples = self.samples()
        asked = prompt if prompt is not None else next(iter(answers.prompts(samples)), "")
        return answers.side_by_side(samples, asked, step)

    def samples(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """The sampled answers of every run's looks, by label and step."""
        return {label: answers.samples_of(self._events[number]) for number, label in enumerate(self.labels)}

    # Settings and pairs.

    def settings(self) -> pd.DataFrame:
        """What was set, a row a setting, a column a run, and whether it is the same; what differs comes first."""
        return settings.difference(
            dict(zip(self.labels, self._abouts)), {label: run.changes() for label, run in zip(self.labels, self.runs)}
        )

    def last_common_step(self) -> int:
        """The last step that all runs have made."""
        return min(self.steps)

    def pairs(self, term: str, *, held_out: bool = False, step: int | None = None) -> pd.DataFrame:
        """A term of every pair in the first run and in the second, as each was last seen up to `step` (None: the last step both
        have made); the largest difference first. See `lab.comparing.pairwise.term_by_pair`."""
        last = self.last_common_step() if step is None else step
        one, other = (run.reader.held_out(last) if held_out else run.reader.pairs(last) for run in self.runs[:2])
        return pairwise.term_by_pair(one, other, term)

    def pair(self, pair: str) -> dict[str, pd.DataFrame]:
        """One pair's terms at every step at which each run has seen it, by label, index `step`."""
        return {label: run.reader.pair_history(pair).set_index("step") for label, run in zip(self.labels, self.runs)}

    def terms(self) -> list[str]:
        """The pair terms that all runs record."""
        found = [run.reader.batch(step).columns for run, step in zip(self.runs, self.steps)]
        shared = [name for name in found[0] if all(name in other for other in found[1:])]
        return [name for name in shared if name not in ("pair", "step", "version")]

    def batches(self, checked: int = CHECKED) -> pairwise.Batches:
        """Whether the first two runs saw the same pairs at the same steps: every step of both up to `checked`, beyond that evenly
        many of them."""
        begin = max(self._first_step(number) for number in (0, 1))
        last = min(self.steps[:2])
        if last < begin:
            return pairwise.compare_batches([])
        steps = np.unique(np.linspace(begin, last, min(checked, last - begin + 1)).astype(np.int64)).tolist()
        one, other = (run.reader for run in self.runs[:2])
        return pairwise.compare_batches((step, one.batch(step), other.batch(step)) for step in steps)

    def _first_step(self, number: int) -> int:
        told = self._abouts[number].get("branch")
        return (told["step"] if told else 0) + 1

    def are_twins(self) -> bool:
        """Whether the first two runs were made as twins."""
        return len(self.runs) >= 2 and self.runs[1].dir.resolve() in {twin.dir.resolve() for twin in self.runs[0].twins}

    # Out of here.

    def data(self, names: Sequence[str], axis: str = "step") -> pd.DataFrame:
        """What curves of some scalars are drawn from, long: run (folder), label, scalar, axis, x, step, value, mean, low, high."""
        parts = []
        for name in names:
            for number, (run, label) in enumerate(zip(self.runs, self.labels)):
                frame = self.curve(number, name, axis)
                columns = frame.reindex(columns=["step", "value", "mean", "low", "high"]).rename_axis("x").reset_index()
                parts.append(columns.assign(run=run.dir.name, label=label, scalar=name, axis=axis))
        order = ["run", "label", "scalar", "axis", "x", "step", "value", "mean", "low", "high"]
        return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)

    def figure(self, name: str, by: str = "step", *, dark: bool = False) -> go.Figure:
        """The curves of one scalar of all runs, against an axis of `lab.comparing.AXES`."""
        from lab.plots.overlay import overlay

        return overlay(self.curves(name, by), name, labels=self.labels, axis=AXES[by].title, dark=dark)

    def difference_figure(self, name: str, by: str = "step", *, dark: bool = False) -> go.Figure:
        """The first run less the second, with a line at zero."""
        from lab.plots.overlay import difference

        return difference(self.difference(name, by), name, labels=self.labels[:2], axis=AXES[by].title, dark=dark)


def label(run: Run) -> str:
    """What a run is called beside others: its name, or its objective where nobody gave it one."""
    config = run.about["config"]
    return config["name"] or config["objective"]["name"]


def _with_attrs(frame: pd.DataFrame, attrs: Mapping[Any, Any]) -> pd.DataFrame:
    frame.attrs = dict(attrs)
    return frame


def _read_on(run: Run, known: pd.DataFrame | None) -> pd.DataFrame:
    """A run's evaluation events; those that are known are read no second time, unless the run went back behind them."""
    if known is not None and len(known):
        last = known.iloc[-1]
        new = run.reader.events("evaluation", after=int(last["number"]) - 1)
        if len(new) and new["time"].iloc[0] == last["time"]:
            return pd.concat([known, new.iloc[1:]], ignore_index=True) if len(new) > 1 else known
    return run.reader.events("evaluation")
