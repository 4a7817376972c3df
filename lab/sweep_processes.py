"""The processes of an experiment's runs: how many runs each trains, with how many threads, and how long they take."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.api import preflight
from lab.experiments import Content, PlannedRun, all_experiments
from lab.experiments.experiment import cores
from lab.experiments.progress import FINISHED, expected_seconds
from lab.pairs import PairStore
from lab.run import Run
from lab.run.config import TrainConfig
from lab.starting import make_run
from lab.store import ENDED
from lab.training.setup.child_process import start_group
from lab.world import is_world_name

SMALL_PARAMETERS = 20_000_000
"""A model with at most so many parameters is trained by one thread per run, with one run per core: its products are too small to
divide, so that two threads take 2.3 times the CPU time of one. OURS; measured by tests/bench/bench_seeds.py."""
RUNS_PER_PROCESS = 4
"""Most runs that one process trains. It loads the libraries once, a tenth of a short run; but others wait longer for the device."""

TRIAL_STEPS = 6
"""Steps of the trial; the first one is slower than the others."""
PATIENCE = 240.0
"""Seconds for the trial; a run whose two evaluations take longer is estimated from a few timed pairs."""


@dataclass(frozen=True)
class ProcessExecutor:
    """Trains runs in processes: small models' in groups, one after another, others' in a process each.

    Attributes:
        experiment: Name of the experiment, stored with each run.
        threads: Threads of each process; None for as many as this process has.
        workers: Processes that train at once.
        with_seed: Settings that go with the seed in the experiment.
    """

    experiment: str
    threads: int | None
    workers: int = 1
    with_seed: tuple[str, ...] = ()

    def group(self, runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
        """Return equal shares of the runs for all workers, at most RUNS_PER_PROCESS each."""
        models = {(run.config.model, run.config.device): run.config for run in runs}
        small = all(map(trains_on_one_thread, models.values()))
        if not small:
            return [[run] for run in runs]
        # As many processes for each worker, so that none trains alone at the end.
        count = min(len(runs), -(-len(runs) // (self.workers * RUNS_PER_PROCESS)) * self.workers)
        bounds = [round(len(runs) * at / count) for at in range(count + 1)]
        return [list(runs[first:last]) for first, last in itertools.pairwise(bounds)]

    def make(self, run: PlannedRun, folder: Path) -> None:
        """Make the folder of a run; raises as `lab.train`."""
        stored = {"pairs_store": run.pairs.location, "pairs_version": run.pairs.version, "pairs_name": run.pairs.name}
        belongs = {"experiment": {"name": self.experiment, "key": run.key, "variant": run.variant, "with_seed": self.with_seed}}
        settings = run.config.model_dump(mode="json", exclude={"objective", "pairs", "model"})
        settings["name"] = f"{self.experiment}: {run.variant}, seed {run.seed}"[:200]
        make_run(
            run.config.objective,
            PairStore(run.pairs.location),
            run.config.model,
            run_dir=folder,
            known_elsewhere=True,
            manifest=stored | belongs,
            **settings,
        )

    def start(self, folders: Sequence[Path]) -> None:
        """Start the process of a group. The experiment has the device, so its runs do not wait for it."""
        start_group(folders, queue=False, threads=self.threads)


def trains_on_one_thread(config: TrainConfig) -> bool:
    """Whether a run's model is so small that one thread trains it, on a CPU."""
    if config.device not in ("auto", "cpu"):
        return False
    if queue_name(config.device) != "cpu":
        return False
    if is_world_name(config.model):
        return True
    from lab.training.setup.executor_choice import count_parameters

    count = count_parameters(config.model)
    return count is not None and count <= SMALL_PARAMETERS


def queue_name(device: str) -> str:
    """Return the name of a device's queue, for the CPU without importing torch."""
    if device == "cpu":
        return device
    from lab.training.control.device_slot import device_name  # imports torch

    return device_name(device)


@dataclass(frozen=True)
class Costs:
    """Measured seconds of the parts of a run.

    Attributes:
        start: From starting its process to its first step, without the first evaluation.
        step: One optimizer step.
        first: Evaluation before training.
        last: Evaluation after training, which samples more answers than those in between.
    """

    start: float
    step: float
    first: float
    last: float

    def of(self, run: PlannedRun) -> float:
        """Return the estimated seconds of a run of the same kind."""
        config = run.config
        between = (config.steps - 1) // config.eval_every if config.evaluate and config.eval_every else 0
        return self.start + self.first + self.last * (1 + between) + self.step * config.steps


