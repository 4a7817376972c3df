"""`python -m lab train`: start a run, or continue one, in the foreground of a terminal."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab.policy.sources.files import ADAPTER_CONFIG, check_folder, local_folder
from lab.run.checkpoints import find_checkpoint
from lab.run.config import ConfigError, TrainConfig, read_config
from lab.run.handle import open_run
from lab.run.lookup import find_run
from lab.run.settings import checkpoint_settings
from lab.world import is_world_name

from . import train_twins
from .interrupting import interruption
from .outcome import exit_code, print_outcome
from .parameters import with_parameters
from .screens import Bar, JsonLines, until_ended

OWN_FLAGS = ("objective", "pairs", "model")


def add(commands: Any) -> None:
    """Declare the command; one flag for every field of TrainConfig."""
    p = commands.add_parser("train", help="start or continue a run", description="Train a model on preference pairs.")
    p.add_argument("--objective", metavar="NAME", help="preference objective: dpo, sgdpo, alpha_dpo, simpo, spo, ...")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the objective; may be repeated")
    p.add_argument(
        "--pairs",
        metavar="P",
        help="world, world-hard, a JSONL/JSON/CSV/Parquet file, a hub id, or an imported set by its name (default: world)",
    )
    p.add_argument(
        "--model",
        metavar="M",
        help="world, world-hard, another world's as world:3, a causal language model's folder or hub id, an adapter's folder, or a "
        "GGUF file (default: world)",
    )
    p.add_argument("--config", type=Path, metavar="FILE", help="settings from a YAML file; flags override it")
    p.add_argument("--run-dir", type=Path, metavar="D", help="folder of the run (default: a new one among your runs)")
    p.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --run-dir, which has ended, from its latest checkpoint (a paused run: show RUN --resume)",
    )
    p.add_argument(
        "--without-change",
        type=int,
        metavar="STEP",
        help="with --resume: undo the change made after this step, and continue from the last checkpoint before it",
    )
    p.add_argument("--branch", metavar="RUN[@STEP]", help="begin from a checkpoint of another run (default: its latest)")
    p.add_argument("--fresh-optimizer", action="store_true", help="begin a branch with fresh AdamW moments")
    train_twins.add(p)
    p.add_argument("--json", action="store_true", help="print one JSON line per step instead of a progress bar")
    p.add_argument("--dry-run", action="store_true", help="report lengths, truncation, memory and time without training")
    p.add_argument(
        "--detach", action="store_true", help="train in a separate process that outlives this terminal; return once it has started"
    )
    p.add_argument("--no-queue", action="store_true", help="start at once, even if another run trains on the same device")
    p.add_argument("--lock-descriptor", type=int, help=argparse.SUPPRESS)  # of the process that --detach starts
    # Further runs of that process: lock and folder of each.
    p.add_argument("--then", nargs=2, action="append", default=[], help=argparse.SUPPRESS)
    for name, field in TrainConfig.model_fields.items():
        if name in OWN_FLAGS:
            continue
        default = "" if field.default in ("", None) else f" (default: {field.default})"
        message = f"{field.description}{default}".replace("%", "%%")
        switch: dict[str, Any] = (
            {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        )  # --skip-bad-rows alone is true
        p.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=message, **switch)
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train until the run ends. Ctrl-C stops it with a checkpoint, a second one ends the process without."""
    train_twins.check(options)
    branch = from_branch(options)
    given = settings(options, branch) | branch
    if not options.resume and not branch and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        check_early(given)
    from lab import api

    if options.resume:
        if options.dry_run:
            raise ConfigError("--dry-run reports on a new run; the report of an existing run is shown by: show RUN.")
        if given:
            raise ConfigError(
                f"To resume, give --run-dir alone: a run continues with the settings that it was made with. To change "
                f"{', '.join(given)}, branch from it: --branch RUN."
            )
        if options.run_dir is None:
            raise ConfigError("To resume, say which run: --run-dir FOLDER.")
        given, options.run_dir = {"resume": True, "without_change": options.without_change}, find_run(options.run_dir)
    elif options.without_change is not None:
        raise ConfigError("--without-change belongs to resuming; give --run-dir FOLDER --resume with it.")
    if options.dry_run and branch:
        raise ConfigError("--dry-run reports on a new run; a branch prints its report before its first step.")
    if options.dry_run:
        place = {"run_dir": options.run_dir, "executor": "process" if options.detach else None}
        return look_ahead(given | place, as_json=options.json)
    interruption.install()
    note_single_process()
    if options.lock_descriptor is not None:
        return train_detached(options)
    if options.twin and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return train_twins.train(given, options)
    earlier = max(open_run(options.run_dir).events("preflight")["number"], default=0) if options.resume else 0
    screen = JsonLines(earlier) if options.json else Bar(earlier)
    if options.detach:
        return detach(given, options, screen)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if options.twin:
            raise ConfigError("Several processes train one run at a time; launch the twins one after the other, without --twin.")
        return train_together(given, options, screen)
    try:
        handle = api.train(
            **given, run_dir=options.run_dir, queue=not options.no_queue, on_step=screen.step, progress=screen.preparing
        )
        screen.follow(handle)
    finally:
        screen.close()
    print_outcome(handle, file=sys.stderr if options.json else sys.stdout)
    return exit_code(handle)


