"""Compare several runs, reading from their stores what the pure functions of this package need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from lab.glossary import entry
from lab.run.handle import Run, open_run
from lab.store import RunError

from . import answers, group_curves, matching, numbers, pair_differences, pairwise, settings
from .axes import AXES, require_recorded
from .compared_run import ComparedRun
from .groups import Group, labelled, seed_groups, without_common_pairs
from .reading import with_attrs

if TYPE_CHECKING:
    import plotly.graph_objects as go

T = TypeVar("T")

MOST = 8
"""At most this many curves are compared, because more colours and dashes cannot be told apart; a group of seeds is one curve."""


def compare(runs: Sequence[Run | str | Path], *, group_seeds: bool = True) -> Comparison:
    """Compare runs: up to eight curves, each of one run or of runs that differ only in their seed.

    Args:
        runs: Each a run, its folder, or its name as in `lab.runs()`.
        group_seeds: Draw runs that differ only in their seed as one curve, their mean with a 95 % interval over the seeds.

    Raises:
        RunError: No run is given, one twice, or so many that they form more than eight curves.

    Example:
        both = lab.compare([run, "20260101-120000-dpo"])
        both.figure("eval/oracle_reward", by="kl").show()
        both.settings(); both.numbers(); both.pairs("log_ratio_chosen"); both.data(["loss"])
    """
    return Comparison([run if isinstance(run, Run) else open_run(run) for run in runs], group_seeds=group_seeds)


class Comparison:
    """Several runs side by side. Data is cached until `refresh()`, which reads what is new.

    Attributes:
        runs: The runs.
        groups: Runs that share a curve: those that differ only in their seed.
        labels: Label of each curve: a letter, name or objective, settings that tell namesakes apart, and the size of a group.
    """

    def __init__(self, runs: Sequence[Run], *, group_seeds: bool = True) -> None:
        folders = [run.dir.resolve() for run in runs]
        if not runs:
            raise RunError(f"Choose one to {MOST} runs to compare; none is given.")
        if len(set(folders)) < len(folders):
            raise RunError("A run is given twice, and a run cannot be compared with itself; give each run once.")
        self.runs = list(runs)
        self.group_seeds = group_seeds
        self._compared = [ComparedRun(run) for run in runs]
        self._kept: dict[Any, tuple[Any, Any]] = {}
        self._group()

    def refresh(self) -> None:
        """Read the current step, the new events and the changed settings of every run."""
        for compared in self._compared:
            compared.refresh()
        self._group()

    def _group(self) -> None:
        self._settings = [settings.settings_of(compared.manifest, compared.run.changes()) for compared in self._compared]
        self._places = [compared.place for compared in self._compared]
        members = seed_groups(self._settings, self._places) if self.group_seeds else [(number,) for number in range(len(self.runs))]
        if len(members) > MOST:
            of = "groups of seeds and single runs" if len(members) < len(self.runs) else "runs"
            raise RunError(f"Choose one to {MOST} runs or groups of seeds to compare; these are {len(members)} {of}.")
        objectives = [compared.manifest["config"]["objective"]["name"] for compared in self._compared]
        seeds = [compared.seed for compared in self._compared]
        names = [compared.name for compared in self._compared]
        self.groups: list[Group] = labelled(members, seeds, names, objectives, self._settings, self._places)
        self.labels = [group.label for group in self.groups]

    def has_seed_groups(self) -> bool:
        """Return whether some of the runs differ only in their seed, grouped or not."""
        return len(seed_groups(self._settings, self._places)) < len(self.runs)

    @property
    def steps(self) -> list[int]:
        """Step of each run at the last refresh."""
        return [compared.step for compared in self._compared]

    @property
    def run_labels(self) -> list[str]:
        """Label of each run: that of its curve or, in a group, its letter, name and seed."""
        labels = {member: label for group in self.groups for member, label in zip(group.members, group.member_labels)}
        return [labels[number] for number in range(len(self.runs))]

    def names(self) -> list[str]:
        """Return the names of the scalars that any of the runs has recorded."""
        return sorted({name for run in self.runs for name in run.reader.scalars.names()})

    def _of(self, number: int) -> list[ComparedRun]:
        """Return the runs of a group by its position."""
        return [self._compared[member] for member in self.groups[number].members]

    def _once(self, number: int, key: Any, read: Callable[[], T]) -> T:
        """Return the result of `read` for a group, cached until one of its runs has a new step or event."""
        moment = self.groups[number], [compared.moment for compared in self._of(number)]
        known, kept = self._kept.get((number, key), (None, None))
        if moment != known:
            kept = read()
            self._kept[number, key] = moment, kept
        return kept

    # Curves.

    def scalar(self, number: int, name: str) -> pd.Series:
        """Return a scalar of one run, by its position, by step; see `ComparedRun.scalar`."""
        return self._compared[number].scalar(name)

    def curve(self, number: int, name: str, axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return a scalar of one run or group by an axis.

        Args:
            number: Position of the curve among `labels`.
            name: Name of the scalar.
            axis: Name of an axis in `lab.comparison.AXES`.
            whole: Return every recorded value; otherwise at most 1,000.

        Returns:
            Of a single run: see `ComparedRun.curve`. Of a group, columns mean and value (mean over the runs of their moving means),
            step, low and high (95 % t interval of the mean over the runs) and runs (number of runs behind each value: fewer where
            a run has ended or has not come so far); `attrs["runs"]` is the number of all runs of the group.
        """
        members = self._of(number)
        if whole:
            return group_curves.group_curve(members, name, axis, whole=True)
        return self._once(number, (name, axis), lambda: group_curves.group_curve(members, name, axis))

    def curves(self, name: str, axis: str = "step") -> dict[str, pd.DataFrame]:
        """Return a scalar of every run or group that has it, by its label; see `curve`."""
        curves = {label: self.curve(number, name, axis) for number, label in enumerate(self.labels)}
        return {label: frame for label, frame in curves.items() if len(frame)}

    def single_curves(self, name: str, axis: str = "step") -> dict[str, dict[str, pd.DataFrame]]:
        """Return a scalar of every run of the groups, by the group's and the run's label; see `ComparedRun.curve`."""
        return {
            group.label: {label: member.curve(name, axis) for label, member in zip(group.member_labels, self._of(number))}
            for number, group in enumerate(self.groups)
            if not group.single
        }

    def difference(self, name: str, axis: str = "step", *, whole: bool = False, between: tuple[int, int] = (0, 1)) -> pd.DataFrame:
        """Return a scalar of one curve minus that of another (positions: `between`); see `group_curves.difference`."""
        return group_curves.difference(self._of(between[0]), self._of(between[1]), name, axis, whole=whole)

    def shared_seeds(self, between: tuple[int, int] = (0, 1)) -> list[int]:
        """Return the seeds within which two groups are compared in pairs; empty if they share fewer than two."""
        return group_curves.shared_seeds(self._of(between[0]), self._of(between[1]))

    # Evaluations.

    def evaluated(self, number: int) -> int | None:
        """Return the latest step at which all runs of a group were evaluated, by the group's position; None before the first."""
        steps = [set(member.evaluations()) for member in self._of(number)]
        return max(set.intersection(*steps), default=None)

    def numbers(self) -> pd.DataFrame:
        """Return the results of the latest evaluation of every run or group, and their difference if one of two is a group.

        See `lab.comparison.numbers` for the columns. Of a group: the latest evaluation that all its runs have done (`evaluated`).
        """
        values: dict[str, dict[int, Any]] = {}
        for number, group in enumerate(self.groups):
            step = self.evaluated(number)
            values[group.label] = {} if step is None else {run.seed: run.evaluations()[step] for run in self._of(number)}
        return self._less(numbers.numbers({label: [*details.values()] for label, details in values.items()}), [*values.values()])

    def _less(self, table: pd.DataFrame, values: Sequence[dict[int, Any]]) -> pd.DataFrame:
        """Add the difference of two curves to their numbers, if one is a group; values: of each curve, by seed and scalar."""
        if len(self.groups) != 2 or all(group.single for group in self.groups):
            return table
        letters = " − ".join(group.letter for group in self.groups)
        return pd.concat([table, numbers.difference(letters, values[0], values[1])], ignore_index=True)

    def at_kl(self, target: float | None = None, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the values of the runs at the same distance from the reference: one row per run, `step` and one column per scalar.

        Args:
            target: Distance in nats per answer; None: the largest that all runs have reached.
            names: Scalars; None: the measures of the evaluations.

        Raises FigureError for a scalar that no run has recorded.
        """
        require_recorded(names or [], self.names())
        distances = {label: member.scalar("eval/kl") for label, member in zip(self.run_labels, self._compared)}
        recorded = set(self.names())
        wanted = [name for name in numbers.MEASURES if name in recorded] if names is None else list(names)
        frames = {
            label: pd.DataFrame({name: member.means(name)["mean"] for name in wanted}).sort_index()
            for label, member in zip(self.run_labels, self._compared)
        }
        return matching.at_kl(frames, distances, matching.common_reach(distances) if target is None else target)

    def numbers_at_kl(self, target: float | None = None) -> pd.DataFrame:
        """Return the measures of the evaluations at the same distance from the reference, of a group with 95 % intervals.

        The table is that of `numbers`, with a row for the step. target: as in `at_kl`.
        """
        matched = self.at_kl(target)
        rows = [matched.loc[group.member_labels] for group in self.groups]
        table = numbers.matched({group.label: frame for group, frame in zip(self.groups, rows)})
        return self._less(table, [dict(zip(group.seeds, frame.to_dict("records"))) for group, frame in zip(self.groups, rows)])

    def common_kl(self) -> float:
        """Return the largest distance from the reference that all runs have reached, in nats per answer; NaN before it is known."""
        return matching.common_reach({label: member.scalar("eval/kl") for label, member in zip(self.run_labels, self._compared)})

    def answers(self, prompt: str | None = None, step: int | None = None) -> pd.DataFrame:
        """Return the answers of the reference and every run to a held-out prompt; see `answers.side_by_side`.

        prompt: None for the one whose answers differ most between the first two curves.
        """
        samples = self.samples()
        if prompt is None:
            ranked = list(self.answer_differences(step)["prompt"]) if len(self.groups) > 1 else []
            prompt = next(iter(ranked or answers.prompts(samples)), "")
        return answers.side_by_side(samples, prompt, step)

    def answer_differences(self, step: int | None = None, between: tuple[int, int] = (0, 1)) -> pd.DataFrame:
        """Return the prompts that two curves answered, those whose answers differ most first; see `answers.most_different`."""
        one, other = ({member.seed: member.samples() for member in self._of(number)} for number in between)
        return answers.most_different(one, other, step)

    def samples(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """Return the sampled answers of every run's evaluations, by the run's label and step."""
        return {label: member.samples() for label, member in zip(self.run_labels, self._compared)}

    # Settings and pairs.

    def settings(self) -> pd.DataFrame:
        """Return the settings of the runs as a table, those that differ first; see `lab.comparison.settings.difference`."""
        return settings.difference(
            {group.label: settings.merged([self._settings[member] for member in group.members]) for group in self.groups}
        )

    def why_no_pairs(self, between: tuple[int, int] = (0, 1)) -> str:
        """Return why two curves cannot be compared pair by pair, as seeds on different pairs cannot; "" if they can."""
        return next(filter(None, (without_common_pairs(self.groups[number], self._settings) for number in between)), "")

    def last_common_step(self) -> int:
        """Return the last step that all runs that have begun have reached."""
        return min((step for step in self.steps if step), default=0)

    def pairs(
        self,
        term: str,
        *,
        held_out: bool = False,
        step: int | None = None,
        visits: bool = False,
        between: tuple[int, int] = (0, 1),
    ) -> pd.DataFrame:
        """Return a term of every pair under two runs or groups, the largest difference first.

        Of two runs: see `pairwise.term_by_pair` for the columns, or `pair_differences.over_visits` with `visits`. With a group on
        either side: the differences of the latest values with their intervals over the seeds, see `pair_differences.over_seeds`.

        Args:
            term: Name of the term.
            held_out: Compare the held-out pairs instead of those trained on.
            step: Compare values up to this step; None: the last step that all runs have reached.
            visits: Compare all visits of a pair in two runs instead of the latest ones.
            between: Positions of the two curves.

        Raises:
            RunError: Visits are asked for, but a side is a group; or the seeds of a group train on different pairs.
        """
        if why := self.why_no_pairs(between):
            raise RunError(why)
        last = self.last_common_step() if step is None else step
        sides = [self._of(number) for number in between]
        grouped = any(len(side) > 1 for side in sides)
        if visits and grouped:
            raise RunError("Visits are compared between two runs, and one side is a group of seeds; leave out visits=True.")
        if visits:
            one, other = (side[0].visits(last, held_out) for side in sides)
            return pair_differences.over_visits(one, other, term)
        latest = [{member.seed: member.latest_pairs(last, held_out) for member in side} for side in sides]
        if grouped:
            return pair_differences.over_seeds(latest[0], latest[1], term)
        one, other = (next(iter(side.values())) for side in latest)
        return pairwise.term_by_pair(one, other, term)

    def pair(self, pair: str, points: int | None = None) -> dict[str, pd.DataFrame]:
        """Return the history of one pair under every run, by the run's label; index `step`, see `PairReader.history`.

        Args:
            pair: Id of the pair.
            points: At most this many rows per run, evenly spaced; None: all.
        """
        histories = {label: run.reader.pairs.history(pair, points=points) for label, run in zip(self.run_labels, self.runs)}
        return {label: with_attrs(history.set_index("step"), history.attrs) for label, history in histories.items()}

    def terms(self) -> list[str]:
        """Return the names of the pair terms that all runs that have begun record; empty before a run of each curve has."""
        recorded = [[run.reader.pairs.term_names() for run in map(self.runs.__getitem__, group.members)] for group in self.groups]
        begun = [names for group in recorded for names in group if names]
        if not all(any(group) for group in recorded):
            return []
        return [name for name in begun[0] if all(name in other for other in begun[1:])]

    def batches(self, checked: int = pairwise.CHECKED) -> pairwise.Batches:
        """Return whether the first two runs trained on the same pairs, at up to `checked` evenly spaced common steps."""
        return pairwise.compare_runs(self._compared[0], self._compared[1], checked)

    def are_twins(self) -> bool:
        """Return whether the first two runs are twins."""
        return len(self.runs) >= 2 and self.runs[1].dir.resolve() in {twin.dir.resolve() for twin in self.runs[0].twins}

    # Data and figures.

    def data(self, names: Sequence[str], axis: str = "step", *, whole: bool = False) -> pd.DataFrame:
        """Return the data behind the curves of some scalars in long form, that of single runs first.

        Args:
            names: Names of the scalars.
            axis: Name of an axis in `lab.comparison.AXES`.
            whole: Return every recorded value instead of at most 1,000 per curve.

        Returns:
            A frame with run (folder name; "" for the mean of a group), label, seed, scalar, axis, x, step, value, mean, low, high
            and runs (number of runs behind a value of a group's mean; 1 for a run).
        """
        groups = [(group.label, self._of(number)) for number, group in enumerate(self.groups) if not group.single]
        return group_curves.curve_data([*zip(self.run_labels, self._compared)], groups, names, axis, whole=whole)

    def pair_data(self, pair: str, terms: Sequence[str]) -> pd.DataFrame:
        """Return the whole history of one pair under every run: run (folder), label, pair, step, version, one column per term."""
        parts = [
            frame.reset_index().assign(run=run.dir.name, label=label, pair=pair)
            for run, (label, frame) in zip(self.runs, self.pair(pair).items())
        ]
        return pd.concat(parts, ignore_index=True).reindex(columns=["run", "label", "pair", "step", "version", *terms])

    def marked(self, axis: str = "step") -> dict[str, pd.DataFrame]:
        """Return the events of each curve that figures mark, by label: the columns of `Run.events`, `message`, `x` (axis position).

        Of a group: the events of all its runs except checkpoints. A run without a known position on the axis is left out.
        """
        marked = {group.label: group_curves.marked(self._of(number), axis) for number, group in enumerate(self.groups)}
        return {label: events for label, events in marked.items() if len(events)}

    def figure(self, name: str, by: str = "step", *, dark: bool = False, seeds: bool = False, legend: bool = True) -> go.Figure:
        """Return a figure with the curves of one scalar of all runs.

        Args:
            name: Name of the scalar.
            by: Name of an axis in `lab.comparison.AXES`.
            dark: Use a dark background.
            seeds: Draw also the runs of groups, as thin lines.
            legend: Draw a legend.

        Raises FigureError for a scalar that no run has recorded, or an unknown axis.
        """
        from lab.plots.comparison.overlay import overlay
        from lab.plots.style import with_background

        require_recorded([name], self.names(), by)
        drawn = overlay(
            self.curves(name, by), name, labels=self.labels, axis=AXES[by].title, events=self.marked(by),
            singles=self.single_curves(name, by) if seeds else {}, legend=legend, dark=dark,
        )  # fmt: skip
        return with_background(drawn, dark)

    def difference_figure(self, name: str, by: str = "step", *, dark: bool = False, between: tuple[int, int] = (0, 1)) -> go.Figure:
        """Return a figure of a scalar of one curve minus another (positions: `between`), with a line at zero; see `figure`."""
        from lab.plots.comparison.overlay import difference
        from lab.plots.style import with_background

        require_recorded([name], self.names(), by, compared=len(self.groups))
        labels = [self.labels[number] for number in between]
        events = {label: marked for label, marked in self.marked(by).items() if label in labels}
        title = f"{entry(name).title}: {' − '.join(self.groups[number].letter for number in between)}"  # a whole label has no room
        less = self.difference(name, by, between=between)
        drawn = difference(less, name, labels=labels, axis=AXES[by].title, title=title, events=events, dark=dark)
        return with_background(drawn, dark)
