"""What are sampled answers worth? The embedded world has an oracle; elsewhere a Hugging Face reward model can stand in for one."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lab.intervals import mean_interval, share_interval, win_rate
from lab.pairs import Prompt
from lab.policy.reward_model import RewardModel, check_reward_model
from lab.policy.text.chat_template import now
from lab.training.evaluation.evaluator import Judgement, OnProgress, Texts

if TYPE_CHECKING:
    from lab.world import World


class OracleJudge:
    """The world's oracle on its own held-out prompts: new phrasings of known tasks, and new tasks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prompts: Sequence[Prompt] = world.held_out_prompts

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: OnProgress) -> Judgement:
        """Reward, win rate against the reference and share of valid answers, all and by group of prompts."""
        scores = [[self.world.oracle(str(prompt), answer) for answer in given] for prompt, given in zip(prompts, answers)]
        rewards = [[score.total for score in given] for given in scores]
        opponents = [
            [self.world.oracle(str(prompt), answer).total for answer in given] for prompt, given in zip(prompts, reference)
        ]
        found = judgement("oracle_reward", rewards, opponents)
        groups: dict[str, list[float]] = {}
        for prompt, given in zip(prompts, rewards):
            groups.setdefault(self.world.held_out_groups[str(prompt)], []).append(fmean(given))
        valid = fmean(score.valid for given in scores for score in given)
        detail = {"groups": {name: fmean(means) for name, means in groups.items()}}
        return Judgement(found.scalars | {"eval/valid": valid}, found.detail | detail, rewards, opponents)


class RewardJudge:
    """A reward model on the held-out prompts. Raises ModelError where `source` is none.

    It is read at every look and freed after it: what a look waits for, training has as memory. The reference's answers do
    not change, and are scored once. moment: the date and time that its chat template is told (default: the present).
    """

    def __init__(
        self, source: str, *, device: str = "auto", prompts: Sequence[Prompt] = (), moment: datetime | None = None
    ) -> None:
        check_reward_model(source)
        self.source, self.device, self.prompts, self.moment = source, device, prompts, moment or now()
        self._known: dict[tuple[Any, ...], list[float]] = {}

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: OnProgress) -> Judgement:
        """Reward and win rate against the reference."""
        model = RewardModel(self.source, device=self.device, moment=self.moment)
        try:
            key = tuple((repr(prompt), *given) for prompt, given in zip(prompts, reference))
            if key not in self._known:
                self._known = {key: _flat_scores(model, prompts, reference, progress)}
            rewards = _nested(_flat_scores(model, prompts, answers, progress), answers)
            return judgement("reward", rewards, _nested(self._known[key], reference))
        finally:
            del model
            gc.collect()  # a model holds itself in circles; its memory is wanted now


def judgement(name: str, rewards: list[list[float]], reference: list[list[float]]) -> Judgement:
    """Mean reward as `eval/<name>` and the win rate against the reference as `eval/win_rate`, with 95 % intervals over the prompts
    (`reward_low`, `reward_high`, `win_low`, `win_high`); [prompts][answers] each."""
    reward = mean_interval([fmean(given) for given in rewards])
    win = share_interval([win_rate(given, other) for given, other in zip(rewards, reference)])
    scalars = {f"eval/{name}": reward.mean, "eval/win_rate": win.mean}
    detail = {"reward_low": reward.low, "reward_high": reward.high, "win_low": win.low, "win_high": win.high}
    return Judgement(scalars, detail, rewards, reference)


def _flat_scores(model: RewardModel, prompts: Sequence[Prompt], answers: Texts, progress: OnProgress) -> list[float]:
    asked = [prompt for prompt, given in zip(prompts, answers) for _ in given]
    return model.score(asked, [answer for given in answers for answer in given], progress=progress)


def _nested(values: Sequence[float], like: Texts) -> list[list[float]]:
    left = iter(values)
    return [[next(left) for _ in given] for given in like]
