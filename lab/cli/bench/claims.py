"""`python -m lab bench claims`: run the experiments of the papers' claims that are missing, and write the report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.claims import Claim, Scale
    from lab.claims.report import Report


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "claims",
        help="run the experiments of the papers' claims that are missing, and write the report",
        description="Run the experiments of the papers' claims that are missing, and write the report with verdicts, numbers and "
        "pictures. Runs that are done are not repeated; a command that was interrupted or killed is continued by the same one.",
    )
    p.add_argument("--only", nargs="+", default=[], metavar="KEY", help="claims to try (default: all); an unknown one lists all")
    p.add_argument("--seeds", type=int, metavar="N", help="seeds to run now (default: all that a verdict needs)")
    p.add_argument("--workers", type=int, metavar="N", help="runs that train at once (default: one per core)")
    p.add_argument("--dry-run", action="store_true", help="list the runs and the estimated time, and start nothing")
    p.add_argument("--no-runs", action="store_true", help="write the report from what is done, and start nothing")
    p.add_argument("--report", type=Path, metavar="FOLDER", help="folder of claims.md, claims.html and pictures (default: "
                   "LAB_HOME/claims)")  # fmt: skip
    p.set_defaults(run=run, as_json=False, retry=False)


def run(options: argparse.Namespace) -> int:
    """Run what is missing and write the report after every experiment; returns 0 unless a run has failed or a signal stopped it."""
    from lab import home
    from lab.claims import FULL
    from lab.run.config import ConfigError

    from . import claim_runs

    claims = claim_runs.chosen_claims(options.only)
    if options.seeds is not None and not 1 <= options.seeds <= FULL.seeds:
        raise ConfigError(f"--seeds {options.seeds} does not work: give 1 to {FULL.seeds}, the number that a verdict needs.")
    seeds = options.seeds or FULL.seeds
    if options.dry_run:
        return print_ahead(claims, seeds, options.workers)
    for module, package in (("matplotlib", "matplotlib"), ("markdown_it", "markdown-it-py")):
        if find_spec(module) is None:
            raise ConfigError(f"The report needs {package}, which is not installed: pip install 'preference-lab[claims]'.")
    folder = options.report or home.home() / "claims"
    code = 0
    if not options.no_runs:
        code = run_all(claims, folder, seeds, options)
    path = report(claims, FULL).write(folder)
    print(f"{path} and {path.with_suffix('.html').name} are written.")
    return code


def run_all(claims: Sequence[Claim], folder: Path, seeds: int, options: argparse.Namespace) -> int:
    """Run what is missing, with the report after every experiment, and time the methods; return the worst exit code."""
    from lab import sweeping
    from lab.claims import FULL
    from lab.cli.sweep import follow_driver

    from . import claim_runs

    def follow(experiment: Any) -> int:
        print(f"{experiment.name}:", flush=True)
        return follow_driver(sweeping, experiment, argparse.Namespace(retry=False, json=False))

    worst = 0
    bases = claim_runs.full_bases(FULL.seeds)
    for code in claim_runs.run_missing(claims, bases=bases, follow=follow, seeds=seeds, workers=options.workers):
        report(claims, FULL).write(folder)
        worst = max(worst, code)
        if code >= 128:  # a signal
            print("Continue with the same command.", file=sys.stderr)
            return code
    if any(claim.cost for claim in claims):
        print("timing the methods in alternating rounds", flush=True)
        claim_runs.time_methods(FULL.rounds, bases["world"].models[0], bases["world"].pairs[0])
    return worst


def report(claims: Sequence[Claim], scale: Scale) -> Report:
    """Return the report on some claims from what was measured so far."""
    from lab.claims import CHAPTERS
    from lab.claims.report import Facts, make_report

    from . import claim_runs

    results = claim_runs.read_results(scale)
    judged = {each.measured.claim.key: each for each in claim_runs.judged_claims(claims, results, scale)}
    chapters = {title: [judged[claim.key] for claim in own if claim.key in judged] for title, own in CHAPTERS.items()}
    ahead = claim_runs.look_ahead(claims, results, scale.seeds)
    done, total = sum(each.done for each in ahead), sum(each.total for each in ahead)
    return make_report(chapters, results.curves, Facts(scale, results.sizes, done, total, results.bases, results.failed))


def print_ahead(claims: Sequence[Claim], seeds: int, workers: int | None) -> int:
    """Print the runs that are still to be done, and the estimated time."""
    from lab.experiments.experiment import cores
    from lab.run.preflight_report import seconds

    from . import claim_runs

    ahead = claim_runs.look_ahead(claims, claim_runs.read_results(), seeds)
    at_once = workers or cores()
    for each in ahead:
        print(f"{each.trial.name}: {each.total} runs, {each.total - each.done} to do, about {seconds(each.seconds / at_once)}")
    left = sum(each.seconds for each in ahead)
    to_do = sum(each.total - each.done for each in ahead)
    print(f"{sum(each.total for each in ahead)} runs, {to_do} to do: about {seconds(left / at_once)}, {at_once} at a time")
    return 0
