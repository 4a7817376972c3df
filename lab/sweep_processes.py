"""The processes of an experiment's runs: how many runs each trains, and with how many threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.experiments import PlannedRun
from lab.pairs import PairStore
from lab.run.config import TrainConfig
from lab.starting import make_run
from lab.training.setup.child_process import start_group
from lab.world import is_world_name

SMALL_PARAMETERS = 20_000_000
"""A model with at most so many parameters is trained by one thread per run, with one run per core: its products are too small to
divide, so that two threads take 2.3 times the CPU time of one. OURS; measured by tests/bench/bench_seeds.py."""
RUNS_PER_PROCESS = 4
"""Most runs that one process trains. It loads the libraries once, a tenth of a short run; but others wait longer for the device."""


@dataclass(frozen=True)
class ProcessExecutor:
    """Trains runs in processes: small models' in groups, one after another, others' in a process each.

    Attributes:
        experiment: Name of the experiment, stored with each run.
        threads: Threads of each process; None for as many as this process has.
        workers: Processes that train at once.
    """

    experiment: str
    threads: int | None
    workers: int = 1

    def group(self, runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
        """Return equal shares of the runs for all workers, at most RUNS_PER_PROCESS each."""
        models = {(run.config.model, run.config.device): run.config for run in runs}
        small = all(map(trains_on_one_thread, models.values()))
        size = min(-(-len(runs) // self.workers), RUNS_PER_PROCESS) if small else 1
        return [list(runs[first : first + size]) for first in range(0, len(runs), size)]

    def make(self, run: PlannedRun, folder: Path) -> None:
        """Make the folder of a run; raises as `lab.train`."""
        stored = {"pairs_store": run.pairs.store, "pairs_version": run.pairs.version, "pairs_name": run.pairs.name}
        belongs = {"experiment": {"name": self.experiment, "key": run.key, "variant": run.variant}}
        settings = run.config.model_dump(mode="json", exclude={"objective", "pairs", "model"})
        settings["name"] = f"{self.experiment}: {run.variant}, seed {run.seed}"[:200]
        make_run(
            run.config.objective,
            PairStore(run.pairs.store),
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
