"""Advice for a finding: changes of the objective's parameters, or other objectives, that would help.

The advice is computed: at the mean log-ratios of the run's answers, from the gradient of the loss that pushes the chosen answer up
and the rejected one down, with another parameter value or another objective. It therefore never names a parameter that the
objective lacks, a value outside its range, or the objective in use, and it works for users' own objectives. OURS.
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
"""Factor by which a parameter is increased or decreased on trial."""

WORTH = 0.05
"""Gain in score from which a parameter or an objective is recommended."""

MOST_TOKENS = 512
"""Maximum answer length, in tokens, for which the gradient is computed."""


@dataclass(frozen=True)
class Push:
    """Strength of the loss gradient on each side, per nat: positive raises the chosen answer and lowers the rejected one."""

    chosen: float
    rejected: float

    @property
    def share(self) -> float:
        """Share of the chosen side in both pushes, in [-1, 1]."""
        both = abs(self.chosen) + abs(self.rejected)
        return self.chosen / both if both > 0 else math.nan


Score = Callable[[Push, Push], float]
"""Function of a push and the present push: how good it is, higher is better."""


def holds_chosen_up(push: Push, present: Push) -> float:
    """Score pushes by the share that goes to the chosen answers."""
    return push.share


def spares_rejected(push: Push, present: Push) -> float:
    """Score pushes by how little they push the rejected answers down."""
    return -push.rejected / present.rejected if present.rejected > 0 else math.nan


def spares_share(push: Push, present: Push) -> float:
    """Score pushes by how small the share on the rejected answers is; independent of the scale of the objective."""
    both = abs(push.chosen) + abs(push.rejected)
    return -push.rejected / both if both > 0 else math.nan


def pushes_more(push: Push, present: Push) -> float:
    """Score pushes by their sum over both sides."""
    both = present.chosen + present.rejected
    return (push.chosen + push.rejected) / both if both > 0 else math.nan


class Advice:
    """Builds the sentences of advice for one run.

    Args:
        evidence: Evidence of the run.
        at: Mean log-ratios of its chosen and rejected answers, in nats per answer; None if unknown.
    """

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
        """Return "a lower learning rate (now 0.001)", or "" if it is unknown or cannot be lower."""
        rate = self.evidence.setting("learning_rate", math.nan)
        if math.isnan(rate) or (lower and rate == 0):
            return ""
        return f"a {'lower' if lower else 'higher'} learning rate (now {rate:g})"

    def value(self, name: str) -> Any:
        """Return the value of a parameter of the objective; None if it has no such parameter or does not use it."""
        return dict(_parameters(self.method)).get(name)

    def lower(self, name: str) -> str:
        """Return "a lower beta (now 0.1)", or "" if the objective lacks the parameter or it is at the end of its range."""
        return self._changed(name, 1 / FACTOR)

    def higher(self, name: str) -> str:
        """Return "a higher r1 (now 0.6)", or "" if the objective lacks the parameter or it is at the end of its range."""
        return self._changed(name, FACTOR)

    def parameter(self, score: Score) -> str:
        """Return the change of one parameter that improves a score most, preferring beta; "" if none does."""
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
        """Return those of some objectives that neither the run nor a twin uses and that improve a score."""
        from lab.objectives import OBJECTIVES

        unused = [name for name in candidates if name not in self.taken and name in OBJECTIVES]
        if self.method is None or self.at is None or score is None:
            return unused
        present = self._push(self.method)
        pushes = {name: self._push(OBJECTIVES[name]()) for name in unused}
        return [
            name for name, push in pushes.items() if push and present and score(push, present) - score(present, present) > WORTH
        ]

    def another(self, names: Sequence[str], why: str) -> str:
        """Return "dpop or cal_dpo (holds the chosen answers up)", or "" without names; for spo they are named as its base."""
        if not names:
            return ""
        as_base = " as its base" if self.prefix else ""
        return f"{' or '.join(names)}{as_base} ({why})"

    def helps(self, *remedies: str, case: str = "") -> str:
        """Join remedies to a sentence of advice.

        Args:
            remedies: Remedies; empty ones are left out, and without any the result is "".
            case: Condition under which they help, put first.
        """
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
        x1, x2 = (min(value, -reference * tokens) for value in at)  # the probability of a token is at most 1
        try:
            plane = field(objective, torch.tensor([x1]), torch.tensor([x2]), tokens=(tokens, tokens), ref=(reference, reference))
        except (ValueError, RuntimeError):  # a user's objective that needs more than log-probs
            return None
        push = Push(-float(plane.d_log_x1), float(plane.d_log_x2))
        return push if math.isfinite(push.chosen) and math.isfinite(push.rejected) else None


def _parameters(objective: Objective | None) -> Iterator[tuple[str, float]]:
    """Yield the numeric parameters that the objective uses and that may change during a run."""
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
    """Return a parameter's value times a factor, limited to its range; None if that is no real change."""
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
    except ValueError:  # an open end of the range
        return None
    return wanted
