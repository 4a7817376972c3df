"""`python -m lab train`: start a run, or continue one, in the foreground of a terminal."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lab.cli import fail, twins
from lab.cli.runs import assignment
from lab.run import find_run, open_run
from lab.training.config import ConfigError, TrainConfig, read_config

OWN_FLAGS = ("objective", "pairs", "model")


def add(commands: Any) -> None:
    """Declare the command; one flag for every field of TrainConfig."""
    p = commands.add_parser("train", help="start or continue a run", description="Train a model on preference pairs.")
    p.add_argument("--objective", metavar="NAME", help="the preference objective: dpo, sgdpo, alpha_dpo, simpo, spo, ...")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the objective; may be repeated")
    p.add_argument("--pairs", metavar="P", help="world, a JSONL/CSV/Parquet file, a hub id or a pair store (default: world)")
    p.add_argument(
        "--model",
        metavar="M",
        help="world, a causal language model's folder or hub id, an adapter's folder, or a GGUF file (default: world)",
    )
    p.add_argument("--config", type=Path, metavar="FILE", help="settings from a YAML file; flags beside it win")
    p.add_argument("--run-dir", type=Path, metavar="D", help="folder of the run (default: a new one among your runs)")
    p.add_argument("--resume", action="store_true", help="continue the run in --run-dir from its latest checkpoint")
    p.add_argument("--branch", metavar="RUN[@STEP]", help="begin from a checkpoint of another run (default: its latest)")
    p.add_argument("--fresh-optimizer", action="store_true", help="a branch begins with fresh AdamW statistics")
    twins.add(p)
    p.add_argument("--json", action="store_true", help="print one JSON line per step instead of a progress bar")
    p.add_argument("--dry-run", action="store_true", help="say what the run would meet (lengths, cuts, memory, time), and end")
    p.add_argument(
        "--detach", action="store_true", help="train in a process of its own that outlives this terminal; return at once"
    )
    p.add_argument("--no-queue", action="store_true", help="start at once, even if another run trains on the same device")
    p.add_argument("--lock-descriptor", type=int, help=argparse.SUPPRESS)  # of the process that --detach starts
    for name, field in TrainConfig.model_fields.items():
        if name in OWN_FLAGS:
            continue
        default = "" if field.default in ("", None) else f" (default: {field.default})"
        words = f"{field.description}{default}".replace("%", "%%")
        p.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help=words)
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train until the run ends. Ctrl-C stops it after saving a checkpoint; a second one breaks off."""
    from lab import api

    twins.check(options)
    branch = from_branch(options)
    given = settings(options, branch) | branch
    if options.resume:
        if options.dry_run:
            raise ConfigError("--dry-run looks at a run that is yet to be made; a run that exists shows its report with: show RUN.")
        if given:
            raise ConfigError(f"To resume, give --run-dir alone; {', '.join(given)} would change a run that is half done.")
        if options.run_dir is None:
            raise ConfigError("To resume, say which run: --run-dir FOLDER.")
        given, options.run_dir = {"resume": True}, find_run(options.run_dir)
    elif "objective" not in given and not branch:
        raise ConfigError("Say which objective: --objective NAME, for example --objective sgdpo.")
    if options.dry_run and branch:
        raise ConfigError("--dry-run looks at a new run; a branch reports by itself before its first step.")
    if options.dry_run:
        return look_ahead(given, as_json=options.json)
    signal.signal(signal.SIGTERM, _interrupt)
    if options.lock_descriptor is not None:
        return train_detached(options)
    if options.twin and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return twins.train(given, options)
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
    return 0 if handle.state in ("finished", "stopped") else 1


def train_together(given: dict[str, Any], options: argparse.Namespace, screen: JsonLines | Bar) -> int:
    """One of the processes that `accelerate launch` or `torchrun` has started; the first makes the run and speaks."""
    from lab import api
    from lab.monitor import read_about
    from lab.training.workers import join

    resumed = read_about(options.run_dir)["config"] if given.get("resume") else {}
    workers, device = join(given.get("device") or resumed.get("device") or "auto")
    if not workers.writes:
        screen.close()
        logging.getLogger("lab").setLevel(logging.ERROR)  # what people should know the first process says
        for interruption in (signal.SIGINT, signal.SIGTERM):
            signal.signal(interruption, signal.SIG_IGN)  # it stops when the first process has heard and agreed on it
    try:
        made = None
        try:
            if workers.writes:
                made = str(options.run_dir if resumed else api.make_run(**given, run_dir=options.run_dir))
        finally:
            made = workers.agree(made)
        if made is None:  # the first process says why, and is not to be ended by the launcher before it has
            return 0
        told = screen.step if workers.writes else None
        handle = api.start_run(Path(made), queue=not options.no_queue, on_step=told, workers=workers, device=device)
        if workers.writes:
            screen.follow(handle)
    finally:
        screen.close()
        workers.leave()
    if workers.writes:
        print_outcome(handle, file=sys.stderr if options.json else sys.stdout)
    return 0 if handle.state in ("finished", "stopped") or not workers.writes else 1