def estimated_seconds(content: Content, to_do: Sequence[PlannedRun]) -> tuple[float | None, str]:
    """Return the estimated seconds of some runs of an experiment, and in words what the estimate is based on.

    Durations of finished runs of all experiments with the same model and pairs are used, else a trial of the first run in a process
    of its own, which is deleted afterwards. Where that takes too long, the estimate is from a few timed pairs.
    """
    seconds, basis = measured_seconds(content, to_do)
    if seconds is not None:
        return seconds, basis
    config = to_do[0].config
    costs = trial(to_do[0], content.threads)
    if costs is not None:
        basis = f"rough, from a trial of {TRIAL_STEPS} steps and two evaluations of the first run"
        return _together([costs.of(run) for run in to_do], content), basis
    settings = config.model_dump(mode="json", exclude={"objective", "pairs", "model"})
    report = preflight(config.objective, PairStore(to_do[0].pairs.location), config.model, **settings)
    if report.time is None:
        return None, "memory ran out while a pair was timed"
    basis = "at least, from a few timed pairs of the first run, without evaluations and the start of the processes"
    return _together([report.time.step * run.config.steps for run in to_do], content) + report.time.reference, basis


def measured_seconds(content: Content, to_do: Sequence[PlannedRun]) -> tuple[float | None, str]:
    """Return the seconds of some runs from the durations of finished ones of the same kind, and in words what they are based on.

    Reads one small file of each experiment. The seconds are None, with an empty basis, where nothing of the same kind was measured.
    """
    if not to_do:
        return 0.0, "every run is done"
    measured, durations = [], {}
    for experiment in all_experiments():
        states, share = experiment.state().runs, share_of_cores(experiment.content)
        for run in experiment.runs:
            state = states[run.key]
            if state.state == FINISHED and state.seconds:
                measured.append(run)
                durations[run.key] = state.seconds * share
    expected = expected_seconds([*measured, *to_do], durations)
    if any(run.key not in expected for run in to_do):
        return None, ""
    seconds = _together([expected[run.key] for run in to_do], content)
    return seconds, f"rough, from {len(durations)} finished runs of the same kind"


def share_of_cores(content: Content) -> float:
    """Return the share of the cores for its threads that each run has, if as many runs as wanted train at once; at most 1."""
    threads = content.threads or cores()
    on_cpu = queue_name(content.runs[0].config.device) == "cpu"
    return min(1.0, cores() / (threads * content.workers)) if on_cpu else 1.0


def _together(seconds: Sequence[float], content: Content) -> float:
    """Return how long some runs take on the cores that there are. seconds: of each run, if it had all its threads' cores."""
    share = share_of_cores(content)
    return max(sum(seconds) / content.workers, max(seconds)) / share


def trial(run: PlannedRun, threads: int | None, patience: float = PATIENCE) -> Costs | None:
    """Train a few steps of a run, with its evaluations, in a process of its own, and return what they cost; the run is deleted.

    Args:
        run: The run.
        threads: Threads of the process, as of the experiment's.
        patience: Seconds after which the trial is stopped.

    Returns:
        The costs; None if the trial took too long or failed, as the run itself may.
    """
    changed = {"steps": TRIAL_STEPS, "eval_every": 0, "save_every": 0, "panel_every": 0, "seed": run.seed}
    settings = run.config.model_dump(mode="json", exclude={"objective", "pairs", "model"}) | changed
    stored = {"pairs_store": run.pairs.location, "pairs_version": run.pairs.version, "pairs_name": run.pairs.name}
    with tempfile.TemporaryDirectory(prefix="lab-trial-") as place:
        folder = Path(place) / "trial"
        make_run(
            run.config.objective, PairStore(run.pairs.location), run.config.model, run_dir=folder, listed=False,
            known_elsewhere=True, manifest=stored, **settings,
        )  # fmt: skip
        began = time.monotonic()
        start_group([folder], queue=False, threads=threads)
        handle = Run(folder)
        if handle.wait(patience) not in ENDED:
            handle.stop()
            handle.wait()
        whole = time.monotonic() - began
        return _costs(handle, whole) if handle.state == FINISHED else None


def _costs(run: Run, whole: float) -> Costs:
    """Return the costs that a finished trial has recorded. whole: seconds from starting its process to its end."""
    seconds = [float(detail.get("seconds", 0.0)) for detail in run.events("evaluation")["detail"]]
    first, last = (seconds[0], seconds[-1]) if len(seconds) > 1 else (0.0, 0.0)
    steps = run.scalars("seconds/trained")["seconds/trained"].dropna().diff().dropna()
    step = float(steps.median())
    return Costs(max(whole - first - last - TRIAL_STEPS * step, 0.0), step, first, last)
