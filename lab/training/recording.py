"""What is written down of every step, and what is checked of it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from lab.policy.memory import peak_bytes
from lab.training.data.batches import EncodedPair

from .metrics import batch_scalars, degree_scalars, host_terms, token_rows
from .step import StepResult

if TYPE_CHECKING:
    from .loop import Training

log = logging.getLogger("lab.training.loop")


def record_step(run: Training, step: int, pairs: list[EncodedPair], result: StepResult, norm: float) -> None:
    """Store the numbers of a step, tell `on_step`, and check them. Raises FloatingPointError where they are not finite."""
    config, progress, context = run.config, run.progress, run.context
    assert context is not None
    terms = host_terms(result.credited)
    scalars = (
        batch_scalars(terms)
        | degree_scalars(result)
        | {
            "learning_rate": config.rate(step),
            "grad_norm": norm,
            "epoch": context.schedule.epoch(step),
            "num_tokens": progress.tokens,
            "pairs_per_second": config.batch_size / run.step_seconds,
            "seconds/trained": progress.seconds,
            "seconds/clock": run.clock,
            "probe_cost": run.probes.cost,
        }
    )
    run.store.scalars(step, scalars)
    run.store.pair_terms(step, [p.id for p in pairs], [p.version for p in pairs], terms)
    run.store.tokens(step, token_rows(pairs, result))
    run.store.status(
        step=step,
        remaining=(config.steps - step) * run.step_seconds,
        seconds=progress.seconds,
        stage="training",
        memory=peak_bytes(run.policy.device),
    )
    if run.on_step is not None:
        run.on_step(step, scalars)
    if step == 1:
        if run.policy.graphs is not None and run.policy.graphs.refused:
            run.warn(f"Passes could not be recorded as CUDA graphs, which is slower: {run.policy.graphs.refused}")
        check_first_step(run, float(terms[config.objective.first_step_term].mean()))
    if not math.isfinite(scalars["loss"]) or not math.isfinite(norm):
        what = "loss" if math.isfinite(norm) else "gradient norm" if math.isfinite(scalars["loss"]) else "loss and gradient norm"
        raise FloatingPointError(
            f"Step {step} is not finite in its {what} (loss {scalars['loss']:g}, gradient norm {norm:g}); "
            "branch from a checkpoint with a lower learning rate, or start a new run."
        )


def check_first_step(run: Training, found: float) -> None:
    """With policy = reference the loss is a known number; another one means a wrong reference, mask or sign."""
    objective = run.config.objective
    expected = objective.first_step_loss()
    if expected is None:
        return
    tolerance = 1e-4 if run.policy.autocast is None else 0.02
    passed = abs(found - expected) <= tolerance * max(1.0, abs(expected))
    run.store.event(1, "check", what="loss at the first step", expected=expected, found=found, passed=passed)
    log.info("First-step check: the loss is %.6f, expected %.6f.", found, expected)
    if not passed:
        name = objective.name
        run.warn(
            f"The first loss is {found:.4f} where {name} starts at {expected:.4f}: policy and reference differ already.",
            diagnosed=True,
        )
