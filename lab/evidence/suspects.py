"""Pairs whose label is probably flipped, by several short runs with held-out folds and an n-gram model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.pairs import Finding, Pair, PairsError
from lab.progress import StageProgress
from lab.run.config import TrainConfig

from .combining import combine
from .ngram_model import ngram_margins
from .short_runs import FoldMargins, fold_margins
from .trajectories import trajectory_numbers

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    "pair_id",
    "probability",
    "probability_if_few",
    "probability_if_many",
    "margin",
    "held_out_margin",
    "mean_margin",
    "ngram_margin",
    "confidence",
    "variability",
    "correctness",
    "aum",
]
LEAST_GAIN = 3.0
"""Log-likelihood (nats) of the labels above chance below which evidence counts as none; two kinds without any reach it in one case
of twenty at most."""
LIKELY = 0.5
"""Probability from which a pair counts as probably flipped."""
WIDE = 0.15
"""Width of the interval of the share of flipped labels from which the probabilities are called uncertain."""


def find_suspects(
    pairs: Sequence[Pair],
    config: TrainConfig,
    *,
    model: str,
    cache: Path,
    folds: int,
    repeats: int,
    progress: StageProgress | None = None,
) -> pd.DataFrame:
    """Score how probably each pair's label is flipped.

    The model is trained `folds` times `repeats` times from its beginning, each time without one fold. What every run then thinks
    of every pair is combined with the log-odds of a Bradley-Terry model on word n-grams, each weighted by how well it predicts
    the labels of pairs that it was not fitted on (`lab.evidence.combining`).

    Args:
        pairs: N pairs.
        config: Settings of each short run.
        model: Folder or hub id of the model.
        cache: Folder of reference log-probs.
        folds: Runs per repeat, at least 2.
        repeats: Times the folds are drawn anew, at least 1.
        progress: Called as progress(stage, share done); may raise to stop.

    Returns:
        One row per pair, the most suspicious first: pair_id; probability that the label is flipped, averaged over the plausible
        shares of flipped labels; probability_if_few and probability_if_many, the same at the ends of the interval of that share;
        margin, the combined log-odds that the chosen answer is the better one; held_out_margin and mean_margin, of the rewards, by
        the runs without the pair and by all; ngram_margin, held-out log-odds of the n-gram model; confidence, variability,
        correctness and aum over all visits and the ends of the runs (see `trajectory_numbers`). `attrs` has "noise", the estimated
        share of flipped labels, "noise_interval", its 95 % interval, and "weights". Where the interval is wide, trust the order
        more than the probability.

    Raises:
        PairsError: There are too few pairs for the folds, or no label is predicted better than by chance.
    """
    import pandas as pd

    if folds < 2 or repeats < 1:
        raise PairsError(f"Flipped labels are looked for with at least 2 folds and 1 repeat, not {folds} and {repeats}; give more.")
    if len(pairs) < 10 * folds:
        raise PairsError(
            f"{len(pairs)} pairs are too few to look for flipped labels with {folds} folds; give at least {10 * folds}."
        )
    report = progress or (lambda stage, share: None)
    runs = fold_margins(pairs, config, model=model, cache=cache, folds=folds, repeats=repeats, progress=report)
    report("n-gram model", 1.0)
    ngrams = ngram_margins(pairs, runs.folds[0])
    combined = combine(
        {"runs": runs.held_out_mean(), "ngrams": ngrams.held_out}, {"runs": runs.mean(), "ngrams": ngrams.everywhere}
    )
    if combined.gain < LEAST_GAIN:
        raise PairsError(
            "Neither the short runs nor the n-gram model predict the labels of pairs that they were not fitted on better than by "
            "chance, so flipped labels cannot be told from others; give more pairs, or train longer with epochs."
        )
    numbers = trajectory_numbers(_visits(runs)).reindex(range(len(pairs)))
    table = pd.DataFrame(
        {
            "pair_id": [pair.id for pair in pairs],
            "probability": combined.probability,
            "probability_if_few": combined.if_few,
            "probability_if_many": combined.if_many,
            "margin": combined.margin,
            "held_out_margin": runs.held_out_mean(),
            "mean_margin": runs.mean(),
            "ngram_margin": ngrams.held_out,
            **{name: numbers[name].to_numpy() for name in ("confidence", "variability", "correctness", "aum")},
        }
    )[COLUMNS]
    table = table.sort_values("margin", kind="stable", ignore_index=True)
    table.attrs = {"noise": combined.noise, "noise_interval": combined.interval, "weights": combined.weights}
    return table


def _visits(runs: FoldMargins) -> pd.DataFrame:
    """Return the visits of all runs and the margins at their ends, in one order of time."""
    import pandas as pd

    steps = int(runs.visits["step"].max()) // len(runs.margins)
    ends = [
        pd.DataFrame({"pair": np.arange(runs.margins.shape[1]), "step": (number + 1) * steps + 0.5, "margin": margins})
        for number, margins in enumerate(runs.margins)
    ]
    return pd.concat([runs.visits[["pair", "step", "margin"]], *ends], ignore_index=True)


def flip_findings(suspects: pd.DataFrame, least: float = LIKELY) -> list[Finding]:
    """Return findings "probably_flipped", with the remedy to swap, for pairs with at least a probability of `least`."""
    findings = []
    columns = ["pair_id", "probability", "probability_if_few", "probability_if_many", "held_out_margin"]
    likely = suspects.loc[suspects["probability"] >= least, columns]
    for id, probability, if_few, if_many, margin in likely.itertuples(index=False, name=None):
        low, high = sorted((if_few, if_many))
        preferred = "prefer the rejected answer" if margin < 0 else "prefer the chosen answer, but its words speak against it"
        between = f", {low:.0%} to {high:.0%} depending on the share of flipped labels" if high - low >= WIDE else ""
        sentence = (
            f"Models that were not trained on this pair {preferred} (margin {margin:.2f}); "
            f"the label is flipped with a probability of {probability:.0%}{between}."
        )
        findings.append(Finding(id, "probably_flipped", sentence, remedy="swap", confidence=round(probability, 4)))
    return findings


def share_sentence(suspects: pd.DataFrame) -> str:
    """Return how many labels are probably flipped, in words, and a warning where the labels do not tell; "" without a search.

    Args:
        suspects: Columns probability_if_few and probability_if_many of the pairs that were scored; their means are the shares of
            flipped labels at the ends of the interval.
    """
    ends = suspects[["probability_if_few", "probability_if_many"]].mean()
    low, high = float(ends["probability_if_few"]), float(ends["probability_if_many"])
    if not low <= high:  # NaN: no pair was scored
        return ""
    if high - low < WIDE:
        return f"{low:.0%} to {high:.0%} of the labels are probably flipped."
    return (
        f"The share of flipped labels is uncertain, {low:.0%} to {high:.0%}: the labels fit strong evidence with many flips as "
        "well as weak evidence with few. Each probability is an average over these shares; rely on the order, and read before you "
        "swap."
    )
