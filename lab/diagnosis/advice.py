"""What helps against a finding, for the objective in use: its own parameters and other objectives, chosen by what they would do.

Whether another value of a parameter, or another objective, would help is computed and not listed: at the place where the run's
answers stand (their mean log-ratios), from the gradient of the loss that pushes the chosen answer up and the rejected one down. So
the advice never names a parameter that the objective lacks, a value beyond its range, or the objective in use, and it also fits
objectives that users have registered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .evidence import Evidence

if TYPE_CHECKING:
    from lab.objectives import Objective

FACTOR = 1.5
"""How much larger or smaller a parameter is tried."""

WORTH = 0.05
"""What a score has to gain for a parameter or an objective to be advised."""

MOST_TOKENS = 512
"""Tokens of an answer with which the gradient is computed, at most."""


@dataclass(frozen=True)
class Push:
    """How hard the loss pushes the chosen answer up and the rejected one down, per nat; negative: the other way."""

    chosen: float
    rejected: float

    @property
    def share(self) -> float:
        """The chosen side's part of both, in [-1, 1]."""
        both = abs(self.chosen) + abs(self.rejected)
        return self.chosen / both if both > 0 else math.nan


Score = Callable[[Push, Push], float]
"""How good a push is, given the present one; higher is better."""


def holds_chosen_up(push: Push, present: Push) -> float:
    """More of the push goes to the chosen answers."""
    return push.share


def spares_rejected(push: Push, present: Push) -> float:
    """The rejected answers are pushed down less."""
    return -push.rejected / present.rejected if present.rejected > 0 else math.nan


def spares_share(push: Push, present: Push) -> float:
    """Less of the push goes down on the rejected answers; fit to compare objectives whose scales differ."""
    both = abs(push.chosen) + abs(push.rejected)
    return -push.rejected / both if both > 0 else math.nan


def pushes_more(push: Push, present: Push) -> float:
    """Both sides together are pushed more."""
    both = present.chosen + present.rejected
    return (push.chosen + push.rejected) / both if both > 0 else math.nan


