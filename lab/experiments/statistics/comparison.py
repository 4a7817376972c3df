"""The difference of two variants in one metric at one level, as numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.experiments.metrics import Metric

from .estimate import LEVEL, Estimate
from .levels import Level

UNITS = {"kl": "nats an answer", "accuracy": "", "margin": "", "loss": "nats"}
EARLY = 0.1
"""A variant that has made no more than this share of its way in training is hardly trained. OURS."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two variants in one metric at one level.

    Attributes:
        metric: The metric.
        one: Label of the first variant.
        other: Label of the second.
        level: Where they are compared.
        value: The level's value; None for "end"; NaN where a variant has none.
        estimate: Difference of `one` and `other`, paired by seed; None with fewer than two seeds.
        smallest: The smallest difference that matters.
        seeds: Seeds that are compared.
        unfinished: Seeds of which a variant has no finished run, or one that was changed by hand.
        unmeasured: Seeds of which a variant has no value there.
        infinite: Seeds left out because a run's value is infinite, by variant.
        never: Seeds left out because a run never reaches the level, by variant.
        way: Share of its own way in training, from the first value of the level's measure to the furthest, that each variant has
            made at the level, in the mean over seeds; without those that have no way; empty where the level is none of a measure.
        alpha: Probability of a false claim that this comparison may use, by Holm's procedure over all that are made together.
        p_adjusted: The p value, adjusted by Holm's procedure; NaN without an estimate.
        together: Number of comparisons made together.
        needed: Seeds needed to show the smallest difference; None if no number is enough, or without an estimate.
        unlike: Why the metric, or the level's measure, is not the same quantity for both variants.
    """

    metric: Metric
    one: str
    other: str
    level: Level
    value: float | None
    estimate: Estimate | None
    smallest: float
    seeds: tuple[int, ...]
    unfinished: tuple[int, ...] = ()
    unmeasured: tuple[int, ...] = ()
    infinite: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    never: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    way: Mapping[str, float] = field(default_factory=dict)
    alpha: float = LEVEL
    p_adjusted: float = math.nan
    together: int = 1
    needed: int | None = None
    unlike: tuple[str, ...] = ()

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval at this comparison's `alpha`: it excludes 0 exactly if the difference is shown."""
        return self.estimate.interval(self.alpha) if self.estimate else (math.nan, math.nan)

    @property
    def shown(self) -> bool:
        """Whether a difference is shown, after correction for all comparisons made together."""
        return self.estimate is not None and self.estimate.p < self.alpha

    @property
    def better(self) -> str | None:
        """The better variant, if a difference is shown and the metric has a better direction."""
        if not self.shown or not self.metric.better or self.estimate is None:
            return None
        return self.one if self.metric.sign * self.estimate.mean > 0 else self.other

    @property
    def left_out(self) -> tuple[int, ...]:
        """Declared seeds that are not compared, in ascending order."""
        seeds = {*self.unfinished, *self.unmeasured}
        return tuple(sorted(seeds.union(*self.never.values(), *self.infinite.values())))

    @property
    def sentence(self) -> str:
        """The result in words."""
        return in_words(self)


def in_words(made: Comparison) -> str:
    """Return a comparison as one sentence: what was shown, with its interval, where, and over how many seeds.

    "A is better than B in oracle reward by 0.21 [0.08, 0.34] at equal KL (2 nats an answer) over 8 seeds", or "no difference shown
    between A and B in ...: the interval [-0.09, 0.14] includes 0; to see 0.1 you would need about 25 seeds".
    """
    metric = made.metric.title[:1].lower() + made.metric.title[1:]
    where = f"{place(made)} over {_count(len(made.seeds), 'seed')}"
    if made.estimate is None:
        return f"{made.one} and {made.other} are not compared in {metric} {place(made)}: {_too_few(made)}."
    low, high = made.interval
    mean, notes = made.estimate.mean, _notes(made)
    scale = _scale(low, high, (0.0,)) or abs(mean)
    if not made.shown:
        more = f"to see {made.smallest:g} you would need {_needed(made)}"
        interval = f"[{number(low, scale)}, {number(high, scale)}]"
        return (
            f"no difference shown between {made.one} and {made.other} in {metric} {where}: the interval {interval} includes 0; "
            f"{more}{notes}."
        )
    sign = made.metric.sign
    positive = sign * mean > 0
    first, second = (made.one, made.other) if positive else (made.other, made.one)
    size, ends = abs(mean), sorted((abs(low), abs(high)))  # an interval that excludes 0
    word = "better" if made.metric.better else "higher"
    direction = " (lower)" if made.metric.better == "lower" else ""
    interval = f"{number(size, scale)} [{number(ends[0], scale)}, {number(ends[1], scale)}]"
    return f"{first} is {word} than {second} in {metric}{direction} by {interval} {where}{notes}."


