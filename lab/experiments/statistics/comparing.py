"""Compare the variants of an experiment in pairs: paired by seed, corrected for the number of comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.errors import FigureError
from lab.experiments.metrics import ACCURACY, Metric, unlike

from .comparison import Comparison, place
from .curves import Curve
from .estimate import LEVEL, over_seeds, over_seeds_and_prompts
from .levels import Level, common_level, share_of_way, step_at, value_at
from .power import seeds_needed

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from lab.objectives import Objective

NOTHING = "nothing is compared: there is one variant, or the measure is the one whose level is equal"
COLUMNS = (
    "metric", "at", "level", "where", "one", "other", "difference", "low", "high", "adjusted_low", "adjusted_high", "p",
    "p_adjusted", "shown", "better", "seeds", "prompts", "left_out", "smallest", "seeds_needed", "sentence",
)  # fmt: skip
"""Columns of `Comparisons.table`."""

Curves = Mapping[str, Mapping[int, Curve]]
"""Curve of each finished run, by variant and seed."""


@dataclass(frozen=True)
class Comparisons:
    """Comparisons that were made together, corrected for their number by Holm's procedure."""

    comparisons: tuple[Comparison, ...]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def __getitem__(self, at: int) -> Comparison:
        return self.comparisons[at]

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """One sentence per comparison."""
        return [comparison.sentence for comparison in self.comparisons]

    def figure(self, metric: str | None = None, *, dark: bool = False) -> go.Figure:
        """Return the differences in one metric (None: the first) with their intervals as a Plotly figure; see `forest`."""
        from lab.plots.comparison.forest import forest

        if not self.comparisons:
            raise FigureError(f"There is no figure, because {NOTHING}.")
        return forest(self.table(), metric or self.comparisons[0].metric.name, dark=dark)

    def table(self) -> pd.DataFrame:
        """Return one row per comparison.

        Returns:
            The columns metric, at (kind of level), level (its value), where (both in words), one, other, difference (one minus
            other), low, high (95 % interval of this comparison alone), adjusted_low, adjusted_high (corrected for all comparisons),
            p, p_adjusted (Holm), shown, better, seeds (their number), prompts, left_out (seeds, as text), smallest, seeds_needed,
            sentence.
        """
        import pandas as pd

        rows = []
        for each in self.comparisons:
            low, high = each.estimate.interval() if each.estimate else (math.nan, math.nan)
            rows.append(
                {
                    "metric": each.metric.name,
                    "at": each.level.name,
                    "level": math.nan if each.value is None else each.value,
                    "where": place(each),
                    "one": each.one,
                    "other": each.other,
                    "difference": each.estimate.mean if each.estimate else math.nan,
                    "low": low,
                    "high": high,
                    "adjusted_low": each.interval[0],
                    "adjusted_high": each.interval[1],
                    "p": each.estimate.p if each.estimate else math.nan,
                    "p_adjusted": each.p_adjusted,
                    "shown": each.shown,
                    "better": each.better or "",
                    "seeds": len(each.seeds),
                    "prompts": each.estimate.prompts if each.estimate else None,
                    "left_out": ", ".join(map(str, each.left_out)),
                    "smallest": each.smallest,
                    "seeds_needed": each.needed,
                    "sentence": each.sentence,
                }
            )
        return pd.DataFrame(rows, columns=None if rows else [*COLUMNS])


def compare(
    curves: Curves,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[Metric],
    levels: Sequence[Level],
    *,
    seeds: Sequence[int],
    smallest: float | None = None,
    objectives: Mapping[str, Objective] | None = None,
) -> Comparisons:
    """Compare pairs of variants in some metrics at some levels; all of these are one family for Holm's procedure.

    Args:
        curves: Curves of finished runs, by variant and seed.
        pairs: Pairs of labels of variants.
        metrics: The metrics.
        levels: Where the variants are compared; the metric whose level it is, is left out there.
        seeds: The declared seeds.
        smallest: The smallest difference that matters; None for that of each metric.
        objectives: Objective of each variant: a loss or reward that is another quantity under the other variant's objective has no
            better direction, and the sentence says so.
    """
    made = [
        difference(curves, one, other, metric, level, seeds=seeds, smallest=metric.smallest if smallest is None else smallest)
        for metric in metrics
        for level in levels
        for one, other in pairs
        if level.scalar != metric.name
    ]
    if objectives:
        made = [_own_measures(each, objectives[each.one], objectives[each.other]) for each in made]
    return Comparisons(tuple(_with_needed_seeds(each) for each in corrected(made)))