def check_early(given: dict[str, Any]) -> None:
    """Raise errors that need no model before the libraries that load one are imported, which takes seconds."""
    if "objective" not in given:
        raise ConfigError("Say which objective: --objective NAME, for example --objective sgdpo.")
    config = TrainConfig.parse(**given)
    if Path(config.pairs).suffix and not Path(config.pairs).exists():
        from lab.opening import open_pairs

        open_pairs(config.pairs)  # raises
    check_model_files(config.model)


def check_model_files(model: str) -> None:
    """Raise ModelError for a folder that is missing or holds no complete model. Other sources are checked with the model."""
    try:
        is_file = Path(model).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # not a valid path; `check_source` reports it
        return
    if is_world_name(model) or not model.strip() or is_file:
        return
    folder = local_folder(model)
    if folder is not None and not (folder / ADAPTER_CONFIG).exists() and not any(folder.glob("*.gguf")):
        check_folder(folder)


def note_single_process() -> None:
    """Print a note if `accelerate launch` was given several processes but has started one."""
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        print(
            "accelerate launch has started one process, because --multi_gpu is missing. For several: accelerate launch --multi_gpu "
            "--num_processes 2 -m lab train ... (on CPUs add --device cpu at the end).",
            file=sys.stderr,
        )


def train_together(given: dict[str, Any], options: argparse.Namespace, screen: JsonLines | Bar) -> int:
    """Train in one of the processes that `accelerate launch` or `torchrun` has started; the main one makes the run and prints."""
    from lab import api
    from lab.store import read_manifest
    from lab.training.distributed import join
    from lab.training.setup.without_change import changes_made_after

    resumed = read_manifest(options.run_dir)["config"] if given.get("resume") else {}
    workers, device = join(given.get("device") or resumed.get("device") or "auto")
    if not workers.is_main:
        screen.close()
        logging.getLogger("lab").setLevel(logging.ERROR)  # the main process prints warnings
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # all processes stop together when the main one has received a signal
    try:
        folder = None
        try:
            if workers.is_main:
                if resumed and options.without_change is None:
                    api.check_state_to_resume(Path(options.run_dir))
                if resumed and options.without_change is not None:
                    changes_made_after(options.run_dir, options.without_change)
                folder = str(options.run_dir if resumed else api.make_run(**given, run_dir=options.run_dir))
        finally:
            folder = workers.broadcast(folder)
        if folder is None:  # the main process prints why; an error here would make the launcher end it before
            return 0
        on_step = screen.step if workers.is_main else None
        without = given.get("without_change")
        handle = api.start_run(
            Path(folder), queue=not options.no_queue, on_step=on_step, without_change=without, workers=workers, device=device
        )
        if workers.is_main:
            screen.follow(handle)
    finally:
        screen.close()
        workers.leave()
    if workers.is_main:
        print_outcome(handle, file=sys.stderr if options.json else sys.stdout)
    return exit_code(handle) if workers.is_main else 0