def place(made: Comparison) -> str:
    """Return where two variants were compared: "after training", "at step 100", "at equal KL (2 nats an answer)"."""
    name = made.level.name
    if name == "end":
        return "after training"
    if made.value is None or math.isnan(made.value):
        return f"at equal {_title(name)}"
    if name == "step":
        return f"at step {made.value:,g}"
    unit = f" {UNITS[name]}" if UNITS[name] else ""
    return f"at equal {_title(name)} ({made.value:.3g}{unit})"


def number(value: float, scale: float) -> str:
    """Format a number with as many decimals as an interval of half width `scale` needs for two digits of it."""
    if not scale or not math.isfinite(scale):
        return f"{value:.3g}"
    decimals = max(0, 1 - math.floor(math.log10(scale)))
    if decimals > 8:
        return f"{value:.3g}"
    text = f"{value:.{decimals}f}"
    return text[1:] if float(text) == 0 and text.startswith("-") else text


def with_interval(mean: float, low: float, high: float, bounds: Sequence[float] = ()) -> str:
    """Return a number with its interval, to two digits of the half width: "0.21 [0.08, 0.34]".

    Args:
        mean: The number.
        low: Lower end.
        high: Upper end.
        bounds: Values that no end may seem to be: up to two digits are added where rounding would make an end one of them.
    """
    scale = _scale(low, high, bounds)
    return f"{number(mean, scale)} [{number(low, scale)}, {number(high, scale)}]"


def _scale(low: float, high: float, bounds: Sequence[float]) -> float:
    """Return the half width of an interval for `number`, smaller where rounding would make an end one of the bounds."""
    scale = (high - low) / 2
    for _ in range(2):
        if any(end != bound and float(number(end, scale)) == bound for end in (low, high) for bound in bounds):
            scale /= 10
    return scale


def _title(name: str) -> str:
    return {"kl": "KL", "accuracy": "held-out accuracy", "margin": "held-out margin", "loss": "held-out loss"}[name]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def _needed(made: Comparison) -> str:
    if made.needed is None:
        assert made.estimate is not None
        prompts = f" with these {made.estimate.prompts} prompts" if made.estimate.prompts else ""
        return f"more than 1,000 seeds{prompts}; raise eval_prompts" if prompts else "more than 1,000 seeds"
    return f"about {_count(made.needed, 'seed')}"


def _too_few(made: Comparison) -> str:
    if made.level.scalar is not None and (made.value is None or math.isnan(made.value)):
        return f"there is no common level of {_title(made.level.name)}{_notes(made)}"
    count = len(made.seeds)
    have = f"only {_count(count, 'seed')} can be compared" if count else "no seed can be compared"
    return f"{have}, and an interval needs at least 2{_notes(made)}"


def _notes(made: Comparison) -> str:
    """Return what else has to be known: seeds left out and why, variants hardly trained, unlike measures, the correction."""
    parts = [f"{label} never reaches it with {_seeds(seeds)}" for label, seeds in made.never.items()]
    parts += [f"{label} is infinite with {_seeds(seeds)}" for label, seeds in made.infinite.items()]
    if made.unfinished:
        parts.append(f"{_seeds(made.unfinished)} not finished, or changed by hand, in one of them")
    if made.unmeasured:
        parts.append(f"{_seeds(made.unmeasured)} not measured in both")
    left_out = f"; left out: {', '.join(parts)}" if parts else ""
    early = [f"{label} has made {share:.0%} of its way" for label, share in made.way.items() if share <= EARLY]
    hardly = f"; hardly trained there: {', '.join(early)}" if early and made.estimate is not None else ""
    family = f"; corrected for {made.together} comparisons" if made.together > 1 and made.estimate is not None else ""
    unlike = "".join(f"; {why}" for why in made.unlike)
    return f"{left_out}{hardly}{unlike}{family}"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"
