"""The handle to an experiment: its state, results and controls, from any process."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import did_you_mean
from lab.run import Run, is_held
from lab.run.config import ConfigError
from lab.run.requests import send
from lab.store import RunError

from .declaration import Declaration
from .folder import FILE, Content, ExperimentFolder, experiment_folders, find_experiment
from .metrics import metric_of
from .plan import PlannedRun, find_variant, listed, variants
from .progress import ACTIVE, FINISHED, INTERRUPTED, WAITING, ExperimentState, RunState
from .results import PRIMARY, evaluation_table, prompt_table, run_table, variant_curves
from .rules import check_comparison

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from .statistics import Comparisons

ALL_PAIRS = 4
"""Most variants that are all compared with each other unless a baseline is given."""
PRESENT = ("running", "paused", "stopping", WAITING)
"""States in which a process starts the experiment's runs, or waits for its device."""


class Experiment:
    """Handle to an experiment: a grid of runs with its results. Made by `lab.sweep` and `lab.open_experiment`.

    Control requests (`pause`, `resume`, `stop`) return at once and raise RunError if no process starts the runs.

    Args:
        folder: Folder of the experiment.

    Raises:
        RunError: If the folder holds no experiment.
    """

    def __init__(self, folder: ExperimentFolder) -> None:
        self._folder = folder
        self._content = self._read()
        self._records: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        state = self.state()
        return f"<Experiment {self.name}: {state.state}, {state.line}>"

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._folder.name

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return self._folder.path

    @property
    def content(self) -> Content:
        """The declaration and what belongs to it; read again when it was changed."""
        if self._folder.changed != self._content[0]:
            self._content = self._read()
        return self._content[1]

    def _read(self) -> tuple[int, Content]:
        """Return the time of the declaration and its content, whose runs can be planned. Raises RunError."""
        changed, content = self._folder.changed, self._folder.read()
        try:
            content.runs  # noqa: B018 - a declaration that cannot be used is found here, and not by a page or list
        except (ConfigError, TypeError, AttributeError) as error:
            raise RunError(f"The experiment {self.name} cannot be used here ({self.folder / FILE}): {error}") from None
        return changed, content

    @property
    def declaration(self) -> Declaration:
        """Objectives, seeds and settings of the experiment."""
        return self.content.declaration

    @property
    def runs(self) -> list[PlannedRun]:
        """The runs of the experiment, in the order in which they are trained."""
        return self.content.runs

    @property
    def variants(self) -> list[str]:
        """The labels of everything that differs but the seed, in the order of the declaration."""
        return variants(self.runs)

    def state(self) -> ExperimentState:
        """Return the state of the experiment and of each run; fit to be polled.

        Reads one small file, and only if its process has ended early, the stores of the runs that were in training.
        """
        stored = self._folder.state()
        last = stored or ExperimentState(WAITING)
        missing = [run for run in self.runs if run.key not in last.runs]
        finished = self._recorded_states(missing) if missing else {}
        runs = {run.key: last.runs.get(run.key) or finished.get(run.key) or RunState(steps=run.config.steps) for run in self.runs}
        state = replace(last, runs=runs)
        if is_held(self.folder):
            return state if last.state in PRESENT else replace(state, state="running")
        if state.count(FINISHED) == len(runs):
            return replace(state, state=FINISHED)
        if (stored is None and not finished) or state.count(WAITING, *ACTIVE, *INTERRUPTED) == 0:
            return state
        if last.state not in PRESENT and not state.count(*ACTIVE):
            return replace(state, state="stopped")
        return replace(
            state,
            state="interrupted",
            message="the process that started its runs has ended before they were done",
            runs=runs | self._own_states(runs),
        )

    def _own_states(self, runs: Mapping[str, RunState]) -> dict[str, RunState]:
        """Return the states of active runs, by key, read from their folders: their processes may have ended, too."""
        own, folders = {}, self.run_folders()
        for key in [key for key, run in runs.items() if run.state in ACTIVE]:
            if (folder := folders.get(key)) is None:  # deleted
                own[key] = RunState(steps=runs[key].steps)
            else:
                with contextlib.suppress(RunError, OSError):  # damaged, or deleted at this moment
                    run = Run(folder)
                    own[key] = replace(runs[key], state=run.state, step=run.status.get("step", runs[key].step))
        return own

    def _recorded_states(self, runs: Sequence[PlannedRun]) -> dict[str, RunState]:
        """Return the state of the finished ones among some runs, by key, for an experiment whose state was lost."""
        recorded, folders = self._folder.recorded(), self._folder.run_folders()
        return {
            run.key: RunState(FINISHED, run.config.steps, run.config.steps, run=folders[run.key].name if run.key in folders else "")
            for run in runs
            if run.key in recorded
        }

    @property
    def active(self) -> bool:
        """Whether a process starts runs of the experiment at present."""
        return is_held(self.folder)

    def run_folder(self, key: str) -> Path | None:
        """Return the folder of a run by its key; None if the run was not begun."""
        return self._folder.run_folders().get(key)

    def run_folders(self) -> dict[str, Path]:
        """Return the folders of the runs that were begun and not deleted, by the run's key."""
        known = self._folder.run_folders()
        return {run.key: known[run.key] for run in self.runs if run.key in known and known[run.key].exists()}

    def table(self) -> pd.DataFrame:
        """Return one row per run: its settings, state, and the numbers of its last and best evaluation; see `results.run_table`."""
        return run_table(self.runs, self.state(), self.records())

    def evaluations(self) -> pd.DataFrame:
        """Return one row per finished run and evaluation, one column per scalar."""
        return evaluation_table(self.runs, self.records())

    def by_prompt(self) -> pd.DataFrame:
        """Return one row per finished run, evaluation and prompt; empty where no answers were sampled."""
        return prompt_table(self.runs, self.records())

    def metrics(self) -> list[str]:
        """Return the names of the scalars that finished runs have recorded at evaluations."""
        return list(
            dict.fromkeys(name for key in self.records() for each in self._records[key]["evaluations"] for name in each["scalars"])
        )

    def compare(
        self,
        metrics: str | Sequence[str] | None = None,
        *,
        at: str | Sequence[str] | None = None,
        variants: Sequence[str] | None = None,
        baseline: str | None = None,
        smallest: float | None = None,
    ) -> Comparisons:
        """Compare the variants, paired by seed, with intervals over seeds and, where answers were sampled, prompts.

        All comparisons of one call are one family: intervals and verdicts are corrected for their number (Holm). What is not given
        is taken from the experiment's declaration, so that the rule stands before the results.

            print(experiment.compare("eval/oracle_reward", at=["end", "kl"]))

        Args:
            metrics: Scalars of evaluations; None for the best measure of quality that was recorded (PRIMARY).
            at: Where runs are compared: "end" (after training), "step=100", "kl" or "accuracy" (where both have reached the same
                level; "kl=2" for a certain one, else the furthest that all runs of the two variants reach), "margin", "loss". None:
                at the end, and at equal KL if it was recorded.
            variants: Labels of the variants to compare; None for all.
            baseline: Compare every variant with this one; None: with each other, beyond four variants with the first.
            smallest: The smallest difference that matters, for the number of seeds that would show it; None: see METRICS.

        Raises:
            ConfigError: For an unknown metric, variant or level.
        """
        from .statistics import compare, curves_of, parse_level  # imports pandas
        from .statistics.levels import SCALARS

        declared, known, recorded = self.declaration.compare, self.variants, self.metrics()
        labels = known if variants is None else [find_variant(name, known) for name in dict.fromkeys(variants)]
        names = self._recorded(listed(metrics or declared.get("metrics")), recorded)
        places = listed(at or declared.get("at")) or ["end", *(["kl"] if SCALARS["kl"] in recorded else [])]
        reference = self.baseline(labels, baseline)
        if reference is None:
            pairs = list(itertools.combinations(labels, 2))
        else:
            pairs = [(label, reference) for label in labels if label != reference]
        check_comparison({"smallest": smallest}, labels)
        least = declared.get("smallest") if smallest is None else smallest
        return compare(
            curves_of(self.runs, self.records()),
            pairs,
            [metric_of(name) for name in names],
            [parse_level(place) for place in places],
            seeds=self.declaration.seeds,
            smallest=None if least is None else float(least),
            objectives={run.variant: run.config.objective for run in self.runs},
        )

    def baseline(self, variants: Sequence[str], given: str | None = None) -> str | None:
        """Return the variant with which `compare` compares some variants: the given one, that of the declaration, or the first.

        None: each of up to four variants (ALL_PAIRS) is compared with every other. Raises ConfigError for an unknown one.
        """
        wanted = given or self.declaration.compare.get("baseline")
        if wanted is None:
            return variants[0] if len(variants) > ALL_PAIRS else None
        return find_variant(str(wanted), self.variants)

    def figure(
        self,
        metric: str | None = None,
        by: str = "step",
        *,
        variants: Sequence[str] | None = None,
        seeds: bool = False,
        legend: bool = True,
        dark: bool = False,
    ) -> go.Figure:
        """Return the curve of a scalar of evaluations for each variant, with a band over seeds, as a Plotly figure.

        Args:
            metric: Name of the scalar; None for the best measure of quality that was recorded (PRIMARY).
            by: "step" or "kl".
            variants: Labels of the variants to draw; None for the first eight.
            seeds: Draw every run, too.
            legend: Draw a legend.
            dark: Use the dark palette.

        Raises:
            ConfigError: For an unknown scalar, axis or variant.
        """
        from lab.comparison import AXES, MOST
        from lab.plots.comparison.overlay import overlay

        recorded = self.metrics()
        (name,) = self._recorded(listed(metric), recorded)
        if by not in ("step", "kl"):
            raise ConfigError(f"An experiment has no axis {by!r}; choose step or kl.")
        labels = [find_variant(label, self.variants) for label in variants] if variants else self.variants[:MOST]
        curves, singles = variant_curves(self.runs, self.records(), name, by)
        return overlay(
            {label: curves[label] for label in labels if label in curves},
            name,
            labels=labels,
            axis=AXES[by].title,
            waiting="The curves begin with the first finished run.",
            singles={label: singles[label] for label in labels if label in singles} if seeds else None,
            legend=legend,
            dark=dark,
        )

    def _recorded(self, names: list[str], recorded: Sequence[str]) -> list[str]:
        """Return scalars if runs have recorded them, without names the first of PRIMARY. Raises ConfigError for others."""
        for name in names:
            if recorded and name not in recorded:
                raise ConfigError(
                    f"No run of {self.name} has recorded {name!r}; choose from {', '.join(recorded)}.{did_you_mean(name, recorded)}"
                )
        return names or [next((name for name in PRIMARY if name in recorded), PRIMARY[-1])]

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the record of every finished run, by its key; each is read from the disk once."""
        recorded = self._folder.recorded()
        for key in recorded - self._records.keys():
            record = self._folder.record(key)
            if record is not None:
                self._records[key] = record
        current = {run.key for run in self.runs} & recorded  # records of a deleted experiment of the same name are not its own
        known = dict(self._records)  # another thread may add one meanwhile
        return {key: record for key, record in known.items() if key in current}

    def notes(self) -> list[str]:
        """Return what limits the results, one sentence each: versions of libraries that differ, runs that are left out."""
        records, labels = self.records(), {run.key: f"{run.variant}, seed {run.seed}" for run in self.runs}
        sentences = []
        for library in dict.fromkeys(name for record in records.values() for name in record["versions"]):
            counts = Counter(record["versions"].get(library, "none") for record in records.values())
            if len(counts) > 1:
                each = ", ".join(f"{count} with {version}" for version, count in counts.items())
                sentences.append(
                    f"Runs were trained with different versions of {library} ({each}), which may change their numbers."
                )
        if changed := [labels[key] for key, record in records.items() if record["changes"]]:
            sentences.append(f"Not compared, because settings or pairs were changed while they trained: {'; '.join(changed)}.")
        if earlier := self.earlier_runs():
            sentences.append(f"{len(earlier)} runs of an earlier declaration are no longer part of it.")
        return sentences

    def earlier_runs(self) -> list[Path]:
        """Return the folders of runs that were begun under an earlier declaration and are no longer part of the experiment."""
        planned = {run.key for run in self.runs}
        return [folder for key, folder in self._folder.run_folders().items() if key not in planned and folder.exists()]

    def wait(self, timeout: float | None = None) -> ExperimentState:
        """Wait until no process starts runs of this experiment any more, or for `timeout` seconds; return its state."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while is_held(self.folder) and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.1)
        return self.state()

    def pause(self) -> None:
        """Pause the runs in training and start no other. `resume()` continues."""
        self._send("pause")

    def resume(self) -> None:
        """Continue after `pause()`. An experiment that has ended is continued by `lab.sweep(extend=name)`."""
        self._send("resume")

    def stop(self) -> None:
        """Stop the runs in training with a checkpoint and start no other. `lab.sweep(extend=name)` continues."""
        self._send("stop")

    def _send(self, kind: str) -> None:
        if not is_held(self.folder):
            raise RunError(
                f"The experiment {self.name} is {self.state().state}: no process starts its runs, so it cannot {kind}. "
                f"`lab.sweep(extend={self.name!r})` or `python -m lab sweep {self.name} --resume` continues it."
            )
        send(self.folder, kind)


def open_experiment(name: str) -> Experiment:
    """Open an experiment by its name. Raises RunError if there is none, with the nearest name."""
    return Experiment(find_experiment(name))


def all_experiments() -> Sequence[Experiment]:
    """Return all experiments, the latest changed first; a damaged one is left out."""
    known = []
    for folder in experiment_folders():
        with contextlib.suppress(RunError, OSError):
            known.append(Experiment(folder))
    return known


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
