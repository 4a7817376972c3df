"""Exercises of lesson 08: wrong labels after flips, a contradiction, and swapping against dropping."""

from __future__ import annotations

from typing import Any

from lab.objectives import make_objective
from lab.teaching.plane import Plane
from lab.teaching.reading import read_point

from .judging import choice, number
from .registry import Verdict, exercise

NOISE, FLIPS = 0.15, 0.2
"""Share of wrong labels before, and share of the labels that are flipped at random, in exercise 08.1."""

WRONG, LISTED, HIT = 150, 100, 60
"""Wrong labels of a set, pairs that a detector lists, and wrong labels among these, in exercise 08.3."""


@exercise("08.1")
def wrong_labels(answer: Any) -> Verdict:
    """Share of wrong labels after some of all labels were flipped at random."""
    right = NOISE * (1 - FLIPS) + (1 - NOISE) * FLIPS
    return number(
        answer,
        right,
        why=f"{NOISE:.0%} · {1 - FLIPS:.0%} stay wrong, {1 - NOISE:.0%} · {FLIPS:.0%} become wrong: {right:.0%}. A flip of a wrong "
        "label repairs it.",
        wrong=[
            (NOISE + FLIPS, "This is the sum; a flip of a label that was wrong makes it right."),
            (NOISE + (1 - NOISE) * FLIPS, "Some of the labels that were wrong are flipped, too, and are right then."),
            ((1 - NOISE) * FLIPS, "These are the labels that become wrong; others stay wrong."),
            (NOISE * FLIPS, "These are the labels that were wrong and are flipped: they are right now."),
            (1 - right, "This is the share of right labels."),
            (100 * right, "Give the share, a number between 0 and 1."),
        ],
        otherwise="Two groups are wrong afterwards: wrong and not flipped, right and flipped.",
        relative=0.005,
    )


@exercise("08.2")
def contradiction(answer: Any) -> Verdict:
    """Return the remedy for two pairs that have the same answers in opposite order."""
    pull = read_point(make_objective("dpo"), Plane(), (0.0, 5.0), rate=1.0).push_rejected
    push = read_point(make_objective("dpo"), Plane(), (5.0, 0.0), rate=1.0).push_chosen
    numbers = f"DPO pushes the better answer up by {push:.3f} at h = 5 nats for one pair, and down by {pull:.3f} for the other"
    return choice(
        answer,
        {
            "a": (False, f"{numbers}: together they hold h at 0, and each step on them works against the other pairs."),
            "b": (
                False,
                "After the swap the set has the same pair twice: it counts double, and nobody has read which order is right.",
            ),
            "c": (True, f"{numbers}, so they cannot both stay. Only a reader knows which of the two labels is right."),
        },
    )


@exercise("08.3")
def swap_or_drop(answer: Any) -> Verdict:
    """Number of wrong labels after the pairs that a detector lists were swapped."""
    right = WRONG - HIT + (LISTED - HIT)
    return number(
        answer,
        right,
        why=f"{HIT} become right and {LISTED - HIT} become wrong: {WRONG} − {HIT} + {LISTED - HIT} = {right}. Dropping the "
        f"{LISTED} leaves {WRONG - HIT} wrong labels, in a smaller set. Swapping helps from a precision of one half on.",
        wrong=[
            (WRONG - HIT, f"This is so after dropping them; swapping makes the {LISTED - HIT} other labels of the list wrong."),
            (WRONG - LISTED, "Not every pair of the list has a wrong label."),
            (LISTED - HIT, "These become wrong; some wrong labels are not on the list."),
            (WRONG, "At a precision of one half it would stay the same; here it is above."),
            (WRONG - HIT / 2, "Count both kinds of pairs of the list: labels that become right, and labels that become wrong."),
        ],
        otherwise="Some labels of the list become right, the others wrong; those not on the list stay as they are.",
        relative=0.0,
        absolute=0.5,
    )
