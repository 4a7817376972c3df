"""Progress of an experiment: the state of each run, and the remaining time from measured durations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from .plan import PlannedRun

WAITING, FINISHED, FAILED = "waiting", "finished", "failed"
ACTIVE = ("queued", "running", "paused")
"""States of runs that have a process."""
INTERRUPTED = ("stopped", "crashed")
"""States of runs that are continued when the experiment is started again."""


@dataclass(frozen=True)
class RunState:
    """State of one run of an experiment.

    Attributes:
        state: waiting (not begun), or a state of `Run.state`.
        step: Steps done.
        steps: Steps of the run.
        seconds: Seconds since its process was started; of a finished run, until its end.
        error: Why it failed, in one sentence.
        run: Name of the run's folder, once it was begun.
    """

    state: str = WAITING
    step: int = 0
    steps: int = 0
    seconds: float | None = None
    error: str | None = None
    run: str = ""

    @property
    def share(self) -> float:
        """Share of the steps that are done, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True)
class ExperimentState:
    """State of an experiment.

    Attributes:
        state: running, paused, stopping, waiting (for its device), finished, stopped, failed (runs have failed and no other is
            left), or interrupted (the process that started the runs has ended before they were done).
        message: One sentence for people, or "".
        runs: State of each run, by key.
        remaining: Estimated seconds until all runs are done; None if it is not known yet.
        workers: Runs that train at once.
    """

    state: str
    message: str = ""
    runs: Mapping[str, RunState] = field(default_factory=dict)
    remaining: float | None = None
    workers: int = 1

    def count(self, *states: str) -> int:
        """Return the number of runs in some states."""
        return sum(run.state in states for run in self.runs.values())

    @property
    def share(self) -> float:
        """Share of all steps that are done, in [0, 1]; a failed run, which is not trained again, counts as done."""
        steps = sum(run.steps for run in self.runs.values())
        return (
            sum(run.steps if run.state == FAILED else min(run.step, run.steps) for run in self.runs.values()) / steps
            if steps
            else 0.0
        )

    @property
    def line(self) -> str:
        """Progress in one line: "12 of 24 runs finished, 2 running (step 80 of 200, 15 of 200), about 5 min left"."""
        from lab.run.preflight_report import seconds

        parts = [f"{self.count(FINISHED)} of {len(self.runs)} runs finished"]
        active = [run for run in self.runs.values() if run.state in ("running", "paused")]
        if active:
            steps = ", ".join(f"{run.step:,} of {run.steps:,}" for run in active)
            parts.append(f"{len(active)} in training (step {steps})")
        parts += [f"{count} {state}" for state in ("queued", FAILED, *INTERRUPTED) if (count := self.count(state))]
        if self.remaining and self.state in ("running", "paused", "waiting"):
            parts.append(f"about {seconds(self.remaining)} left")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ExperimentState:
        """Return the state that `as_json` gave."""
        runs = {key: RunState(**run) for key, run in stored.get("runs", {}).items()}
        return ExperimentState(**{**stored, "runs": runs})


def kind_of(run: PlannedRun) -> tuple[Any, ...]:
    """Return what the duration of a run depends on, besides the objective and the number of its steps."""
    config = run.config
    return (config.model, run.pairs.store, config.batch_size, config.max_length, config.lora_rank, config.device)


def expected_seconds(runs: Sequence[PlannedRun], durations: Mapping[str, float]) -> dict[str, float]:
    """Return the expected duration of each run, by key, from measured ones; runs of which nothing alike was measured are missing.

    The mean of the runs of the same variant, else of those that differ from it in objective and seed at most, else of those of the
    same model and pairs, in proportion to the steps.

    Args:
        runs: Runs to estimate, and those that were measured.
        durations: Seconds of measured runs, by key.
    """
    measured = [(run, durations[run.key]) for run in runs if run.key in durations]
    expected = {}
    for run in runs:
        same = [seconds for other, seconds in measured if other.variant == run.variant and other.config.steps == run.config.steps]
        alike = [(other, seconds) for other, seconds in measured if kind_of(other) == kind_of(run)]
        equal = [seconds for other, seconds in alike if other.config.steps == run.config.steps]
        if same or equal:
            expected[run.key] = fmean(same or equal)
        elif alike:
            expected[run.key] = run.config.steps * fmean(seconds / other.config.steps for other, seconds in alike)
    return expected


def remaining_seconds(
    runs: Sequence[PlannedRun], states: Mapping[str, RunState], durations: Mapping[str, float], workers: int
) -> float | None:
    """Return the estimated seconds until all runs are done, or None before anything was measured.

    Args:
        runs: The runs of the experiment.
        states: State of each, by key.
        durations: Seconds of finished runs, by key.
        workers: Runs that train at once.
    """
    known = dict(durations)
    for run in runs:  # a running one is measured by its share of steps, once it has done some
        state = states.get(run.key, RunState())
        if state.state in ACTIVE and state.seconds and state.step >= max(2, run.config.steps // 10):
            known.setdefault(run.key, state.seconds * run.config.steps / state.step)
    expected = expected_seconds(runs, known)
    left = []
    for run in runs:
        state = states.get(run.key, RunState())
        if state.state in (FINISHED, FAILED):
            continue
        if run.key not in expected:
            return None
        spent = (state.seconds or 0.0) if state.state in ACTIVE else 0.0
        left.append(max(expected[run.key] - spent, 0.0))
    return max(sum(left) / max(1, workers), max(left, default=0.0))
