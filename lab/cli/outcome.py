"""The end of a run in a terminal: exit code, state, how to go on, and what was measured before and after training."""

from __future__ import annotations

import math
from typing import Any

from lab.cli import fail
from lab.store.folder import step_of

from .interrupting import how_to_resume, interruption


def exit_code(handle: Any) -> int:
    """0 for a run that finished or was stopped on request, the signal's (130, 143) where a signal stopped it, else 1."""
    state = handle.state
    if state == "stopped" and interruption.code is not None:
        return interruption.code
    return 0 if state == "finished" or (state == "stopped" and not handle.stop_reason) else 1


def print_outcome(handle: Any, *, file: Any) -> None:
    """How the run ended and how to go on, and what was measured on held-out pairs and prompts before and after."""
    state, checkpoints = handle.state, handle.checkpoints()
    if state in ("failed", "dead"):
        message = str(handle.error or "The process ended without a word.")
        if checkpoints:
            change = next((one.change for one in handle.diagnose() if one.change is not None), None)
            message = f"{message} The last checkpoint is of step {step_of(checkpoints[-1])}. {how_to_resume(handle.dir, change)}"
        fail(message)
        return
    if state == "stopped":
        print(f"stopped at step {handle.step} in {handle.dir}. {how_to_resume(handle.dir)}", file=file)
    else:
        print(f"{state} at step {handle.step} in {handle.dir}", file=file)
    looks = list(handle.events("evaluation")["detail"])
    if len(looks) > 1:
        for line in before_and_after(looks[0], looks[-1]):
            print(line, file=file)


MEASURED = (
    ("margin of held-out pairs", "eval/rewards/margins", None),
    ("accuracy on held-out pairs", "eval/rewards/accuracies", None),
    ("oracle reward of sampled answers", "eval/oracle_reward", "reward"),
    ("reward of sampled answers", "eval/reward", "reward"),
    ("win rate against the reference", "eval/win_rate", "win"),
    ("KL from the reference, nats an answer", "eval/kl", "kl"),
    ("tokens of an answer", "eval/completions/mean_length", None),
    ("repeated 4-grams of an answer", "eval/repetition", None),
)
"""Words, the scalar, and what its interval is kept under in an evaluation's detail."""

WITHOUT_BEFORE = ("eval/rewards/accuracies", "eval/win_rate", "eval/kl")
"""Policy and reference are one model before training: these are rounding, a coin and 0."""


def before_and_after(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for everything that the looks before and after training measured, with 95 % intervals where there are any."""
    lines = []
    for message, name, interval in MEASURED:
        if name not in after:
            continue
        old, new = (_value(look, name, interval) for look in (before, after))
        lines.append(f"{message}: {new}" if name in WITHOUT_BEFORE or old is None else f"{message}: {old} before, {new} after")
    return lines


def _value(look: dict[str, Any], name: str, interval: str | None) -> str | None:
    if name not in look:
        return None
    low, high = look.get(f"{interval}_low"), look.get(f"{interval}_high")
    value = look[name] if abs(look[name]) > 1e-6 else 0.0  # rounding
    return f"{value:.3g}" + ("" if low is None or high is None or math.isnan(low) else f" [{low:.3g}, {high:.3g}]")
