"""Sampled answers of several runs to the same held-out prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

LONGEST = 3000
"""Most words of an answer that are compared."""

Samples = Mapping[int, Sequence[Mapping[str, Any]]]
"""Samples by the step of their evaluation: prompt, answer, reference_answer and, with a judge, reward and reference_reward."""


def samples_of(events: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Return the samples of a run's evaluations from its evaluation events; a repeated evaluation replaces the earlier one."""
    return {int(step): detail["samples"] for step, detail in zip(events["step"], events["detail"]) if detail.get("samples")}


def prompts(runs: Mapping[str, Samples]) -> list[str]:
    """Return the prompts answered in any run, each once, those answered in most runs first."""
    by_run = [dict.fromkeys(sample["prompt"] for samples in steps.values() for sample in samples) for steps in runs.values()]
    every = list(dict.fromkeys(prompt for each in by_run for prompt in each))
    return sorted(every, key=lambda prompt: -sum(prompt in each for each in by_run))


def answered(steps: Samples, prompt: str, step: int | None = None) -> tuple[int, Mapping[str, Any]] | None:
    """Return the step of an evaluation in which a run answered a prompt, and the sample; None if it never did.

    step: the evaluation nearest to it (the earlier of two equally near); None: the latest.
    """
    known = {at: sample for at, samples in steps.items() for sample in samples if sample["prompt"] == prompt}
    if not known:
        return None
    at = max(known) if step is None else min(sorted(known), key=lambda each: abs(each - step))
    return at, known[at]


def most_different(one: Mapping[int, Samples], other: Mapping[int, Samples], step: int | None = None) -> pd.DataFrame:
    """Return the prompts that two runs or groups answered, those whose answers differ most first.

    The order is by the difference of the rewards where a judge gave them, among equal ones and without a judge by the distance of
    the texts.

    Args:
        one: Samples of the runs of the first side by their seed.
        other: Those of the second side.
        step: As in `answered`.

    Returns:
        A frame with prompt, one, other (mean reward of each side; NaN without a judge), difference, low, high (95 % t interval over
        the seeds, within pairs of the same seed if there are two), count (seeds) and distance: the mean share of words that differ
        between the answers of two runs (of the same seed if the sides share one, else of any two); 0 for equal answers, 1 for
        answers without a common word.
    """
    from .uncertainty import between, over_runs

    shared = sorted(one.keys() & other.keys())
    sides = [{seed: side[seed] for seed in shared} if len(shared) > 1 else side for side in (one, other)]
    rows = []
    for prompt in prompts({f"{side} {seed}": steps for side, runs in enumerate(sides) for seed, steps in runs.items()}):
        given = [{seed: answer[1] for seed, steps in runs.items() if (answer := answered(steps, prompt, step))} for runs in sides]
        if len(shared) > 1:
            both = given[0].keys() & given[1].keys()
            given = [{seed: side[seed] for seed in sorted(both)} for side in given]
        if not given[0] or not given[1]:
            continue
        rewards = [np.array([[float(answer.get("reward", "nan"))] for answer in side.values()]) for side in given]
        estimates = between(rewards[0], rewards[1], paired=len(shared) > 1)
        means = [float(over_runs(values).mean[0]) for values in rewards]
        numbers = (float(value[0]) for value in (estimates.mean, estimates.low, estimates.high))
        couples = [(seed, seed) for seed in given[0] if seed in given[1]] or [*product(given[0], given[1])]
        far = fmean(distance(given[0][first]["answer"], given[1][second]["answer"]) for first, second in couples)
        rows.append((prompt, *means, *numbers, min(map(len, given)), far))
    table = pd.DataFrame(rows, columns=["prompt", "one", "other", "difference", "low", "high", "count", "distance"])
    size = table["difference"].astype(np.float64).abs().fillna(-1.0)
    return table.assign(size=size).sort_values(["size", "distance"], ascending=False, ignore_index=True).drop(columns="size")


def distance(one: str, other: str) -> float:
    """Return the share of words that differ between two texts, 1 - 2 M / T of `difflib` (M: words in common, T: all)."""
    return 1 - SequenceMatcher(None, one.split()[:LONGEST], other.split()[:LONGEST], autojunk=False).ratio()


def side_by_side(runs: Mapping[str, Samples], prompt: str, step: int | None = None) -> pd.DataFrame:
    """Return the answers of several runs and the reference to one prompt.

    Args:
        runs: Samples by the run's label.
        prompt: The prompt.
        step: As in `answered`.

    Returns:
        A frame with label ("reference", or that of a run), step, answer and reward (NaN without a judge). Runs with the same
        reference answer share its row.
    """
    rows: list[tuple[str, int, str, float]] = []
    reference: dict[str, tuple[list[str], int, float]] = {}
    for label, steps in runs.items():
        known = answered(steps, prompt, step)
        if known is None:
            continue
        at, sample = known
        rows.append((label, at, sample["answer"], float(sample.get("reward", "nan"))))
        shared = reference.setdefault(sample["reference_answer"], ([], at, float(sample.get("reference_reward", "nan"))))
        shared[0].append(label)
    first = [
        ("reference" if len(reference) == 1 else f"reference of {', '.join(labels)}", at, answer, reward)
        for answer, (labels, at, reward) in reference.items()
    ]
    return pd.DataFrame([*first, *rows], columns=["label", "step", "answer", "reward"])
