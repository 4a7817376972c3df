"""The record of a step: its scalars, pair terms and token values, and checks of its numbers."""

from __future__ import annotations

import logging
import math

from lab.policy.memory import peak_bytes
from lab.training.data.encoded_pairs import EncodedPair

from .checkpoints.checkpoint import TrainingState
from .metrics import batch_scalars, degree_scalars, host_terms, token_rows
from .reporter import RunReporter
from .run_context import RunContext
from .step import StepResult

log = logging.getLogger("lab.training.loop")


def record_step(
    context: RunContext,
    state: TrainingState,
    reporter: RunReporter,
    pairs: list[EncodedPair],
    result: StepResult,
    *,
    grad_norm: float,
    step_seconds: float,
    clock: float,
    probe_cost: float,
) -> dict[str, float]:
    """Write the numbers of the latest step to the store.

    Args:
        context: The run's context.
        state: Progress, this step included.
        reporter: Owner of the store.
        pairs: The batch.
        result: Losses, terms and credit of the batch.
        grad_norm: Norm of the gradient before clipping.
        step_seconds: Moving mean of the seconds of a step.
        clock: Seconds since the run began.
        probe_cost: Share of the training time that probes took.

    Returns:
        The step's scalars by name.
    """
    config, store = context.config, reporter.store
    terms = host_terms(result.credited)
    scalars = (
        batch_scalars(terms)
        | degree_scalars(result)
        | {
            "learning_rate": config.rate(state.step),
            "grad_norm": grad_norm,
            "epoch": context.data.schedule.epoch(state.step),
            "num_tokens": state.tokens,
            "pairs_per_second": config.batch_size / step_seconds,
            "seconds/trained": state.seconds,
            "seconds/clock": clock,
            "probe_cost": probe_cost,
        }
    )
    store.scalars(state.step, scalars)
    store.pair_terms(state.step, [pair.id for pair in pairs], [pair.version for pair in pairs], terms)
    store.tokens(state.step, token_rows(pairs, result))
    store.status(
        step=state.step,
        remaining=(config.steps - state.step) * step_seconds,
        seconds=state.seconds,
        stage="training",
        memory=peak_bytes(context.policy.device),
    )
    if state.step == 1:
        graphs = context.policy.graphs
        if graphs is not None and graphs.refused:
            reporter.warn(f"Passes could not be recorded as CUDA graphs, which is slower: {graphs.refused}")
        check_first_step(context, reporter, float(terms[config.objective.first_step_term].mean()))
    return scalars


def require_finite(step: int, loss: float, grad_norm: float) -> None:
    """Raise FloatingPointError where the loss or the gradient of a step is not finite."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    which = "loss" if math.isfinite(grad_norm) else "gradient norm" if math.isfinite(loss) else "loss and gradient norm"
    raise FloatingPointError(
        f"Step {step} is not finite in its {which} (loss {loss:g}, gradient norm {grad_norm:g}); "
        "branch from a checkpoint with a lower learning rate, or start a new run."
    )


def check_first_step(context: RunContext, reporter: RunReporter, loss: float) -> None:
    """Compare the first loss with the value known for policy = reference; another value means a wrong reference, mask or sign."""
    objective = context.config.objective
    expected = objective.first_step_loss()
    if expected is None:
        return
    tolerance = 1e-4 if context.policy.autocast is None else 0.02
    passed = abs(loss - expected) <= tolerance * max(1.0, abs(expected))
    reporter.store.event(1, "check", what="loss at the first step", expected=expected, found=loss, passed=passed)
    log.info("First-step check: the loss is %.6f, expected %.6f.", loss, expected)
    if not passed:
        reporter.warn(
            f"The first loss is {loss:.4f} where {objective.name} starts at {expected:.4f}: policy and reference differ already.",
            diagnosed=True,
        )
