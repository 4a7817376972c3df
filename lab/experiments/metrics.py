"""Which direction of a measure is better, and which difference of it matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.glossary import GLOSSARY, HELD_OUT, PAIR_TERMS, SCALAR_OF_TERM, entry

if TYPE_CHECKING:
    from lab.objectives import Objective

LOSS, ACCURACY, REWARDS = "eval/loss", "eval/rewards/accuracies", "eval/rewards/"
"""Measures that each objective defines by its own loss or reward; the last is the beginning of their names."""


@dataclass(frozen=True)
class Metric:
    """A measure of a run.

    Attributes:
        name: Name of the scalar.
        better: "higher", "lower", or "" where neither is better by itself.
        smallest: The smallest difference that matters in practice, in its unit. OURS.
    """

    name: str
    better: str = ""
    smallest: float = 0.1

    @property
    def title(self) -> str:
        """Readable name, from the glossary where it has one."""
        known = self.name in GLOSSARY or self.name.removeprefix(HELD_OUT) in GLOSSARY
        return entry(self.name).title if known else self.name

    @property
    def sign(self) -> int:
        """1, or -1 where lower is better, so that a positive difference is an improvement."""
        return -1 if self.better == "lower" else 1


METRICS = {
    metric.name: metric
    for metric in (
        Metric("eval/oracle_reward", "higher", 0.1),
        Metric("eval/reward", "higher", 0.1),
        Metric("eval/win_rate", "higher", 0.05),
        Metric("eval/valid", "higher", 0.05),
        Metric("eval/rewards/accuracies", "higher", 0.02),
        Metric("eval/rewards/margins", "higher", 0.1),
        Metric("eval/loss", "lower", 0.01),
        Metric("eval/kl", "lower", 0.5),
        Metric("eval/repetition", "lower", 0.02),
        Metric("eval/completions/clipped_ratio", "lower", 0.02),
        Metric("eval/completions/mean_length", "", 5.0),
        Metric("eval/rewards/chosen", "", 0.1),
        Metric("eval/rewards/rejected", "", 0.1),
        Metric("eval/logps/chosen", "", 1.0),
        Metric("eval/logps/rejected", "", 1.0),
        Metric("seconds", "lower", 1.0),
    )
}
"""Measures whose direction is declared, by name; the others have none."""

_OF_TRAINING = {"weight_chosen", "weight_rejected"}  # of the credit
RECORDED = (METRICS.keys() - {"seconds"}) | {f"{HELD_OUT}{term}" for term in set(PAIR_TERMS) - SCALAR_OF_TERM.keys() - _OF_TRAINING}
"""Names of all measures that evaluations of the library's objectives record; a run's seconds are no evaluation's."""

FROM_ORACLE = frozenset({"eval/oracle_reward", "eval/valid"})
FROM_JUDGES = FROM_ORACLE | {"eval/reward", "eval/win_rate"}
FROM_ANSWERS = FROM_JUDGES | {"eval/kl", "eval/repetition", "eval/completions/clipped_ratio", "eval/completions/mean_length"}
"""Measures of sampled answers; those that only a judge of them records; those of the embedded world's oracle."""


def metric_of(name: str) -> Metric:
    """Return the declared metric of a name, or one without a direction."""
    return METRICS.get(name, Metric(name))


def unlike(name: str, one: Objective, other: Objective) -> str:
    """Return why a measure is not the same quantity under two objectives, in a few words; "" if it is.

    Losses are the same only of the same objective. Rewards are the same if both multiply the same measure by the same beta; the
    accuracy does not depend on beta.
    """
    if name == LOSS:
        return "" if one.spec() == other.spec() else "each has its own loss"
    if not name.startswith(REWARDS):
        return ""
    measures = one.reward_measure, other.reward_measure
    if measures[0] != measures[1]:
        return f"each by its own reward, from {measures[0]} and {measures[1]}"
    betas = [getattr(getattr(each, "base", each), "beta", 1.0) for each in (one, other)]
    return "" if name == ACCURACY or betas[0] == betas[1] else f"each by its own reward, with beta {betas[0]:g} and {betas[1]:g}"


def higher_is_better(name: str) -> bool | None:
    """Return whether a higher value of a measure is better; None if neither is."""
    better = metric_of(name).better
    return None if not better else better == "higher"
