"""Do the answers get better? Sampled answers to held-out prompts, judged by the embedded world's oracle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lab.policy import Policy, sample_answers
from lab.training import Evaluation
from lab.training.loop import Evaluator

if TYPE_CHECKING:
    from lab.world import World

REFERENCE_FILE = "reference_answers.json"
SHOWN = 12
"""Answers that are kept for people to read, at every look."""


def world_evaluator(world: World, run_dir: Path, steps: int) -> Evaluator:
    """Looks at a policy: two sampled answers to every held-out prompt before and after training, one in between.

    At step 0 the policy is the reference: four answers a prompt are sampled and kept. All later looks are compared with
    the four; the look at step 0 itself compares two of them with the other two, which is the reference's own rate against
    itself, near 0.5: the scale for all later ones.
    """
    from lab.world import evaluate_answers

    prompts = world.held_out_prompts
    kept = run_dir / REFERENCE_FILE

    def sample(policy: Policy, count: int, seed: int) -> list[list[str]]:
        return sample_answers(policy, prompts, per_prompt=count, max_new_tokens=160, seed=seed)

    def look(policy: Policy, step: int, seed: int) -> Evaluation:
        reference: list[list[str]] | None
        if step == 0:
            four = sample(policy, 4, seed)
            kept.write_text(json.dumps(four), encoding="utf-8")
            answers, reference = [a[:2] for a in four], [a[2:] for a in four]
        else:
            answers = sample(policy, 2 if step == steps else 1, seed + step)
            reference = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
        found = evaluate_answers(world, prompts, answers, reference)
        scalars = {"eval/oracle_reward": found.reward.mean, "eval/valid": found.valid, "eval/answer_words": found.words}
        detail = {"reward_low": found.reward.low, "reward_high": found.reward.high}
        if found.win is not None:
            scalars["eval/win_rate"] = found.win.mean
            detail |= {"win_low": found.win.low, "win_high": found.win.high}
        groups = {name: group.reward.mean for name, group in found.groups.items()}
        samples = [{"prompt": p, "answer": a[0], "reward": world.oracle(p, a[0]).total} for p, a in zip(prompts[:SHOWN], answers)]
        return Evaluation(scalars, detail | {"groups": groups, "samples": samples})

    return look
