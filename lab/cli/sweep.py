"""`python -m lab sweep`: run an experiment from a YAML file, and show, control or continue one."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lab.run.config import ConfigError

KINDS = {"pause": "pause its runs; --resume continues", "stop": "stop its runs with a checkpoint; --resume continues"}


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "sweep",
        help="run an experiment: objectives x settings x seeds, with intervals",
        description="Run the experiment in a YAML file, or show one by its name; without either, list all. Runs that are done are "
        "not repeated, interrupted ones are continued.",
    )
    p.add_argument("what", nargs="?", metavar="FILE|NAME", help="a YAML file that declares an experiment, or the name of one")
    p.add_argument("--dry-run", action="store_true", help="list the runs and the estimated time, and start nothing")
    p.add_argument("--workers", type=int, metavar="N", help="runs that train at once")
    p.add_argument("--json", action="store_true", help="print JSON: progress as one object a line, then the results")
    p.add_argument("--only-table", action="store_true", help="print the table of results without the sentences")
    p.add_argument("--retry", action="store_true", help="begin failed runs again")
    p.add_argument("--detach", action="store_true", help="start the runs in a process that outlives this terminal, and return")
    p.add_argument("--foreground", action="store_true", help=argparse.SUPPRESS)  # of the process that --detach starts
    control = p.add_mutually_exclusive_group()
    for kind, message in KINDS.items():
        control.add_argument(f"--{kind}", dest="request", action="store_const", const=kind, help=message)
    control.add_argument("--resume", action="store_true", help="continue the experiment of this name")
    control.add_argument("--rename", metavar="NEW", help="give the experiment another name; its runs keep theirs")
    control.add_argument("--delete", action="store_true", help="delete its declaration and results for good; its runs stay")
    p.add_argument("--with-runs", action="store_true", help="with --delete: move its runs to the trash, too")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run, show or list experiments; returns 0 unless a run has failed or a signal stopped them."""
    from lab.experiments import Experiment, find_experiment, open_experiment
    from lab.experiments.folder import FILE_ENDINGS

    if options.with_runs and not options.delete:
        raise ConfigError("--with-runs goes with --delete.")
    if options.dry_run and (options.request or options.rename is not None):
        raise ConfigError("--dry-run goes with an experiment to be run or deleted; leave it out.")
    if options.what is None:
        named = ("rename", "delete", "request", "resume", "retry", "dry_run", "detach")
        if any(getattr(options, option) for option in named):
            raise ConfigError("Give the name of an experiment, or the YAML file that declares one.")
        return list_all(options)
    if options.delete:
        return delete(options)
    if options.rename is not None:
        return rename(options)
    if options.request:
        open_experiment(options.what)._send(options.request)
        print(f"Sent {options.what} the request to {options.request}.")
        return 0
    is_file = options.what.endswith(FILE_ENDINGS) or (not options.resume and Path(options.what).is_file())
    if is_file and options.resume:
        raise ConfigError(f"--resume takes the name of an experiment; {options.what} alone continues what it declares.")
    if not is_file and not (options.resume or options.retry or options.dry_run):
        if options.detach or options.workers is not None:
            raise ConfigError(
                f"--detach and --workers go with the file of an experiment, or --resume: sweep {options.what} --resume."
            )
        return show(Experiment(find_experiment(options.what)), options)
    from lab import sweeping

    given: dict[str, Any] = {"file": options.what} if is_file else {"extend": options.what}
    folder, declaration = sweeping.declared(**given)
    if options.dry_run:
        return look_ahead(sweeping.resolved(folder, declaration, workers=options.workers), folder, options)
    if is_file or options.workers is not None:
        sweeping.store_declaration(folder, declaration, workers=options.workers)
    experiment = Experiment(folder)
    if options.resume and experiment.state().state == "paused":
        experiment.resume()
    elif options.foreground:
        return follow_driver(sweeping, folder, options)
    elif options.detach:
        sweeping.start_driver(folder, retry=options.retry)
        print(f"{experiment.name} has begun; `python -m lab sweep {experiment.name}` shows it.")
        return 0
    else:
        code = follow_driver(sweeping, folder, options)
        return max(show(experiment, options), code)
    return 0


def rename(options: argparse.Namespace) -> int:
    """Give an experiment another name."""
    from lab.experiments import find_experiment
    from lab.experiments.deletion import rename_experiment

    print(f"{options.what} is called {rename_experiment(find_experiment(options.what), options.rename).name}.")
    return 0


def delete(options: argparse.Namespace) -> int:
    """Say what deleting an experiment loses, and delete it."""
    from lab.experiments import find_experiment
    from lab.experiments.deletion import delete_experiment, deletion_effect
    from lab.run.preflight_report import size

    folder = find_experiment(options.what)
    effect = deletion_effect(folder)
    runs = f"{len(effect.runs):,} run{'' if len(effect.runs) == 1 else 's'}"
    finished = f"{effect.results:,} finished run{'' if effect.results == 1 else 's'}"
    for warning in effect.freed.warnings if options.with_runs else ():
        print(warning, file=sys.stderr)
    if options.dry_run:
        kept = f"move its {runs} to the trash ({size(effect.freed.bytes)})" if options.with_runs else f"keep its {runs}"
        print(f"Deleting {folder.name} would lose the results of {finished}, and {kept}.")
        return 0
    delete_experiment(folder, runs=options.with_runs)
    print(f"{folder.name} is deleted{f'; its {runs} are in the trash, see `runs trash`' if options.with_runs else ''}.")
    return 0


