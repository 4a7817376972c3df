"""Exercises of lesson 09: where a loss ends, a loss with a weaker push on one side, and what finds a wrong sign."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from typing_extensions import override

from lab.objectives import DPO, Draws, FieldData, Objective, Outcome, PairLogps, State, field

from .judging import choice, number
from .registry import Verdict, exercise

BETA, MARGIN = 0.25, 2.0
"""Settings of exercise 09.1, in 1/nat and in units of the logit."""

SHARE = 0.5
"""Push on the rejected side as a share of that on the chosen side, in exercise 09.2."""

AXIS = torch.linspace(-6.0, 6.0, 7)
"""Log-ratios, in nats, at which exercise 09.2 compares objectives."""


class _SquaredHinge(Objective):
    """The lesson's squared hinge, with both sides pushed alike; `sign` -1 is the mistake of exercise 09.3."""

    beta: float = BETA
    margin: float = MARGIN
    sign: float = 1.0

    @override
    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        return Outcome(torch.relu(self.margin - self.sign * self.beta * p.h).square()), state


@exercise("09.1")
def end(answer: Any) -> Verdict:
    """Difference of the log-ratios, in nats, at which the squared hinge stops pushing."""
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        pushes = float(field(_SquaredHinge(), torch.tensor([middle]), torch.zeros(1)).d_log_x1) < 0
        low, high = (middle, high) if pushes else (low, middle)
    return number(
        answer,
        high,
        why=f"The loss is 0 where β h ≥ m, so from h = m/β = {high:.3g} nats on. A larger β ends it earlier.",
        wrong=[
            (MARGIN, "This is the margin in units of the logit; h is in nats, and β h is the logit."),
            (MARGIN * BETA, "β multiplies h: divide the margin by it."),
            (BETA / MARGIN, "This is upside down: the end is at β h = m."),
            (0.0, "At h = 0 policy and reference are equal, and the loss is m² with its full push."),
        ],
        otherwise="Set β h = m and solve for h.",
        relative=0.005,
    )


@exercise("09.2")
def half_push(answer: Any) -> Verdict:
    """An objective with DPO's value, and half of DPO's push on the rejected side."""
    try:
        objective = answer() if inspect.isclass(answer) and issubclass(answer, Objective) else answer
        if not isinstance(objective, Objective):
            return Verdict(False, "This is no objective; write a class that inherits from lab.Objective, and give that class.")
        own = field(objective, AXIS, AXIS)
    except Exception as error:  # code of the student, which may raise anything
        return Verdict(False, f"Your objective raised {type(error).__name__}: {error}")
    twin = DPO(beta=float(getattr(objective, "beta", 0.1)))
    dpo = field(twin, AXIS, AXIS)
    if not torch.allclose(own.value, dpo.value, rtol=1e-6, atol=1e-9):
        return Verdict(False, _other_value(own, dpo, field(twin, AXIS, SHARE * AXIS)))
    chosen, rejected = (float((a / b).mean()) for a, b in ((own.d_log_x1, dpo.d_log_x1), (own.d_log_x2, dpo.d_log_x2)))
    same = torch.allclose(own.d_log_x1, dpo.d_log_x1) and torch.allclose(own.d_log_x2, SHARE * dpo.d_log_x2)
    if same:
        return Verdict(True, "The value is DPO's everywhere, the chosen side gets DPO's push, the rejected side half of it.")
    if abs(rejected) < 1e-9:
        return Verdict(False, "The rejected side is not pushed at all: only a part of log X2 may be detached.")
    return Verdict(
        False,
        f"The value is DPO's. The push is {chosen:.2f} times DPO's on the chosen side and {rejected:.2f} on the rejected one.",
    )


@exercise("09.3")
def wrong_sign(answer: Any) -> Verdict:
    """The check that finds a wrong sign of h."""
    right, flipped = _SquaredHinge(), _SquaredHinge(sign=-1.0)
    origin = torch.zeros(1)
    before, after = (field(objective, origin, origin) for objective in (right, flipped))
    same_loss = bool(before.value == after.value)
    seen_in_push = bool(before.d_log_x1 < 0) and bool(after.d_log_x1 > 0)
    same_ratio = bool(before.log_space_ratio == after.log_space_ratio)
    return choice(
        answer,
        {
            "a": (not same_loss, "Policy and reference are equal at the first step: h = 0, and its sign does not enter the loss."),
            "b": (seen_in_push, "The push on the chosen side is negative: descent would make the chosen answer less likely."),
            "c": (not same_ratio, "The two pushes stay equal with either sign, so their ratio is 1 both times."),
            "d": (False, "The limits of the parameters are about β and m; the sign stands in compute."),
        },
    )


def _other_value(own: FieldData, dpo: FieldData, scaled: FieldData) -> str:
    """Say where an objective's value differs from DPO's; `scaled` is DPO with a factor on log X2."""
    far = int((own.value - dpo.value).abs().argmax())
    x1, x2 = (float(AXIS[index]) for index in divmod(far, len(AXIS)))
    values = f"your loss is {own.value.flatten()[far]:.4f}, DPO's {dpo.value.flatten()[far]:.4f}."
    reason = (
        " A factor on log X2 changes the value as well; scale only its gradient." if torch.allclose(own.value, scaled.value) else ""
    )
    return f"At log X1 = {x1:g}, log X2 = {x2:g} {values}{reason}"