def look_ahead(given: dict[str, Any], *, as_json: bool) -> int:
    """Print the report of a new run. Raises DoesNotFit, as the run would, if the memory is not enough."""
    from lab import api
    from lab.training.setup.preflight import DoesNotFit

    try:
        report, refusal = api.preflight(**given), None
    except DoesNotFit as error:
        report, refusal = error.report, error
    lines = report.lines()
    if refusal is not None and report.advice:
        lines.pop()  # the error repeats it
    print(json.dumps(report.model_dump(mode="json")) if as_json else "\n".join(lines))
    if refusal is not None:
        raise refusal
    return 0


def detach(given: dict[str, Any], options: argparse.Namespace, screen: JsonLines | Bar) -> int:
    """Start the training in a separate process, and print the run's folder."""
    from lab import api

    try:
        handle = api.train(
            **given, run_dir=options.run_dir, queue=not options.no_queue, executor="process", progress=screen.preparing
        )
    finally:
        screen.close()
    started = {"run": handle.dir.name, "folder": str(handle.dir)}
    print(json.dumps(started) if options.json else f"{handle.dir} trains in the background; python -m lab show {handle.dir}")
    return 0


def train_detached(options: argparse.Namespace) -> int:
    """Train in the separate process that `start_group` has started. States and warnings are in the runs' stores."""
    from lab import api
    from lab.run import RunLock

    logging.getLogger("lab").setLevel(logging.ERROR)  # the last line of the log is to be why the process ended
    lock = RunLock.inherited(options.run_dir, options.lock_descriptor)
    if not options.then:
        handle = api.start_run(options.run_dir, queue=not options.no_queue, without_change=options.without_change, lock=lock)
        until_ended(lambda: None, handle)
        return 0 if handle.state in ("finished", "stopped") else 1
    import lab.training.loop  # noqa: F401 (what all of them need; then they queue up in this order)

    runs = {Path(folder): RunLock.inherited(Path(folder), int(descriptor)) for descriptor, folder in options.then}
    with tempfile.TemporaryDirectory() as line:  # in which the runs of this process wait for each other
        queues = Path(line) if options.no_queue else None
        handles = [api.start_run(folder, lock=held, queues=queues) for folder, held in ({options.run_dir: lock} | runs).items()]
        until_ended(lambda: None, *handles)
    return 0 if all(handle.state in ("finished", "stopped") for handle in handles) else 1


def from_branch(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `lab.train` for a branch, or none.

    Raises RunError for an unknown run, and ConfigError for a step without a checkpoint.
    """
    if not options.branch:
        if options.fresh_optimizer:
            raise ConfigError("--fresh-optimizer is for a branch; give --branch RUN with it.")
        return {}
    name, sign, step = options.branch.rpartition("@")
    numbered = bool(sign) and step.isdecimal()
    run = open_run(name if numbered else options.branch)
    at = int(step) if numbered else None
    find_checkpoint(run.dir, at)
    return {"branch_from": run, "at": at, "keep_optimizer": not options.fresh_optimizer}


def settings(options: argparse.Namespace, branch: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return TrainConfig fields from the file and the flags. `--set` alone changes the objective of a branch's parent.

    Raises ValueError for a `--set` that is not KEY=VALUE.
    """
    given = read_config(options.config) if options.config else {}
    for name in (*OWN_FLAGS, *TrainConfig.model_fields):
        if (value := getattr(options, name, None)) is not None:
            given[name] = value
    if options.set:
        objective = given.get("objective")
        if objective is None and branch:
            objective = checkpoint_settings(find_checkpoint(branch["branch_from"].dir, branch["at"])).objective.spec()
        if objective is None:
            raise ConfigError("--set changes a parameter of an objective; say which with --objective NAME.")
        given["objective"] = with_parameters(objective, options.set)
    return given
