"""The end of a run in a terminal: exit code, state, how to continue, and the evaluations before and after training."""

from __future__ import annotations

import math
from typing import Any

from lab.cli import fail
from lab.store.folder import step_of

from .interrupting import how_to_resume, interruption


def exit_code(handle: Any) -> int:
    """Return 0 for a run that finished or was stopped on request, 130 or 143 if a signal stopped it, else 1."""
    state = handle.state
    if state == "stopped" and interruption.code is not None:
        return interruption.code
    return 0 if state == "finished" or (state == "stopped" and not handle.stop_reason) else 1


def print_outcome(handle: Any, *, file: Any) -> None:
    """Print how the run ended, how to continue it, and its evaluations before and after training."""
    state, checkpoints = handle.state, handle.checkpoints()
    if state in ("failed", "crashed"):
        message = str(handle.error or "The process ended without an error message.")
        if checkpoints:
            change = next((finding.change for finding in handle.diagnose() if finding.change is not None), None)
            message = f"{message} The last checkpoint is of step {step_of(checkpoints[-1])}. {how_to_resume(handle.dir, change)}"
        fail(message)
        return
    if state == "stopped":
        print(f"stopped at step {handle.step} in {handle.dir}. {how_to_resume(handle.dir)}", file=file)
    else:
        print(f"{state} at step {handle.step} in {handle.dir}", file=file)
    evaluations = list(handle.events("evaluation")["detail"])
    if len(evaluations) > 1:
        for line in before_and_after(evaluations[0], evaluations[-1]):
            print(line, file=file)
    config, splits = handle.manifest["config"], list(handle.events("held_out")["detail"])
    if config.get("evaluate") and splits and not splits[-1]["pairs"]:
        why = "held_out is 0" if not config["held_out"] else f"so few prompts leave none at held_out = {config['held_out']:g}"
        print(f"No pairs were held out ({why}), so nothing shows how the model does on other pairs; raise held_out.", file=file)


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
"""Label, scalar, and the prefix of its interval in an evaluation's detail."""

WITHOUT_BEFORE = ("eval/rewards/accuracies", "eval/win_rate", "eval/kl")
"""Not informative before training, when policy and reference are equal."""


def before_and_after(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return one line per measure of the evaluations before and after training, with 95 % intervals if recorded."""
    lines = []
    for label, name, interval in MEASURED:
        if name not in after:
            continue
        old, new = (_value(evaluation, name, interval) for evaluation in (before, after))
        lines.append(f"{label}: {new}" if name in WITHOUT_BEFORE or old is None else f"{label}: {old} before, {new} after")
    return lines


def _value(evaluation: dict[str, Any], name: str, interval: str | None) -> str | None:
    if name not in evaluation:
        return None
    low, high = evaluation.get(f"{interval}_low"), evaluation.get(f"{interval}_high")
    value = evaluation[name] if abs(evaluation[name]) > 1e-6 else 0.0  # rounding
    return f"{value:.3g}" + ("" if low is None or high is None or math.isnan(low) else f" [{low:.3g}, {high:.3g}]")
