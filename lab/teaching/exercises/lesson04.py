"""Exercises of lesson 04, SGDPO and its pilots."""

from __future__ import annotations

import math
from typing import Any

import torch

from lab.objectives import SGDPO, make_objective, pairs_at
from lab.teaching.plane import Plane
from lab.teaching.reading import read_point
from lab.teaching.sgdpo_theorems import autograd_partials

from .judging import choice, function, number
from .registry import Verdict, exercise


def push_on_rejected(log_x2: float, log_y1: float, beta: float) -> float:
    """Return SGDPO's push on the rejected side, dL/dlog X2, by autograd."""
    partials = autograd_partials(0.0, log_x2, log_y1, 0.0, beta=beta)
    return -partials.d_x2 * math.exp(log_x2) / 2  # L = -l_pilot/2, and d/dlog X2 = X2 d/dX2


@exercise("04.1")
def closed_form(answer: Any) -> Verdict:
    """Push of SGDPO on the rejected side as a function of log_x2, log_y1 and beta, from Theorem 1."""

    def exchanged(log_x2: float, log_y1: float, beta: float) -> float:
        return push_on_rejected(log_y1, log_x2, beta)

    return function(
        answer,
        push_on_rejected,
        [{"log_x2": x2, "log_y1": y1, "beta": beta} for x2, y1, beta in ((-1, 0.5, 0.1), (-6, -2, 0.1), (2, 1, 0.5), (-3, 1, 1.0))],
        why="Theorem 1 times X2 (derivative by the logarithm), times one half (the loss of the released code), without its minus "
        "(l_pilot is maximized). The pilot of the chosen answer decides how hard the rejected answer is pushed down.",
        wrong=(
            (lambda **p: 2 * push_on_rejected(**p), "The factor one half is missing: the loss is minus one half of l_pilot."),
            (
                lambda **p: push_on_rejected(**p) / math.exp(p["log_x2"]),
                "This is the derivative by X2 itself, times one half; multiply by X2 to get the derivative by log X2.",
            ),
            (
                lambda **p: 2 * push_on_rejected(**p) / math.exp(p["log_x2"]),
                "This is the magnitude in Theorem 1; multiply by X2 (derivative by log X2) and by one half (the loss).",
            ),
            (
                lambda **p: -2 * push_on_rejected(**p) / math.exp(p["log_x2"]),
                "This is Theorem 1 as it stands: the derivative of l_pilot by X2. Asked for is dL/dlog X2, and L = -l_pilot/2.",
            ),
            (lambda **p: -push_on_rejected(**p), "The sign is reversed: the push on the rejected side is dL/dlog X2, above 0."),
            (exchanged, "X2 and Y1 are exchanged: the push must shrink as Y1 grows (Theorem 2)."),
        ),
    )


@exercise("04.2")
def pilot_size(answer: Any) -> Verdict:
    """Tokens in the pilot of the chosen answer for 20 chosen and 13 rejected tokens, r1 = 0.6, r2 = 0.9."""
    objective, origin = SGDPO(r1=0.6, r2=0.9), torch.zeros(1, dtype=torch.float64)
    draws = objective.draw(pairs_at(objective, origin, origin, tokens=(20, 13), ref=(-2.0, -2.0)), torch.Generator().manual_seed(0))
    chosen, rejected = (int(draws[name].sum()) for name in ("pilot_chosen", "pilot_rejected"))
    return number(
        answer,
        chosen,
        why="The shorter answer counts, 13 tokens: 0.6 · 13 = 7.8, and the fraction is cut off.",
        wrong=(
            (0.6 * 20, "This is a share of the chosen answer's own 20 tokens; r1 is a share of the shorter answer's length."),
            (0.6 * 13, "A number of tokens is whole: the fraction is cut off."),
            (math.ceil(0.6 * 13), "This is rounded up; the fraction is cut off."),
            (rejected, "This is the pilot of the rejected answer, with r2; the pilot of the chosen answer has the share r1."),
            (0.9 * 13, "This uses r2; the pilot of the chosen answer has the share r1."),
        ),
        otherwise="Take the length of the shorter answer, times r1, and cut off the fraction.",
        relative=1e-6,
    )


@exercise("04.3")
def whole_answers(answer: Any) -> Verdict:
    """SGDPO with r1 = r2 = 1 on answers of equal length, compared with DPO."""
    both = (make_objective("dpo"), SGDPO(r1=1.0, r2=1.0))
    readings = [read_point(objective, Plane(tokens=(8, 8)), (1.0, -2.0), rate=1.0) for objective in both]
    losses, pushes = [reading.loss for reading in readings], [reading.push_chosen for reading in readings]
    numbers = (
        f"At log X1 = 1, log X2 = -2 the losses are {losses[0]:.4f} (DPO) and {losses[1]:.4f}, "
        f"the pushes {pushes[0]:.4f} (DPO) and {pushes[1]:.4f}"
    )
    return choice(
        answer,
        {
            "a": (False, f"{numbers}. The value is DPO's, but the gradient is not: each term moves one side only."),
            "b": (True, f"{numbers}: the pilots are the whole answers, and as they are constants, each half moves one side only."),
            "c": (False, f"{numbers}. The halves add up to the same value; only the gradient is halved."),
            "d": (False, f"{numbers}. The pilots are constants, but the full answers next to them are not."),
        },
    )
