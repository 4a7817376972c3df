"""Judges of sampled answers: the oracle of the embedded world, or a Hugging Face reward model."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lab.intervals import mean_interval, share_interval, win_rate
from lab.pairs import Prompt
from lab.policy.reward_model import RewardModel, check_reward_model
from lab.policy.text.template_time import now

from .evaluator import Judgement, OnProgress, Texts
from .sampled_answers import round_for_record

if TYPE_CHECKING:
    from lab.world import World


class OracleJudge:
    """Judge answers with the oracle of the embedded world, on its held-out prompts: new phrasings of known tasks, and new tasks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prompts: Sequence[Prompt] = world.held_out_prompts

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: OnProgress) -> Judgement:
        """Return mean reward, win rate against the reference and share of valid answers; rewards also by group of prompts."""
        scores = [[self.world.oracle(str(prompt), answer) for answer in given] for prompt, given in zip(prompts, answers)]
        rewards = [[score.total for score in given] for given in scores]
        opponents = [
            [self.world.oracle(str(prompt), answer).total for answer in given] for prompt, given in zip(prompts, reference)
        ]
        judged = judgement("oracle_reward", rewards, opponents)
        groups: dict[str, list[float]] = {}
        for prompt, given in zip(prompts, rewards):
            groups.setdefault(self.world.held_out_groups[str(prompt)], []).append(fmean(given))
        valid = [fmean(score.valid for score in given) for given in scores]
        by_prompt = judged.detail["by_prompt"] | {"eval/valid": valid}
        detail = {"groups": {name: fmean(means) for name, means in groups.items()}, "by_prompt": by_prompt}
        return Judgement(judged.scalars | {"eval/valid": fmean(valid)}, judged.detail | detail, rewards, opponents)


class RewardJudge:
    """Judge answers to held-out prompts with a reward model.

    The model is loaded for each evaluation and released after it, so that training can use its memory. The reference's answers do
    not change and are scored once.

    Args:
        source: Folder or hub id of a sequence-classification model with one output.
        device: Device of the reward model.
        prompts: Prompts to answer; empty for those of the held-out pairs.
        moment: Date and time for chat templates that print them; None for now.

    Raises:
        ModelError: If `source` is no such model.
    """

    def __init__(
        self, source: str, *, device: str = "auto", prompts: Sequence[Prompt] = (), moment: datetime | None = None
    ) -> None:
        check_reward_model(source)
        self.source, self.device, self.prompts, self.moment = source, device, prompts, moment or now()
        self._known: dict[tuple[Any, ...], list[float]] = {}

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: OnProgress) -> Judgement:
        """Return mean reward and win rate against the reference."""
        model = RewardModel(self.source, device=self.device, moment=self.moment)
        try:
            key = tuple((repr(prompt), *given) for prompt, given in zip(prompts, reference))
            if key not in self._known:
                self._known = {key: _flat_scores(model, prompts, reference, progress)}
            rewards = _nested(_flat_scores(model, prompts, answers, progress), answers)
            return judgement("reward", rewards, _nested(self._known[key], reference))
        finally:
            del model
            gc.collect()  # models contain reference cycles; training needs the memory now


def judgement(name: str, rewards: list[list[float]], reference: list[list[float]]) -> Judgement:
    """Return mean reward as `eval/<name>` and win rate as `eval/win_rate`, with 95 % intervals over the prompts.

    The intervals are `reward_low`, `reward_high`, `win_low` and `win_high` in the detail, the mean of each prompt in `by_prompt`.

    Args:
        name: Name of the reward.
        rewards: Rewards of the policy's answers, [prompts][answers].
        reference: Rewards of the reference's answers, [prompts][answers].
    """
    means, wins = [fmean(given) for given in rewards], [win_rate(given, other) for given, other in zip(rewards, reference)]
    reward, win = mean_interval(means), share_interval(wins)
    scalars = {f"eval/{name}": reward.mean, "eval/win_rate": win.mean}
    by_prompt = {f"eval/{name}": [round_for_record(value) for value in means], "eval/win_rate": wins}
    detail = {"reward_low": reward.low, "reward_high": reward.high, "win_low": win.low, "win_high": win.high}
    return Judgement(scalars, {**detail, "by_prompt": by_prompt}, rewards, reference)


def _flat_scores(model: RewardModel, prompts: Sequence[Prompt], answers: Texts, progress: OnProgress) -> list[float]:
    repeated = [prompt for prompt, given in zip(prompts, answers) for _ in given]
    return model.score(repeated, [answer for given in answers for answer in given], progress=progress)


def _nested(values: Sequence[float], like: Texts) -> list[list[float]]:
    left = iter(values)
    return [[next(left) for _ in given] for given in like]