class Advice:
    """Advice for the run behind `evidence`, whose answers stand at log-ratios `at` (chosen, rejected; nats an answer)."""

    def __init__(self, evidence: Evidence, at: tuple[float, float] | None = None) -> None:
        self.evidence, self.at = evidence, at
        objective = evidence.objective
        inner = getattr(objective, "base", None)
        self.prefix = ""
        self.method: Objective | None = objective
        if inner is not None and hasattr(inner, "compute"):
            self.method, self.prefix = inner, "base."
        names = {one.name for one in (objective, self.method) if one is not None}
        self.taken = frozenset(names) | evidence.twin_objectives

    def rate(self, lower: bool = True) -> str:
        """ "a lower learning rate (now 0.001)"; "" where there is none lower."""
        rate = self.evidence.setting("learning_rate", math.nan)
        if math.isnan(rate) or (lower and rate == 0):
            return ""
        return f"a {'lower' if lower else 'higher'} learning rate (now {rate:g})"

    def value(self, name: str) -> Any:
        """The value of a parameter of the objective, None where it has none of that name or does not read it."""
        return dict(_parameters(self.method)).get(name)

    def lower(self, name: str) -> str:
        """ "a lower beta (now 0.1)"; "" where the objective has no such parameter or it is at the end of its range."""
        return self._changed(name, 1 / FACTOR)

    def higher(self, name: str) -> str:
        """ "a higher r1 (now 0.6)"; "" as in `lower`."""
        return self._changed(name, FACTOR)

    def parameter(self, score: Score) -> str:
        """The change of one parameter of the objective that improves a score: beta's if it does, else the one that does most."""
        if self.method is None or self.at is None:
            return ""
        present = self._push(self.method)
        gains: dict[tuple[str, float], float] = {}
        for name, value in _parameters(self.method):
            for factor in (FACTOR, 1 / FACTOR):
                wanted = _within(self.method, name, value, factor)
                if wanted is not None:
                    push = self._push(self.method.replace(**{name: wanted}))
                    gains[name, factor] = score(push, present) - score(present, present) if push and present else math.nan
        worth = {change: gain for change, gain in gains.items() if gain > WORTH}
        if not worth:
            return ""
        name, factor = max(worth, key=lambda change: (change[0] == "beta", worth[change]))
        return self._changed(name, factor)

    def objectives(self, candidates: Sequence[str], score: Score | None = None) -> list[str]:
        """Those of some objectives that are not in use, nor a twin's, and that are better by a score where the run stands."""
        from lab.objectives import OBJECTIVES

        open_to = [name for name in candidates if name not in self.taken and name in OBJECTIVES]
        if self.method is None or self.at is None or score is None:
            return open_to
        present = self._push(self.method)
        pushes = {name: self._push(OBJECTIVES[name]()) for name in open_to}
        return [
            name for name, push in pushes.items() if push and present and score(push, present) - score(present, present) > WORTH
        ]

    def another(self, names: Sequence[str], why: str) -> str:
        """ "dpop or cal_dpo (holds the chosen answers up)"; "" without a name. In spo it is the base that is another."""
        if not names:
            return ""
        as_base = " as its base" if self.prefix else ""
        return f"{' or '.join(names)}{as_base} ({why})"

    def helps(self, *remedies: str, case: str = "") -> str:
        """The sentence that says what helps, from those remedies that are not empty; "" where none is left. case: when it does."""
        left = [remedy for remedy in remedies if remedy]
        if not left:
            return ""
        twins = " Change its twins in the same way, so that they stay comparable." if self.evidence.twin_objectives else ""
        listed = left[0] if len(left) == 1 else f"{', '.join(left[:-1])}, or {left[-1]}"
        return f"{f'{case}, what helps' if case else 'What helps'}: {listed}.{twins}"

    def _changed(self, name: str, factor: float) -> str:
        value = self.value(name)
        if self.method is None or value is None or _within(self.method, name, value, factor) is None:
            return ""
        return f"a {'higher' if factor > 1 else 'lower'} {self.prefix}{name} (now {value:g})"

    def _push(self, objective: Objective) -> Push | None:
        import torch

        from lab.objectives.field import field

        e, at = self.evidence, self.at
        assert at is not None
        tokens = max(1, min(MOST_TOKENS, round(e.tokens)))
        level = e.start("logps/chosen") or e.now("logps/chosen")
        reference = min(-0.01, level.value / max(1.0, e.tokens)) if level else -2.0
        x1, x2 = (min(value, -reference * tokens) for value in at)  # no token can be more likely than 1
        try:
            plane = field(objective, torch.tensor([x1]), torch.tensor([x2]), tokens=(tokens, tokens), ref=(reference, reference))
        except (ValueError, RuntimeError):  # an objective of the user's own that needs more than log-probs
            return None
        push = Push(-float(plane.d_log_x1), float(plane.d_log_x2))
        return push if math.isfinite(push.chosen) and math.isfinite(push.rejected) else None


def _parameters(objective: Objective | None) -> Iterator[tuple[str, float]]:
    """The numeric parameters that the objective reads and that may change in mid-run."""
    if objective is None:
        return
    values = {name: getattr(objective, name) for name in type(objective).model_fields}
    unused = type(objective).unused_parameters(values)
    for name, info in type(objective).model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        value = values[name]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in unused and extra.get("changeable", True):
            yield name, value


def _within(objective: Objective, name: str, value: float, factor: float) -> float | None:
    """A parameter's value times a factor, or the end of its range if that comes first; None where it is there already."""
    info = type(objective).model_fields[name]
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    low, high = -math.inf, math.inf
    for rule in info.metadata:
        low = max([low, *(float(getattr(rule, sign)) for sign in ("ge", "gt") if hasattr(rule, sign))])
        high = min([high, *(float(getattr(rule, sign)) for sign in ("le", "lt") if hasattr(rule, sign))])
    recommended: Any = extra.get("recommended")
    if recommended:
        low, high = max(low, recommended[0]), min(high, recommended[1])
    wanted = min(max(value * factor, low), high)
    if isinstance(value, int):
        wanted = math.floor(wanted) if factor < 1 else math.ceil(wanted)
    if not (wanted > value * 1.05 if factor > 1 else wanted < value / 1.05):
        return None
    try:
        objective.replace(**{name: wanted})
    except ValueError:  # an end that does not belong to the range
        return None
    return wanted
