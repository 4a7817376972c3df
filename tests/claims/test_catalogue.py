"""The claims as declared: complete, consistent with the experiments, and possible settings."""

from __future__ import annotations

import math
import re

import pytest

from lab.claims import CLAIMS, FULL, TRIALS, Base, declaration_of, trial_of
from lab.experiments import PairSet, plan

PAIRS = {"world": PairSet("nowhere", 1, "world")}


def test_there_are_enough_claims_with_keys_of_their_own():
    keys = [claim.key for claim in CLAIMS]
    assert len(keys) == len(set(keys)) >= 14
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]+", key) for key in keys)


def test_every_variant_belongs_to_one_experiment_and_every_experiment_is_needed():
    labels = [label for trial in TRIALS for label in trial.variants]
    assert len(labels) == len(set(labels))
    assert {variant for claim in CLAIMS for variant in claim.variants} == set(labels)
    assert trial_of("flipped spo").flipped
    assert {variant for claim in CLAIMS for part in claim.beside for variant in part.variants} <= set(labels)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_is_complete(claim):
    assert claim.sentence.endswith(".")
    assert claim.source
    assert claim.confirmed.low < claim.confirmed.high
    assert math.isfinite(claim.confirmed.low) or math.isfinite(claim.confirmed.high)
    assert bool(claim.parts) != bool(claim.cost)
    assert claim.smallest > 0
    assert claim.rule.startswith("Confirmed if the 95 % interval")


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.key)
def test_an_experiment_can_be_planned(trial):
    base = Base(("world",), ("world",))
    runs = plan(declaration_of(trial, base, FULL, FULL.seeds), PAIRS, template_time="2026-01-31T12:00:00")
    assert len(runs) == len(trial.variants) * FULL.seeds
    assert {run.variant for run in runs} == set(trial.variants)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs), "an early report has all variants with few seeds"


def test_every_seed_has_a_world_of_its_own():
    base = Base(("a", "b", "c"), ("p", "q", "r"))
    pairs = {name: PairSet(name, 1, name) for name in base.pairs}
    runs = plan(declaration_of(TRIALS[0], base, FULL, 3), pairs, template_time="2026-01-31T12:00:00")
    assert {(run.seed, run.config.model, run.config.pairs) for run in runs} == {(0, "a", "p"), (1, "b", "q"), (2, "c", "r")}
