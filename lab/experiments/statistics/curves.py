"""The evaluations of a run as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lab.experiments.plan import PlannedRun


@dataclass(frozen=True)
class Curve:
    """Evaluations of one run, in order of their steps.

    Attributes:
        steps: Steps, [K].
        scalars: Values by name, [K] each; NaN where an evaluation lacks one.
        prompts: Hashes of the prompts that were answered, the same at every evaluation; empty where there are none.
        by_prompt: Values by name, [K, P] each.
    """

    steps: np.ndarray
    scalars: Mapping[str, np.ndarray]
    prompts: tuple[str, ...] = ()
    by_prompt: Mapping[str, np.ndarray] = field(default_factory=dict)


def curve_of(record: Mapping[str, Any]) -> Curve:
    """Return the curve in the record of a run; see `lab.experiments.records`."""
    evaluations = record["evaluations"]
    measured = [{**each["scalars"], **each.get("more", {})} for each in evaluations]
    names = dict.fromkeys(name for each in measured for name in each)
    scalars = {name: np.array([each.get(name, np.nan) for each in measured], float) for name in names}
    steps = np.array([each["step"] for each in evaluations], float)
    prompts = {tuple(each["by_prompt"].get("prompt", ())) for each in evaluations}
    if len(prompts) != 1 or not (own := prompts.pop()):
        return Curve(steps, scalars, (), {})
    shared = set.intersection(*(set(each["by_prompt"]) for each in evaluations)) - {"prompt"}
    return Curve(steps, scalars, own, {name: np.array([e["by_prompt"][name] for e in evaluations], float) for name in shared})


def curves_of(runs: Sequence[PlannedRun], records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, Curve]]:
    """Return the curves of finished runs, by variant and seed. Runs whose settings were changed in mid-run are left out."""
    curves: dict[str, dict[int, Curve]] = {run.variant: {} for run in runs}
    for run in runs:
        record = records.get(run.key)
        if record is not None and record["evaluations"] and not record["changes"]:
            curves[run.variant][run.seed] = curve_of(record)
    return curves