def look_ahead(given: dict[str, Any], *, as_json: bool) -> int:
    """Print the report that the run would begin with."""
    from lab import api

    report = api.preflight(**given)
    print(json.dumps(report.model_dump(mode="json")) if as_json else "\n".join(report.lines()))
    return 0


def detach(given: dict[str, Any], options: argparse.Namespace, screen: JsonLines | Bar) -> int:
    """Leave the training to a process of its own and say where to find it."""
    from lab import api

    try:
        handle = api.train(
            **given, run_dir=options.run_dir, queue=not options.no_queue, executor="process", progress=screen.preparing
        )
    finally:
        screen.close()
    words = {"run": handle.dir.name, "folder": str(handle.dir)}
    print(json.dumps(words) if options.json else f"{handle.dir} trains in the background; python -m lab show {handle.dir}")
    return 0


def train_detached(options: argparse.Namespace) -> int:
    """What the detached process does: it trains the run it was born for. Its store says all there is to say of it."""
    from lab import api
    from lab.monitor import RunLock

    lock = RunLock.inherited(options.run_dir, options.lock_descriptor)
    handle = api.start_run(options.run_dir, queue=not options.no_queue, lock=lock)
    _until_ended(handle, lambda: None)
    return 0 if handle.state in ("finished", "stopped") else 1


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def from_branch(options: argparse.Namespace) -> dict[str, Any]:
    """What `lab.train` has to know of the run to branch from; empty where there is none. Raises RunError for an unknown one."""
    if not options.branch:
        if options.fresh_optimizer:
            raise ConfigError("--fresh-optimizer is for a branch; give --branch RUN with it.")
        return {}
    name, sign, step = options.branch.rpartition("@")
    numbered = bool(sign) and step.isdecimal()
    run = open_run(name if numbered else options.branch)
    return {"branch_from": run, "at": int(step) if numbered else None, "keep_optimizer": not options.fresh_optimizer}


def settings(options: argparse.Namespace, branch: dict[str, Any] | None = None) -> dict[str, Any]:
    """TrainConfig fields from the file and the flags. `--set` alone changes the objective that a branch's parent had.

    Raises ValueError for a `--set` that is not KEY=VALUE.
    """
    given = read_config(options.config) if options.config else {}
    for name in (*OWN_FLAGS, *TrainConfig.model_fields):
        if (value := getattr(options, name, None)) is not None:
            given[name] = value
    if options.set:
        objective = given.get("objective")
        if objective is None and branch:
            from lab.training.branch import settings_at

            objective = settings_at(branch["branch_from"].dir, branch["at"]).objective.spec()
        if objective is None:
            raise ConfigError("--set changes a parameter of an objective; say which with --objective NAME.")
        given["objective"] = with_parameters(objective, options.set)
    return given


def with_parameters(objective: Any, assignments: list[str]) -> dict[str, Any]:
    """An objective's name or specification with KEY=VALUE put in; "base.r1=0.7" reaches into a nested objective."""
    spec: dict[str, Any] = {"name": objective} if isinstance(objective, str) else dict(objective)
    for text in assignments:
        path, value = assignment(text)
        *parents, last = path.split(".")
        if [*parents, last] == ["name"]:
            raise ConfigError("--set name=... would train another objective than the one you named; use --objective NAME.")
        place = spec
        for parent in parents:
            inner = place.get(parent)
            place[parent] = {"name": inner} if isinstance(inner, str) else dict(inner or {})
            place = place[parent]
        place[last] = value
    return spec


def print_outcome(handle: Any, *, file: Any) -> None:
    """How the run ended, and what was measured on held-out pairs and prompts before and after."""
    if handle.state == "failed":
        fail(str(handle.error))
        return
    print(f"{handle.state} at step {handle.step} in {handle.dir}", file=file)
    looks = list(handle.events("evaluation")["detail"])
    if len(looks) > 1:
        for line in before_and_after(looks[0], looks[-1]):
            print(line, file=file)


MEASURED = (
    ("margin of held-out pairs", "eval/rewards/margins", None),
    ("accuracy on held-out pairs", "eval/rewards/accuracies", None),
    ("oracle reward of sampled answers", "eval/oracle_reward", "reward"),
    ("reward of sampled answers", "eval/reward", "reward"),
    ("win rate against the reference", "eval/win_rate", "win"),
    ("KL from the reference, nats an answer", "eval/kl", "kl"),
    ("tokens of an answer", "eval/completions/mean_length", None),
    ("repeated 4-grams of an answer", "eval/repetition", None),
)
"""Words, the scalar, and what its interval is kept under in an evaluation's detail."""

WITHOUT_BEFORE = ("eval/rewards/accuracies", "eval/win_rate", "eval/kl")
"""Policy and reference are one model before training: these are rounding, a coin and 0."""


