"""`python -m lab show` shows a run, or controls it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from .parameters import assignment
from .runs import columns


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser("show", help="show a run, or control it", description="A run's state, latest numbers and warnings.")
    p.add_argument("run_name", metavar="RUN", help="its folder, its name from `runs`, or the beginning of that name")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument(
        "--export",
        metavar="WHAT",
        help="write numbers: scalars, pairs, terms, held_out, panel, layers, events, tokens, figure:NAME",
    )
    p.add_argument("--to", metavar="FILE", help="file for --export: a new .csv or .parquet file, for a figure also .html")
    p.add_argument(
        "--watch", action="store_true", help="print findings of the diagnosis as they come, with a bell, until the run has ended"
    )
    control = p.add_mutually_exclusive_group()
    for kind, description in REQUESTS.items():
        control.add_argument(f"--{kind}", dest="request", action="store_const", const=kind, help=description)
    control.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="change a setting: learning_rate=5e-5, beta=0.2, base.beta=0.2, ..."
    )
    control.add_argument(
        "--take-edits", action="store_true", help="train on the pair store's present content from the next step on"
    )
    p.set_defaults(run=show)


REQUESTS = {
    "pause": "pause the run; --resume continues it",
    "resume": "continue after --pause (a run that has ended continues with: train --run-dir RUN --resume)",
    "stop": "save a checkpoint and end",
    "checkpoint": "save a checkpoint",
}
"""Control requests without arguments, and their help texts."""


def show(options: argparse.Namespace) -> int:
    """Print a run's state and numbers, or send it a request."""
    import lab
    from lab.run.listing.index import summarize
    from lab.run.listing.summary import UnreadableRun
    from lab.store import RunError

    run = lab.open_run(options.run_name)
    if options.export or options.to:
        if not (options.export and options.to):
            raise ValueError("Give both --export WHAT and --to FILE, as in: --export scalars --to scalars.csv")
        print(run.export(options.export, options.to))
        return 0
    if options.request:
        return send(run, options.request)
    if options.set:
        print(set_in(run, dict(assignment(text) for text in options.set)))
        return 0
    if options.take_edits:
        run.take_edits()
        print(f"Sent {run.name} the request to take the edits of its pairs.")
        return 0
    if options.watch:
        return watch(run)
    latest = run.reader.scalars.latest()
    summary = summarize(run.dir)
    if isinstance(summary, UnreadableRun):
        raise RunError(summary.reason)
    result = columns(summary) | {"folder": str(run.dir), "stage": run.status.get("stage"), "latest": latest}
    warnings = [d["message"] for d in run.events("warning", "refused")["detail"]]
    report = run.preflight()
    if options.json:
        result["diagnosis"] = [asdict(finding) for finding in run.diagnose()]
        result["preflight"] = report.model_dump(mode="json") if report else None
        print(json.dumps(result | {"warnings": warnings, "config": run.manifest["config"]}))
        return 0
    for key, value in result.items():
        if key != "latest" and value not in (None, ""):
            print(f"{key:>12}  {value}")
    for name, value in latest.items():
        print(f"{name:>28}  {value:.6g}")
    if report:
        print("before the first step:")
        for line in report.lines():
            print(f"  {line}")
        print(f"  {measured(run)}")
    for message in warnings:
        print(f"     warning  {message}")
    sys.stdout.flush()  # the diagnosis imports pandas, which takes a second
    from lab.diagnosis import CHECKS

    findings = run.diagnose()
    print(f"diagnosis after step {run.step:,}:" if findings else f"diagnosis: no problem found ({len(CHECKS)} checks)")
    for finding in findings:
        print(f"  {finding.severity}: {finding.message}")
        if finding.pairs:
            print(f"    pairs {', '.join(finding.pairs)}")
    return 0


def send(run: Any, request: str) -> int:
    """Send a control request. Stopping a run that has ended meanwhile is no error."""
    from lab.store import ENDED, RunError

    try:
        getattr(run, request)()
    except RunError:
        if request != "stop" or run.state not in ENDED:
            raise
        print(f"{run.name} has ended already ({run.state}).")
        return 0
    print(f"Sent {run.name} the request to {request}.")
    return 0


def watch(run: Any, every: float = 1.0) -> int:
    """Print the findings of a run's diagnosis, those so far and new ones, until the run has ended.

    Ctrl-C ends the command, not the run.

    Args:
        run: The run.
        every: Seconds between two reads.
    """
    from lab.store import ENDED

    state = run.state
    if state not in ENDED:
        steps = run.manifest["config"]["steps"]
        place = f"Watching {run.name} ({state}, step {run.step:,} of {steps:,})"
        print(f"{place}; findings of the diagnosis are printed here. Ctrl-C ends watching, not the run.", flush=True)
    from lab.diagnosis.alerts import Alert, print_alert  # imports more than the line above should wait for

    seen = 0
    try:
        while True:
            state = run.state  # before the events: the last of them come with the end
            events = run.reader.events.read("diagnosis", after=seen)
            for number, step, detail in zip(events["number"], events["step"], events["detail"]):
                seen = int(number)
                message = f"over: {detail['message']}" if detail.get("over") else detail["message"]
                print_alert(Alert(run.dir.name, int(step), detail["finding"], detail["severity"], message))
            if state in ENDED:
                severity = "error" if state in ("failed", "crashed") else "notice"
                why = f": {run.error}" if run.error else "."
                print_alert(Alert(run.dir.name, run.step, state, severity, f"The run is {state}{why}"))
                return 0 if state in ("finished", "stopped") else 1
            time.sleep(every)
    except KeyboardInterrupt:
        print(f"No longer watching; {run.name} continues training.", file=sys.stderr)
        return 0


PATIENCE = 10.0
"""Seconds to wait for a run's answer."""


def set_in(run: Any, settings: dict[str, str]) -> str:
    """Request changed settings and return the run's answer as text. Raises RunError with its reason if it refused."""
    wanted = ", ".join(f"{path} = {value}" for path, value in settings.items())
    answer = run.await_answer(run.send_settings(settings), timeout=PATIENCE)
    if answer is None:
        return f"Sent {run.name} the request to set {wanted}; it is {run.state} and has not answered yet. `show` reports a refusal."
    if not answer["settings"]:
        return f"{run.name} has {wanted} already."
    changes = (
        f"{path} = {now:g} (was {before:g})" if _number(now) and _number(before) else f"{path} = {now} (was {before})"
        for path, (before, now) in answer["settings"].items()
    )
    return f"{run.name} trains with {', '.join(changes)} from step {answer['step'] + 1} on."


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def measured(run: Any) -> str:
    """Return the measured memory and time, for comparison with the report's estimates."""
    from lab.run.preflight_report import seconds, size

    status, step = run.status, run.step
    if not step or "memory" not in status:
        return "since    nothing measured yet"
    return f"since    {seconds(status['seconds'] / step)} a step, {size(status['memory'])} held by the training process at most"
