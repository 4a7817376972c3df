"""Sampled answers of several runs to the same held-out prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Samples = Mapping[int, Sequence[Mapping[str, Any]]]
"""Step of a look -> its samples: prompt, answer, reference_answer and, where there is a judge, reward and reference_reward."""


def samples_of(events: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """The samples of a run's looks, from its evaluation events; of a look that was made twice the later."""
    return {int(step): detail["samples"] for step, detail in zip(events["step"], events["detail"]) if detail.get("samples")}


def prompts(runs: Mapping[str, Samples]) -> list[str]:
    """The prompts that were answered in any run, those of all runs first, each once."""
    found = [dict.fromkeys(sample["prompt"] for samples in looks.values() for sample in samples) for looks in runs.values()]
    everything = list(dict.fromkeys(prompt for each in found for prompt in each))
    return sorted(everything, key=lambda prompt: -sum(prompt in each for each in found))


def side_by_side(runs: Mapping[str, Samples], prompt: str, step: int | None = None) -> pd.DataFrame:
    """Answers to one prompt: label ("reference" or a run's), step, answer, reward (NaN without a judge).

    step: the look nearest to it is taken (of two equally near the earlier), None takes the latest. The reference's answer comes
    once for all runs that were given the same one.
    """
    rows: list[tuple[str, int, str, float]] = []
    reference: dict[str, tuple[list[str], int, float]] = {}
    for label, looks in runs.items():
        answered = {at: sample for at, samples in looks.items() for sample in samples if sample["prompt"] == prompt}
        if not answered:
            continue
        at = max(answered) if step is None else min(sorted(answered), key=lambda each: abs(each - step))
        sample = answered[at]
        rows.append((label, at, sample["answer"], float(sample.get("reward", "nan"))))
        whose = reference.setdefault(sample["reference_answer"], ([], at, float(sample.get("reference_reward", "nan"))))
        whose[0].append(label)
    one = len(reference) == 1
    first = [
        ("reference" if one else f"reference of {', '.join(labels)}", at, answer, reward)
        for answer, (labels, at, reward) in reference.items()
    ]
    return pd.DataFrame([*first, *rows], columns=["label", "step", "answer", "reward"])
