"""Numbers of a run that tell one fault from another, read from its store for lesson 07."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from lab.run.handle import Run

LATEST = 10
"""Steps whose mean counts as the end of a curve."""

NO_PUSH = 0.05
"""A pair has no push left below this share of the push at the first step."""

UNITS = {
    "first loss": "nats",
    "last loss": "nats",
    "loss, change": "nats",
    "h": "nats",
    "log X₁": "nats",
    "log X₂": "nats",
    "first push": "1/token",
    "pairs without push": "share",
    "gradient norm, growth": "times",
    "cosine": "",
    "epochs": "",
    "accuracy, training": "share",
    "accuracy, held out": "share",
    "KL": "nats",
    "length, growth": "times",
    "valid, change": "share",
    "reward, before": "reward",
    "reward, after": "reward",
    "reward, change": "reward",
}
"""The clues and their units, in the order of reading: loss, log-ratios, gradient, held-out pairs, sampled answers."""


def clues(run: Run) -> dict[str, float]:
    """Return the clues of a finished run by name (see `UNITS`); NaN where the run does not record a number.

    The end of a curve is the mean of its last ten steps; "before" and "after" are the first and the last evaluation.

    Args:
        run: A run that has ended.
    """
    names = ["loss", "log_ratio_chosen", "log_ratio_rejected", "weight_chosen", "grad_norm", "epoch", "rewards/accuracies"]
    curves = run.scalars(names)
    first, last = curves.iloc[0], curves.tail(LATEST).mean()
    evaluations = run.events("evaluation")["detail"]
    before, after = evaluations.iloc[0], evaluations.iloc[-1]

    def grown(name: str) -> float:
        return float(after[name]) - float(before[name])

    return {
        "first loss": float(first["loss"]),
        "last loss": float(last["loss"]),
        "loss, change": float(last["loss"] - first["loss"]),
        "h": float(last["log_ratio_chosen"] - last["log_ratio_rejected"]),
        "log X₁": float(last["log_ratio_chosen"]),
        "log X₂": float(last["log_ratio_rejected"]),
        "first push": float(first["weight_chosen"]),
        "pairs without push": _without_push(run, abs(float(first["weight_chosen"]))),
        "gradient norm, growth": float(last["grad_norm"] / first["grad_norm"]),
        "cosine": _latest_cosine(run.layers()),
        "epochs": float(curves["epoch"].iloc[-1]),
        "accuracy, training": float(last["rewards/accuracies"]),
        "accuracy, held out": float(after["eval/rewards/accuracies"]),
        "KL": float(after["eval/kl"]),
        "length, growth": float(after["eval/completions/mean_length"]) / float(before["eval/completions/mean_length"]),
        "valid, change": grown("eval/valid"),
        "reward, before": float(before["eval/oracle_reward"]),
        "reward, after": float(after["eval/oracle_reward"]),
        "reward, change": grown("eval/oracle_reward"),
    }


def _without_push(run: Run, start: float) -> float:
    """Return the share of pairs of the latest steps whose push is below `NO_PUSH` of the first one."""
    weights = np.concatenate([run.reader.pairs.batch(step)["weight_chosen"] for step in range(run.step - LATEST + 1, run.step + 1)])
    return float((np.abs(weights) < NO_PUSH * start).mean())


def _latest_cosine(layers: pd.DataFrame) -> float:
    """Return the median over layers of the cosine between the gradients of both sides, mean of the later half of the probes."""
    medians = layers.groupby("step")["cosine"].median()
    return float(medians.tail(max(1, len(medians) // 2)).mean()) if len(medians) else float("nan")
