"""Run the experiments of the claims, read their results, and time the methods: what `python -m lab bench claims` does."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from lab import api, home, sweeping
from lab.claims import (
    CLAIMS,
    FLIPPED_SHARE,
    FULL,
    TRIALS,
    Base,
    Claim,
    Judged,
    Scale,
    Trial,
    correct_together,
    declaration_of,
    judge,
    measure,
    measure_cost,
)
from lab.claims.measuring import Curves
from lab.claims.trials import METHODS
from lab.experiments import ExperimentFolder, PlannedRun, experiment_folder, plan
from lab.experiments.statistics import curves_of
from lab.opening import open_pairs
from lab.pairs import Pair, PairStore
from lab.run.config import ConfigError
from lab.store import RunError, durable

FLIP_SEED = 15
"""Seed of the choice of the labels that are flipped, the same for every method."""
TIMED_STEPS, TIMED_BATCH = 30, 16
"""Steps and pairs per step of a timed run."""
USUAL_SECONDS, SPO_FACTOR = {"world": 45.0, "world-hard": 110.0}, 2.0
"""CPU seconds of a run with one thread by world, and how many times as many one with SPO takes, until such runs have finished."""

Bases = Mapping[str, Base]
"""Base models and pairs by the name of the world."""


def chosen_claims(keys: Sequence[str]) -> list[Claim]:
    """Return the claims of some keys, or all for none. Raises ConfigError for an unknown key."""
    known = {claim.key: claim for claim in CLAIMS}
    if wrong := [key for key in keys if key not in known]:
        raise ConfigError(f"There is no claim {wrong[0]!r}; choose from {', '.join(known)}.")
    return [known[key] for key in keys] if keys else list(CLAIMS)


def full_bases(seeds: int) -> Bases:
    """Return the worlds of the full report: world number k for seed k, with its own pairs, prompts and model."""
    worlds = dict.fromkeys(trial.world for trial in TRIALS)
    names = {world: (world, *(f"{world}:{number}" for number in range(1, seeds))) for world in worlds}
    return {world: Base(own, own) for world, own in names.items()}


def flipped(source: str) -> str:
    """Return the location of a set of pairs with FLIPPED_SHARE of its labels flipped, made the first time."""
    original = open_pairs(source)
    pairs = list(original)
    wrong = set(Random(FLIP_SEED).sample(range(len(pairs)), round(FLIPPED_SHARE * len(pairs))))
    name = f"claims-flipped-{Path(original.location).stem}"
    made = (_flipped(pair) if number in wrong else pair for number, pair in enumerate(pairs))
    return PairStore.create(home.home() / "pairs" / f"{name}.sqlite", made, name=name, source=original.source).location


def _flipped(pair: Pair) -> Pair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        curves: Curves of the finished runs, by the variant's label and the seed.
        planned: The runs of each experiment that was begun.
        sizes: What the runs of each world were trained on, of the first finished run.
        seconds: Seconds of each finished run, by its key.
        rounds: CPU seconds per step by objective, of each timed round.
        bases: Number of base models of each world.
        failed: Failed runs with their reasons, one sentence each.
    """

    curves: Curves
    planned: Mapping[str, Sequence[PlannedRun]]
    sizes: Mapping[str, Mapping[str, int]]
    seconds: Mapping[str, float]
    rounds: Sequence[Mapping[str, float]]
    bases: Mapping[str, int]
    failed: Sequence[str]


def read_results(scale: Scale = FULL) -> Results:
    """Return what was measured so far. Opens no pairs and no models, so that it works after either has changed."""
    curves: dict[str, Any] = {}
    planned: dict[str, list[PlannedRun]] = {}
    sizes: dict[str, Mapping[str, int]] = {}
    seconds: dict[str, float] = {}
    bases: dict[str, int] = {}
    failed: list[str] = []
    for trial in TRIALS:
        folder = experiment_folder(trial.name)
        if not folder.exists:
            continue
        runs = planned[trial.key] = _planned(trial, folder, scale)
        bases.setdefault(trial.world, len({run.config.model for run in runs}))
        records = {run.key: record for run in runs if (record := folder.record(run.key)) is not None}
        curves |= curves_of(runs, records)
        states = last.runs if (last := folder.state()) else {}
        failed += [
            f"{run.variant}, seed {run.seed}: {states[run.key].error}"
            for run in runs
            if run.key not in records and run.key in states and states[run.key].state == "failed"
        ]
        for key, record in records.items():
            sizes.setdefault(trial.world, record.get("sizes", {}))
            if record["wall"]:
                seconds[key] = record["wall"]
    return Results(curves, planned, sizes, seconds, read_timing(), bases, failed)


def judged_claims(claims: Sequence[Claim], results: Results, scale: Scale = FULL) -> list[Judged]:
    """Return the verdicts on some claims, corrected together."""
    return correct_together(
        [
            judge(
                measure_cost(claim, results.rounds, scale.rounds)
                if claim.cost
                else measure(claim, results.curves, scale.seeds)
            )
            for claim in claims
        ]
    )  # fmt: skip


