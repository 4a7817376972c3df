"""`python -m lab runs` and `show`: the list of runs, and one of them - to look at and to steer."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

from .parameters import assignment


def add(commands: Any) -> None:
    """Declare both commands."""
    p = commands.add_parser("runs", help="list the runs", description="Every run this machine's user has, newest first.")
    p.add_argument("--json", action="store_true", help="one JSON object a line")
    p.set_defaults(run=list_runs)
    p = commands.add_parser("show", help="look at a run, or steer it", description="A run's state, latest numbers and warnings.")
    p.add_argument("run_name", metavar="RUN", help="its folder, or a name from `runs` or how one begins")
    p.add_argument("--json", action="store_true", help="one JSON object")
    p.add_argument(
        "--export",
        metavar="WHAT",
        help="write numbers: scalars, pairs, terms, held_out, panel, layers, events, tokens, figure:NAME",
    )
    p.add_argument("--to", metavar="FILE", help="where --export writes them: a new .csv or .parquet file; of a figure also .html")
    p.add_argument(
        "--watch", action="store_true", help="stay, and print what the diagnosis finds, with a bell, until the run has ended"
    )
    steer = p.add_mutually_exclusive_group()
    for kind in ("pause", "resume", "stop", "checkpoint"):
        steer.add_argument(f"--{kind}", dest="request", action="store_const", const=kind, help=f"ask the run to {kind}")
    steer.add_argument("--set", action="append", metavar="KEY=VALUE", help="learning_rate=5e-5, beta=0.2, base.beta=0.2, ...")
    steer.add_argument("--take-edits", action="store_true", help="train on the pair store's present content from the next step on")
    p.set_defaults(run=show)


def list_runs(options: argparse.Namespace) -> int:
    """A line a run: folder, name, state, place in the queue, step, objective, pairs, model, remaining time, error; a column that no
    run has anything in is left out."""
    import lab

    rows = [summary(run) for run in lab.runs()]
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    if not rows:
        print("There is no run yet; start one with: python -m lab train --objective sgdpo")
        return 0
    head = {key: key for key in rows[0] if any(row[key] not in (None, "") for row in rows)}
    cells = [[str("" if row[key] is None else row[key]) for key in head] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    return 0


def summary(run: Any) -> dict[str, Any]:
    """The facts of a run that fit on a line."""
    about, status, state = run.manifest["config"], run.status, run.state
    place = run.place if state == "queued" else None
    remaining = status.get("remaining")
    return {
        "run": run.dir.name,
        "name": about["name"],
        "state": state,
        "queue": place.message if place and place.place else "",
        "step": run.step,
        "steps": about["steps"],
        "objective": about["objective"]["name"],
        "pairs": run.manifest.get("pairs_name", about["pairs"]),
        "model": about["model"],
        "twins": " ".join(twins_of(run)),
        "remaining": f"{remaining:.0f} s" if remaining and state in ("running", "paused") else "",
        "error": run.error or "",
    }


def twins_of(run: Any) -> list[str]:
    """Folder names of a run's twins; of a damaged list of them, why."""
    from lab.store import RunError

    try:
        return [twin.dir.name for twin in run.twins]
    except RunError as error:
        return [str(error)]


def show(options: argparse.Namespace) -> int:
    """Print what a run is doing, or pass a request on to it."""
    import lab
    from lab.diagnosis import CHECKS

    run = lab.open_run(options.run_name)
    if options.export or options.to:
        if not (options.export and options.to):
            raise ValueError("Give both --export WHAT and --to FILE, as in: --export scalars --to scalars.csv")
        print(run.export(options.export, options.to))
        return 0
    if options.request:
        getattr(run, options.request)()
        print(f"Asked {run.name} to {options.request}.")
        return 0
    if options.set:
        print(set_in(run, dict(assignment(text) for text in options.set)))
        return 0
    if options.take_edits:
        run.take_edits()
        print(f"Asked {run.name} to take the edits of its pairs.")
        return 0
    if options.watch:
        return watch(run)
    latest = run.reader.latest()
    facts = summary(run) | {"folder": str(run.dir), "stage": run.status.get("stage"), "latest": latest}
    warnings = [d["message"] for d in run.events("warning", "refused")["detail"]]
    report = run.preflight()
    findings = run.diagnose()
    if options.json:
        facts["diagnosis"] = [asdict(one) for one in findings]
        facts["preflight"] = report.model_dump(mode="json") if report else None
        print(json.dumps(facts | {"warnings": warnings, "config": run.manifest["config"]}))
        return 0
    for key, value in facts.items():
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
    print(f"diagnosis after step {run.step:,}:" if findings else f"diagnosis: no trouble found ({len(CHECKS)} checks)")
    for one in findings:
        print(f"  {one.severity}: {one.message}")
        if one.pairs:
            print(f"    pairs {', '.join(one.pairs)}")
    return 0


def watch(run: Any, every: float = 1.0) -> int:
    """Print what the run's diagnosis finds as it comes, first what stands already, until the run has ended; Ctrl-C ends the
    watching, not the run."""
    from lab.diagnosis.alerts import Alert, say
    from lab.store import ENDED

    seen = 0
    try:
        while True:
            state = run.state  # before the events: the last of them come with the end
            events = run.reader.events("diagnosis", after=seen)
            for number, step, detail in zip(events["number"], events["step"], events["detail"]):
                seen = int(number)
                message = f"over: {detail['message']}" if detail.get("over") else detail["message"]
                say(Alert(run.dir.name, int(step), detail["finding"], detail["severity"], message))
            if state in ENDED:
                severity = "error" if state in ("failed", "dead") else "notice"
                why = f": {run.error}" if run.error else "."
                say(Alert(run.dir.name, run.step, state, severity, f"The run is {state}{why}"))
                return 0 if state in ("finished", "stopped") else 1
            time.sleep(every)
    except KeyboardInterrupt:
        print(f"No longer watching; {run.name} goes on.", file=sys.stderr)
        return 0


PATIENCE = 10.0
"""Seconds that a run has to answer before the terminal is given back."""


def set_in(run: Any, settings: dict[str, str]) -> str:
    """Ask a run to change settings, and what it said. Raises RunError with the run's words where it refused."""
    wanted = ", ".join(f"{path} = {value}" for path, value in settings.items())
    answer = run.await_answer(run.send_settings(settings), timeout=PATIENCE)
    if answer is None:
        return f"Asked {run.name} to set {wanted}; it is {run.state} and has not come to it yet, `show` will say what it did."
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
    """What memory and time have really been, beside the report's estimates."""
    from lab.run.preflight_report import seconds, size

    status, step = run.status, run.step
    if not step or "memory" not in status:
        return "since    nothing measured yet"
    return f"since    {seconds(status['seconds'] / step)} a step, {size(status['memory'])} held by the training process at most"
