"""Short DPO runs with held-out folds: every pair is scored by models that were, and by models that were not, trained on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.pairs import Pair
from lab.progress import StageProgress
from lab.run.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd

    from lab.policy import Policy
    from lab.training.data.encoded_pairs import EncodedPair
    from lab.training.step import Reference

SCORED_AT_ONCE = 32
REFERENCE = "reference log-probs"
PREPARED, TRAINED = 0.05, 0.8
"""Share of the progress before the first run, and share of a run that is training; scoring is the rest."""


@dataclass(frozen=True)
class FoldMargins:
    """Margins of N pairs under R short runs.

    margins:  Reward margin at the end of each run, float64 [R, N].
    held_out: Whether the run was not trained on the pair, bool [R, N]; true in one run per repeat.
    folds:    Fold of each pair in each repeat, int [repeats, N].
    visits:   Margins just before a pair was trained on: pair (number), step (counted through all runs), run, margin.
    """

    margins: np.ndarray
    held_out: np.ndarray
    folds: np.ndarray
    visits: pd.DataFrame

    def held_out_mean(self) -> np.ndarray:
        """Return each pair's mean margin under the runs that were not trained on it, [N]."""
        return np.asarray((self.margins * self.held_out).sum(0) / self.held_out.sum(0))

    def mean(self) -> np.ndarray:
        """Return each pair's mean margin under all runs, [N]."""
        return np.asarray(self.margins.mean(0))


def fold_margins(
    pairs: Sequence[Pair],
    config: TrainConfig,
    *,
    model: str,
    cache: Path,
    folds: int,
    repeats: int,
    progress: StageProgress,
) -> FoldMargins:
    """Train one short run without each fold, from the same model each time, and score all pairs at its end.

    Args:
        pairs: N pairs, at least `folds`.
        config: Settings of each run: objective, steps, batch size, rate, adapter, device. The seed also draws the folds.
        model: Folder or hub id of the model.
        cache: Folder of reference log-probs.
        folds: Runs per repeat; each is trained on all folds but one.
        repeats: Times the folds are drawn anew.
        progress: Called as progress(stage, share done); may raise to stop.

    Raises:
        ModelError: If the model cannot be loaded.
        ValueError: If the tokenizer refuses a pair.
    """
    import pandas as pd
    import torch

    from lab.policy import ReferenceCache, choose_layout
    from lab.training.data.encoded_pairs import encode_known
    from lab.training.setup.prepare import load_configured

    progress("loading the model", 0.0)
    policy = load_configured(config, model)
    encoder = policy.encoder(config.max_length)
    encoded = [encode_known(pair, encoder, None, policy.vocabulary) for pair in pairs]
    choose_layout(policy, [completion for pair in encoded[:2] for completion in pair.completions()], wanted=config.layout)
    reference = ReferenceCache(cache / "reference", policy)
    try:
        completions = [completion for pair in encoded for completion in pair.completions()]
        reference.prepare(policy, completions, progress=lambda done, total: progress(REFERENCE, PREPARED * done / total))
        beginning = {name: parameter.detach().clone() for name, parameter in policy.parameters().items()}
        drawn = np.stack([draw_folds(len(pairs), folds, config.seed + repeat) for repeat in range(repeats)])
        margins, held_out, visits = [], [], []
        for number in range(folds * repeats):
            repeat, fold = divmod(number, folds)
            with torch.no_grad():
                for name, parameter in policy.parameters().items():
                    parameter.copy_(beginning[name])
            out = drawn[repeat] == fold
            train, score = (_part(progress, number, folds * repeats, share) for share in ((0.0, TRAINED), (TRAINED, 1.0)))
            visits += _train(policy, config, encoded, np.flatnonzero(~out), reference.lookup, number, train)
            margins.append(_score(policy, config, encoded, reference.lookup, score))
            held_out.append(out)
    finally:
        reference.close()
    return FoldMargins(
        np.stack(margins), np.stack(held_out), drawn, pd.DataFrame(visits, columns=["pair", "step", "run", "margin"])
    )


def steps_for(pairs: int, folds: int, batch_size: int, epochs: float) -> int:
    """Return the steps of a short run that passes `epochs` times through all folds but one."""
    return max(math.ceil(epochs * pairs * (folds - 1) / folds / batch_size), 1)


def _part(progress: StageProgress, number: int, count: int, share: tuple[float, float]) -> Callable[[float], None]:
    """Return what the part `share` (from, to) of one of `count` runs reports its own progress to."""
    stage = f"short run {number + 1} of {count}"
    first, last = (PREPARED + (1 - PREPARED) * (number + end) / count for end in share)
    return lambda done: progress(stage, first + (last - first) * done)


def draw_folds(count: int, folds: int, seed: int) -> np.ndarray:
    """Draw the fold of each of `count` pairs; sizes differ by at most one."""
    drawn = np.empty(count, int)
    drawn[np.random.default_rng(seed).permutation(count)] = np.arange(count) % folds
    return drawn


def _train(
    policy: Policy,
    config: TrainConfig,
    encoded: Sequence[EncodedPair],
    members: np.ndarray,
    reference: Reference,
    run: int,
    progress: Callable[[float], None],
) -> list[tuple[int, int, int, float]]:
    """Train the policy on some pairs; return (pair, step, run, margin before the step) of every visit."""
    import torch

    from lab.training.data.random_streams import step_randomness
    from lab.training.data.schedule import BatchSchedule
    from lab.training.optimizer import adamw
    from lab.training.recording import require_finite
    from lab.training.step import accumulate

    schedule = BatchSchedule.of(len(members), config.batch_size, config.seed + run)
    parameters = list(policy.parameters().values())
    optimizer = adamw(config, parameters)
    visits: list[tuple[int, int, int, float]] = []
    for step in range(1, config.steps + 1):
        numbers = [int(members[number]) for number in schedule.batch(step)]
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        optimizer.zero_grad(set_to_none=True)
        draws, dropout_seed = step_randomness(config.seed + run, step, drops=config.lora_dropout > 0)
        result = accumulate(
            policy,
            config.objective,
            [encoded[number] for number in numbers],
            {},
            draws,
            reference=reference,
            micro_batch_size=config.micro_batch,
            dropout_seed=dropout_seed,
        )
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or float("inf"))
        optimizer.step()
        require_finite(step, float(result.credited.outcome.losses.mean()), float(norm))
        chosen, rejected = config.objective.rewards(result.logps)
        visits += zip(numbers, [run * config.steps + step] * len(numbers), [run] * len(numbers), (chosen - rejected).tolist())
        progress(step / config.steps)
    return visits


def _score(
    policy: Policy,
    config: TrainConfig,
    encoded: Sequence[EncodedPair],
    reference: Reference,
    progress: Callable[[float], None] = lambda done: None,
) -> np.ndarray:
    """Return the reward margin of every pair under the policy, float64 [N]."""
    from lab.training.step import pair_logps

    margins = np.empty(len(encoded))
    order = sorted(range(len(encoded)), key=lambda number: sum(len(c.answer) for c in encoded[number].completions()))
    size = config.micro_batch or SCORED_AT_ONCE
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        with policy.evaluating():
            logps = pair_logps(policy, config.objective, [encoded[number] for number in numbers], reference)
        chosen, rejected = config.objective.rewards(logps)
        margins[numbers] = (chosen - rejected).double().cpu().numpy()
        progress(min(start + size, len(order)) / len(order))
    return margins