def run_missing(
    claims: Sequence[Claim],
    *,
    bases: Bases,
    follow: Callable[[ExperimentFolder], int],
    scale: Scale = FULL,
    seeds: int | None = None,
    workers: int | None = None,
) -> Iterator[int]:
    """Run what some claims still need; yields the exit code of each experiment that was continued, in two passes.

    All experiments get two seeds before any gets more, so that an early report has every claim with few seeds. There are no more
    passes, since a core has nothing to do at the end of an experiment.

    Args:
        claims: The claims.
        bases: Base models and pairs of each world.
        follow: Starts an experiment's missing runs and returns when they have ended, with an exit code.
        scale: Size of the runs.
        seeds: Number of seeds; None for those of the scale.
        workers: Runs that train at once; None for one per core.
    """
    needed = {variant for claim in claims for variant in claim.variants}
    most = scale.seeds if seeds is None else seeds
    for count in dict.fromkeys([min(2, most), most]):
        for trial in TRIALS:
            only = [label for label in trial.variants if label in needed]
            base = bases[trial.world]
            if not only or not _missing(trial, base, only, count, scale):
                continue
            if trial.flipped:
                base = replace(base, pairs=tuple(flipped(source) for source in base.pairs))
            folder = experiment_folder(trial.name)
            declaration = declaration_of(trial, base, scale, count, only)
            sweeping.store_declaration(folder, declaration, workers=workers, keep_checkpoints=False)
            yield follow(folder)


def _planned(trial: Trial, folder: ExperimentFolder, scale: Scale) -> list[PlannedRun]:
    """Return the runs of all seeds that an experiment was begun with, on the models and pairs that it was begun with."""
    content = folder.read()
    with_seed = content.declaration.with_seed
    base = Base(tuple(with_seed["model"]), tuple(with_seed["pairs"]))
    known = [seed for seed in range(scale.seeds) if base.pairs[seed % len(base.pairs)] in content.pair_sets]
    declared = declaration_of(trial, base, scale, known)
    return plan(declared, content.pair_sets, template_time=content.template_time, models=content.models)


def _missing(trial: Trial, base: Base, only: Sequence[str], seeds: int, scale: Scale) -> bool:
    """Return whether a run of some variants with the first seeds has no record yet, or had other models."""
    folder = experiment_folder(trial.name)
    if not folder.exists or list(folder.read().declaration.with_seed["model"]) != list(base.models):
        return True
    wanted = {run.key for run in _planned(trial, folder, scale) if run.variant in only and run.seed < seeds}
    return len(wanted) < len(only) * seeds or not wanted <= folder.recorded()


@dataclass(frozen=True)
class Ahead:
    """Runs of one experiment that are still to be done.

    Attributes:
        trial: The experiment.
        total: Runs that the chosen claims need.
        done: Those with a result.
        seconds: Estimated seconds of CPU time of the others.
    """

    trial: Trial
    total: int
    done: int
    seconds: float


def look_ahead(claims: Sequence[Claim], results: Results, seeds: int) -> list[Ahead]:
    """Return what some claims still need, with the time that finished runs of the same experiment and objective took."""
    needed = {variant for claim in claims for variant in claim.variants}
    ahead = []
    for trial in TRIALS:
        only = [label for label in trial.variants if label in needed]
        runs = results.planned.get(trial.key, ())
        total, done, seconds = len(only) * seeds, 0, 0.0
        for label in only:
            finished = len(set(results.curves.get(label, {})) & set(range(seeds)))
            name = trial.variants[label]["name"]
            same = [results.seconds[run.key] for run in runs if run.key in results.seconds and run.config.objective.name == name]
            usual = USUAL_SECONDS[trial.world] * (SPO_FACTOR if name == "spo" else 1.0)
            each = sum(same) / len(same) if same else usual
            done += finished
            seconds += (seeds - finished) * each
        if only:
            ahead.append(Ahead(trial, total, done, seconds))
    return ahead


def timing_file() -> Path:
    """Return the file with the timed rounds."""
    return home.home() / "claims" / "timing.json"


def read_timing() -> list[Mapping[str, float]]:
    """Return the timed rounds, CPU seconds per step by objective; none before they were timed. RunError for a damaged file."""
    try:
        rounds = json.loads(timing_file().read_text(encoding="utf-8"))
        return [{str(name): float(value) for name, value in own.items()} for own in rounds]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{timing_file()} is damaged ({error}); delete it, and the methods are timed again.") from None


def time_methods(rounds: int, model: str, pairs: str, *, steps: int = TIMED_STEPS) -> list[Mapping[str, float]]:
    """Time the methods in short runs, in an order that turns from round to round, and store every round when it is done.

    The time is that of the training thread on the CPU, and torch has no other, so that other work on the machine matters little.

    Args:
        rounds: Rounds to have in the end, those of an earlier call included.
        model: The model.
        pairs: The pairs.
        steps: Steps of a timed run.
    """
    import torch

    measured = read_timing()
    store, threads = open_pairs(pairs), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if len(measured) < rounds:
            _seconds_per_step("dpo", store, model, steps, 0)  # what the first run of a process pays once is not timed
        while len(measured) < rounds:
            first = len(measured) % len(METHODS)  # each method comes first in turn
            order = [*METHODS][first:] + [*METHODS][:first]
            measured.append({name: _seconds_per_step(name, store, model, steps, len(measured)) for name in order})
            timing_file().parent.mkdir(parents=True, exist_ok=True)
            durable.write_json(timing_file(), measured)
    finally:
        torch.set_num_threads(threads)
    return measured


def _seconds_per_step(name: str, store: PairStore, model: str, steps: int, seed: int) -> float:
    """Return the mean CPU seconds of a step, from the end of the first step to that of the last."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = api.train(
            METHODS[name], store, model, run_dir=Path(folder) / "run", background=False, queue=False, steps=steps,
            batch_size=TIMED_BATCH, save_every=0, evaluate=False, probe_budget=0, listed=False, seed=seed, executor="thread",
            on_step=lambda step, scalars: ends.append(time.thread_time()),
        )  # fmt: skip
        if run.state != "finished":
            raise RunError(f"The run that times {name} {run.state}: {run.error}")
    return (ends[-1] - ends[0]) / (len(ends) - 1)