def difference(
    curves: Curves, one: str, other: str, metric: Metric, level: Level, *, seeds: Sequence[int], smallest: float
) -> Comparison:
    """Return the difference of two variants, paired by seed, not yet corrected for other comparisons.

    Where both have values of the same prompts in every run, the interval is over seeds and prompts, else over seeds.
    """
    both = [seed for seed in seeds if seed in curves[one] and seed in curves[other]]
    unfinished = tuple(seed for seed in seeds if seed not in both)
    sides = {label: [curves[label][seed] for seed in both] for label in (one, other)}
    value = level.value
    if level.scalar is not None and value is None:
        value = common_level([*sides[one], *sides[other]], level.scalar) if both else math.nan
    if value is not None and math.isnan(value):
        return Comparison(metric, one, other, level, value, None, smallest, (), unfinished)
    places = {label: [step_at(curve, level, value) for curve in own] for label, own in sides.items()}
    never = {label: tuple(seed for seed, step in zip(both, steps) if math.isnan(step)) for label, steps in places.items()}
    kept = [at for at, seed in enumerate(both) if not any(seed in own for own in never.values())]
    prompts = {curve.prompts if metric.name in curve.by_prompt else () for own in sides.values() for curve in own}
    by_prompt = len(prompts) == 1 and len(next(iter(prompts))) > 1
    values = {
        label: np.array([_value(sides[label][at], metric.name, places[label][at], by_prompt=by_prompt) for at in kept])
        for label in (one, other)
    }
    measured = ~_some(np.isnan, values[one]) & ~_some(np.isnan, values[other])
    infinite = {label: _some(np.isinf, own) & measured for label, own in values.items()}
    finite = measured & ~infinite[one] & ~infinite[other]
    seeds_at = np.array([both[at] for at in kept], dtype=int)
    used = tuple(seeds_at[finite].tolist())
    way = {}
    if level.scalar is not None and value is not None and used:
        shares = {label: [share_of_way(curves[label][seed], level.scalar, value) for seed in used] for label in sides}
        way = {label: float(np.nanmean(own)) for label, own in shares.items() if not np.isnan(own).all()}
    result = replace(
        Comparison(metric, one, other, level, value, None, smallest, used, unfinished),
        unmeasured=tuple(seeds_at[~measured].tolist()),
        infinite={label: tuple(seeds_at[own].tolist()) for label, own in infinite.items() if own.any()},
        never={label: own for label, own in never.items() if own},
        way=way,
    )
    if len(used) < 2:
        return result
    estimate = (over_seeds_and_prompts if by_prompt else over_seeds)(values[one][finite] - values[other][finite])
    return replace(result, estimate=estimate, p_adjusted=estimate.p)


def corrected(made: Sequence[Comparison], alpha: float = LEVEL) -> list[Comparison]:
    """Correct comparisons that were made together by Holm's procedure (Holm 1979, Scandinavian Journal of Statistics 6).

    The i-th smallest of m p values is compared with alpha / (m - i + 1); from the first that is not below it on, no difference is
    shown. Each comparison gets the level of its step, those that show nothing that of the first of them, so that an interval
    excludes 0 exactly if the difference is shown (Serlin 1993, Journal of Experimental Education 61).
    """
    known = [at for at, each in enumerate(made) if each.estimate is not None]
    p = np.array([made[at].p_adjusted for at in known])
    order = np.argsort(p, kind="stable")
    left = len(p) - np.arange(len(p))  # comparisons that are left at each step
    adjusted, levels = np.minimum(np.maximum.accumulate(p[order] * left), 1.0), alpha / left
    shown = int((adjusted < alpha).sum())
    levels[shown:] = levels[min(shown, len(p) - 1)] if len(p) else ()
    result = list(made)
    for rank, at in enumerate(order):
        result[known[at]] = replace(
            made[known[at]], alpha=float(levels[rank]), p_adjusted=float(adjusted[rank]), together=len(known)
        )
    return result


def _value(curve: Curve, name: str, step: float, *, by_prompt: bool) -> np.ndarray:
    if by_prompt:
        return value_at(curve.steps, curve.by_prompt[name], step)
    return value_at(curve.steps, curve.scalars.get(name, np.full(len(curve.steps), np.nan)), step)


def _some(found: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return for each seed whether something is found in one of its values, [seeds] or [seeds, prompts]."""
    return np.array([found(own).any() for own in values], dtype=bool)


def _own_measures(made: Comparison, one: Objective, other: Objective) -> Comparison:
    of_metric, of_level = unlike(made.metric.name, one, other), unlike(made.level.scalar or "", one, other)
    metric = replace(made.metric, better="") if of_metric and made.metric.name != ACCURACY else made.metric
    return replace(made, metric=metric, unlike=tuple(dict.fromkeys(filter(None, (of_metric, of_level)))))


def _with_needed_seeds(made: Comparison) -> Comparison:
    if made.estimate is None:
        return made
    return replace(made, needed=seeds_needed(made.estimate, made.smallest, alpha=made.alpha))
