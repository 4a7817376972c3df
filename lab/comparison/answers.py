"""Sampled answers of several runs to the same held-out prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

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


def side_by_side(runs: Mapping[str, Samples], prompt: str, step: int | None = None) -> pd.DataFrame:
    """Return the answers of several runs and the reference to one prompt.

    Args:
        runs: Samples by the run's label.
        prompt: The prompt.
        step: Take the evaluation nearest to this step (the earlier of two equally near); None takes the latest.

    Returns:
        A frame with label ("reference", or that of a run), step, answer and reward (NaN without a judge). Runs with the same
        reference answer share its row.
    """
    rows: list[tuple[str, int, str, float]] = []
    reference: dict[str, tuple[list[str], int, float]] = {}
    for label, steps in runs.items():
        answered = {at: sample for at, samples in steps.items() for sample in samples if sample["prompt"] == prompt}
        if not answered:
            continue
        at = max(answered) if step is None else min(sorted(answered), key=lambda each: abs(each - step))
        sample = answered[at]
        rows.append((label, at, sample["answer"], float(sample.get("reward", "nan"))))
        shared = reference.setdefault(sample["reference_answer"], ([], at, float(sample.get("reference_reward", "nan"))))
        shared[0].append(label)
    first = [
        ("reference" if len(reference) == 1 else f"reference of {', '.join(labels)}", at, answer, reward)
        for answer, (labels, at, reward) in reference.items()
    ]
    return pd.DataFrame([*first, *rows], columns=["label", "step", "answer", "reward"])