def follow_driver(sweeping: Any, folder: Any, options: argparse.Namespace) -> int:
    """Start the runs in this process and print their progress; Ctrl-C stops them with a checkpoint."""
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def install(driver: Any) -> None:
        def handle(number: int, frame: Any) -> None:
            if signals:
                print("Ended; the runs in training go on, and the same command takes them over.", file=sys.stderr)
                raise KeyboardInterrupt
            signals.append(number)
            print("Stopping the runs with a checkpoint; a second Ctrl-C leaves them training.", file=sys.stderr, flush=True)
            driver.stop()

        for number in before:
            signal.signal(number, handle)

    try:
        state = sweeping.drive(folder, retry=options.retry, report=Screen(as_json=options.json).show, began=install)
    finally:  # the command may go on, with another experiment, and then no driver of this one takes the signal
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        print(f"Stopped; continue with: python -m lab sweep {folder.name} --resume", file=sys.stderr)
        return 128 + signals[0]
    return 0 if state.state == "finished" else 1


class Screen:
    """Prints the progress of an experiment: one line that is overwritten in a terminal, else a line whenever a run ends."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json, self._last, self._counts = as_json, "", (-1, -1)
        self._terminal = sys.stdout.isatty()

    def show(self, state: Any) -> None:
        """Print the state if it differs from what was printed last."""
        counts = (state.count("finished"), state.count("failed", "crashed", "stopped"))
        if self._as_json:
            if counts != self._counts:
                print(json.dumps({"state": state.state, "runs": len(state.runs), "finished": counts[0], "failed": counts[1],
                                  "remaining": state.remaining}), flush=True)  # fmt: skip
        elif self._terminal:
            line = state.line
            print(f"\r{line:<{len(self._last)}}", end="\n" if state.state in ("finished", "failed", "stopped") else "", flush=True)
            self._last = line
        elif counts != self._counts:
            print(f"{time.strftime('%H:%M:%S')}  {state.line}", flush=True)
        self._counts = counts


def look_ahead(content: Any, folder: Any, options: argparse.Namespace) -> int:
    """Print the runs of a declaration and the estimated time of those that are still to be done."""
    from lab.run.preflight_report import seconds
    from lab.sweep_processes import estimated_seconds

    done = folder.recorded() if folder.exists else set()
    runs = content.runs
    to_do = [run for run in runs if run.key not in done]
    left, basis = estimated_seconds(content, to_do)
    if options.json:
        listed = [{"key": run.key, "variant": run.variant, "seed": run.seed, "done": run.key in done} for run in runs]
        print(json.dumps({"name": folder.name, "workers": content.workers, "runs": listed, "seconds": left, "basis": basis}))
        return 0
    print(f"{folder.name}: {len(runs)} runs, {len(to_do)} to do, {content.workers} at a time")
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(run.variant, []).append(f"{run.seed}{' (done)' if run.key in done else ''}")
    for variant, own in seeds.items():
        print(f"  {variant}: seed {', '.join(own)}")
    print(f"time: {f'about {seconds(left)}' if left is not None else 'not known'} ({basis})")
    return 0


def list_all(options: argparse.Namespace) -> int:
    """Print one line per experiment."""
    from lab.experiments import Experiment
    from lab.experiments.folder import experiment_folders
    from lab.store import RunError

    folders = experiment_folders()
    for folder in folders:
        try:
            experiment = Experiment(folder)
            state, notes = experiment.state(), experiment.notes() if options.json else []
        except (RunError, OSError) as error:
            print(f"{folder.name} cannot be read: {error}", file=sys.stderr)
            continue
        if options.json:
            print(json.dumps({"name": experiment.name, "notes": notes, "state": state.state, "runs": len(state.runs),
                              "finished": state.count("finished"), "remaining": state.remaining}))  # fmt: skip
        else:
            print(f"{experiment.name}  {state.state}: {state.line}")
    if not folders and not options.json:
        print("There is no experiment yet; declare one in a YAML file and start it with: python -m lab sweep FILE")
    return 0


def show(experiment: Any, options: argparse.Namespace) -> int:
    """Print the state of an experiment, its results, and why runs have failed."""
    state = experiment.state()
    finished = state.count("finished")
    comparisons = experiment.compare() if finished and len(experiment.variants) > 1 else None
    if options.json:
        rows = json.loads(experiment.table().reset_index().to_json(orient="records"))
        compared = json.loads(comparisons.table().to_json(orient="records")) if comparisons is not None else []
        said = comparisons.sentences if comparisons is not None else []
        result = {
            "name": experiment.name,
            "notes": experiment.notes(),
            "state": state.state,
            "message": state.message,
            "remaining": state.remaining,
        }
        print(json.dumps(result | {"runs": rows, "comparisons": compared, "sentences": said}))
        return 0
    print(f"{experiment.name} is {state.state}: {state.line}{f' ({state.message})' if state.message else ''}")
    for run in experiment.runs:
        own = state.runs[run.key]
        if own.state in ("failed", "crashed"):
            print(f"  {run.variant}, seed {run.seed} {own.state}: {own.error or 'without a message'}")
    for note in experiment.notes():
        print(f"  {note}")
    if finished:
        print(summary(experiment))
    if comparisons is not None and not options.only_table:
        for sentence in comparisons.sentences:
            print(f"- {sentence}")
    return 0


def summary(experiment: Any) -> str:
    """Return a table with one line per variant: the mean of each measure after training, with its 95 % interval over seeds."""
    from lab.experiments.metrics import metric_of
    from lab.experiments.results import SUMMARY, summary_table

    recorded = experiment.metrics()
    chosen = [name for name in SUMMARY if name in recorded]
    table = summary_table(experiment.table(), chosen)
    rows = [["variant", "finished", *(metric_of(name).title for name in chosen)]]
    rows += [[str(label), *map(str, row)] for label, row in zip(table.index, table.itertuples(index=False))]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
