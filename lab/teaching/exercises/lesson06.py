"""Exercises of lesson 06: degrees of an answer, what the degree loss acts on, and the rank correlation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from lab.objectives import Degraded, Objective, make_objective, pairs_at, with_credit
from lab.objectives.methods.spo import spearman
from lab.pairs import key_phrases, removed_spans

from .judging import choice, number
from .registry import Verdict, exercise

TEXT = "Wash the apples, peel the carrots, boil the rice and stir."
"""Text of exercise 06.1: each of its phrases is one word that occurs once."""

DEGREES, DEGREE = 4, 2
CORRELATION = -0.8


@exercise("06.1")
def removed(answer: Any) -> Verdict:
    """Key phrases that degree 2 of 4 removes from an answer with seven of them."""
    phrases = len(key_phrases(TEXT))
    right = len(removed_spans(TEXT, DEGREES)[DEGREE])
    share = DEGREE / (DEGREES - 1)
    return number(
        answer,
        right,
        why=f"The share is {DEGREE}/{DEGREES - 1} of {phrases} phrases, {share * phrases:.2f}, rounded to {right} (half up).",
        wrong=[
            (DEGREE, "The degree is no count of phrases: the last degree removes all of them, however many there are."),
            (share * phrases, "That is the share; a phrase is removed whole or not at all, so round it."),
            (int(share * phrases), "The share is rounded to the nearest whole phrase, not down."),
            (phrases * DEGREE / DEGREES, "There are four degrees and three removals between them: degree 0 is intact."),
            (phrases - right, "That many phrases stay."),
        ],
        otherwise="Degree k of N removes the share k/(N − 1) of the distinct key phrases.",
        relative=0.0,
        absolute=1e-6,
    )


@exercise("06.2")
def doubled_weight(answer: Any) -> Verdict:
    """Effect of twice the weight of the degree loss on the credit of the tokens."""
    before, after = (_credit(make_objective("spo", weight=weight)) for weight in (0.1, 0.2))
    unchanged = all(torch.equal(old, new) for old, new in zip(before[:2], after[:2]))
    doubled = [torch.allclose(new, 2 * old) for old, new in zip(before, after)]
    assert before[2].abs().max() > 0  # the head gets a gradient, so that doubling it means something
    return choice(
        answer,
        {
            "a": (doubled[0] and doubled[1], "λ multiplies the degree loss alone; the push on the pair comes from L_align."),
            "b": (not unchanged and doubled[0], "The chosen answer is degraded, but λ does not change the push on its log-prob."),
            "c": (
                unchanged and doubled[2],
                "The degree loss reads hidden states, no log-prob. Its gradient doubles and reaches the model through the head.",
            ),
            "d": (not unchanged, "Losses are added, not averaged: L_align keeps its full gradient for every λ."),
        },
    )


@exercise("06.3")
def ranks(answer: Any) -> Verdict:
    """Four log-ratios, of degree 0 to 3, with a given rank correlation."""
    try:
        values = torch.as_tensor([float(value) for value in answer], dtype=torch.float64)
    except (TypeError, ValueError):
        values = torch.zeros(0)
    if len(values) != DEGREES or not bool(values.isfinite().all()):
        return Verdict(False, f"Give {DEGREES} numbers, the log-ratios of degree 0 to {DEGREES - 1}, such as [0, -1, -2, -3].")
    degrees = torch.arange(DEGREES).double()
    value = float(spearman(values[None], degrees[None], torch.ones(1, DEGREES, dtype=torch.bool)))
    rises = sum(b > a for a, b in pairwise(values.tolist()))
    if abs(value - CORRELATION) < 1e-9:
        return Verdict(True, f"ρ = {value:.1f}: one removal raised the log-ratio, and only the order of the four values counts.")
    if value != value:
        return Verdict(False, "All four are equal, so they have no order, and the correlation is undefined.")
    if rises == 0 and abs(value + 1) < 1e-9:
        return Verdict(False, "ρ = −1: each removal lowers the log-ratio. How far it falls does not matter, only the order.")
    if value > 0:
        return Verdict(False, f"ρ = {value:.2f}: these log-ratios rise with the degree, the reward should mostly fall.")
    return Verdict(False, f"ρ = {value:.2f}. Start from a falling row, which has −1, and swap two neighbours.")


def _credit(objective: Objective) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the credit of both answers' tokens and the gradient at the head, for two pairs with made-up scores of the head."""
    scores = torch.randn(2, DEGREES, DEGREES, generator=torch.Generator().manual_seed(0)).double()
    degrees = torch.arange(DEGREES).expand(2, DEGREES)
    log_x1, log_x2 = torch.tensor([[1.0, -2.0], [-1.0, 3.0]]).double()
    pairs = pairs_at(objective, log_x1, log_x2, tokens=(8, 8), ref=(-2.0, -2.0))
    pairs = replace(pairs, degraded=Degraded(scores, degrees, torch.ones_like(degrees, dtype=torch.bool)))
    credited = with_credit(objective, pairs, objective.initial_state(), {}, training=True)
    assert credited.head is not None
    return credited.chosen, credited.rejected, credited.head