def before_and_after(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for everything that the looks before and after training measured, with 95 % intervals where there are any."""
    lines = []
    for words, name, interval in MEASURED:
        if name not in after:
            continue
        old, new = (_value(look, name, interval) for look in (before, after))
        lines.append(f"{words}: {new}" if name in WITHOUT_BEFORE or old is None else f"{words}: {old} before, {new} after")
    return lines


def _value(look: dict[str, Any], name: str, interval: str | None) -> str | None:
    if name not in look:
        return None
    low, high = look.get(f"{interval}_low"), look.get(f"{interval}_high")
    value = look[name] if abs(look[name]) > 1e-6 else 0.0  # rounding
    return f"{value:.3g}" + ("" if low is None or high is None or math.isnan(low) else f" [{low:.3g}, {high:.3g}]")


class JsonLines:
    """One JSON object a step on standard output, flushed; everything else stays off it. earlier: see `Report`."""

    def __init__(self, earlier: int = 0) -> None:
        self.earlier = earlier

    def step(self, step: int, scalars: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}  # JSON knows no NaN
        print(json.dumps({"step": step, **finite}), flush=True)

    def preparing(self, what: str, share: float) -> None:
        pass

    def follow(self, handle: Any) -> None:
        report = Report(handle, sys.stderr, self.earlier)
        _until_ended(handle, report.show)
        report.show()

    def close(self) -> None:
        pass


class Bar:
    """A progress bar with loss, margin, speed and remaining time; plain lines where the output is no terminal. earlier: see
    `Report`."""

    def __init__(self, earlier: int = 0) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = BarColumn()
        columns = (
            TextColumn("{task.description}"),
            self.bar,
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(compact=True),
        )
        self.progress = Progress(*columns, disable=not sys.stdout.isatty())
        self.task = self.progress.add_task("preparing", total=1.0, words="")
        self.latest: dict[str, float] = {}
        self.printed, self.said, self.earlier = 0.0, [""], earlier
        self.progress.start()

    def step(self, step: int, scalars: dict[str, float]) -> None:
        self.latest = scalars | {"step": step}

    def preparing(self, what: str, share: float) -> None:
        self._fit(what, [])
        self.progress.update(self.task, description=what, completed=share)

    def _fit(self, stage: str, parts: list[str]) -> str:
        """What there is room for beside a stage, and the bar in what room is left."""
        words, self.bar.bar_width = fit(self.progress.console.width, stage, parts)
        return words

    def follow(self, handle: Any) -> None:
        self.total = handle.config.steps
        self.report = Report(handle, sys.stdout, self.earlier)
        _until_ended(handle, lambda: self.show(handle))
        self.show(handle, last=True)

    def show(self, handle: Any, *, last: bool = False) -> None:
        self.report.show()
        status, now = handle.status, self.latest
        if not now:
            self.preparing(str(status.get("stage") or "preparing"), float(status.get("stage_share") or 0))
            return
        parts = [
            f"step {now['step']}/{self.total}",
            f"loss {now['loss']:.4f}",
            f"margin {now['rewards/margins']:+.3f}",
            f"{now['pairs_per_second']:.0f} pairs/s",
            f"accuracy {now['rewards/accuracies']:.2f}",
        ]
        stage = "" if status.get("stage") == "training" else str(status.get("stage") or "")
        words = self._fit(stage, parts)
        self.progress.update(self.task, description=stage, completed=now["step"], total=self.total, words=words)
        due = last or time.monotonic() - self.printed > 5
        if self.progress.disable and due and parts != self.said:
            self.printed, self.said = time.monotonic(), parts
            print("  ".join(parts), flush=True)

    def close(self) -> None:
        self.progress.stop()


NARROW, WIDE, CLOCK = 10, 40, 7
"""Columns that the bar takes at least and at most, and those of the remaining time."""


def fit(width: int, stage: str, parts: list[str]) -> tuple[str, int]:
    """(words, columns of the bar) for a terminal of `width` columns: of the parts, the most important first, as many as fit beside
    the stage, a narrow bar and the remaining time."""
    room = width - CLOCK - 3 - len(stage)  # three spaces stand between the four columns
    words = ""
    for part in parts:
        longer = f"{words}  {part}" if words else part
        if len(longer) > room - NARROW:
            break
        words = longer
    return words, max(NARROW, min(WIDE, room - len(words)))


class Report:
    """Prints a run's preflight report once, as soon as there is one. earlier: number of the last event with a report that the run
    had before it was taken up again, which is not shown."""

    def __init__(self, handle: Any, file: Any, earlier: int = 0) -> None:
        self.handle, self.file, self.earlier, self.shown = handle, file, earlier, False

    def show(self) -> None:
        if not self.shown and (report := self.handle.preflight(after=self.earlier)):
            self.shown = True
            print("\n".join(report.lines()), file=self.file, flush=True)


def _until_ended(handle: Any, show: Any) -> None:
    """Wait for the run and keep showing it; Ctrl-C asks it to stop, a second one breaks off."""
    from lab.monitor import ENDED

    asked = False
    while True:
        try:
            if handle.wait(timeout=0.2) in ENDED:
                return
            show()
        except KeyboardInterrupt:
            if asked:
                raise
            asked = True
            print("Stopping after a checkpoint; press Ctrl-C again to break off.", file=sys.stderr)
            handle.stop()
