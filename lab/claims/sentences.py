"""Results of claims in words, made from their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lab.experiments.statistics import seeds_needed
from lab.experiments.statistics.comparison import with_interval

from .claim import Claim
from .measuring import Measured, Row
from .verdicts import Judged, verdict_of

TIMES = {"end": "after training", "step=0": "before training"}
MOST = 2 / 3
"""Share of a mean that makes a part the one that most of it comes from. OURS."""
MEASURES = {"kl": "KL divergence", "accuracy": "held-out accuracy", "margin": "held-out margin"}


def interval_text(row: Row, bounds: Sequence[float] = ()) -> str:
    """Return a mean with its 95 % interval: "0.21 [0.08, 0.34]"; the number alone for one seed, and a dash for none.

    Args:
        row: The number.
        bounds: Bounds on whose side an end has to be seen: digits are added where rounding would put it on one.
    """
    if row.estimate is None:
        return f"{next(iter(row.values.values())):.3g}" if row.values else "–"
    return with_interval(row.estimate.mean, *row.estimate.interval(), bounds=bounds)


def count_text(measured: Measured) -> str:
    """Return the number of seeds or rounds behind a number: "8", or "3 of 8" while runs are missing."""
    used = len(measured.mean.values)
    return f"{used}" if measured.complete else f"{used} of {measured.wanted}"


def verdict_text(judged: Judged) -> str:
    """Return the verdict as the report prints it: "confirmed", or "preliminary: 3 of 8 seeds"."""
    if judged.verdict != "preliminary":
        return judged.verdict
    of = "rounds" if judged.measured.claim.cost else "seeds"
    return f"preliminary: {len(judged.measured.finished)} of {judged.measured.wanted} {of}"


def result_sentence(judged: Judged) -> str:
    """Return the result of a claim in one or two sentences."""
    measured = judged.measured
    claim, row = measured.claim, measured.mean
    of = "rounds" if claim.cost else "seeds"
    if not row.values:
        return f"Preliminary, from {len(measured.finished)} of {measured.wanted} {of}: there is no number yet."
    what = f"{claim.quantity} is {interval_text(row, bounds_of(claim))} ({claim.unit})"
    if judged.verdict == "preliminary":
        alone = ", without an interval" if row.estimate is None else ""
        return (
            f"Preliminary, from {len(measured.finished)} of {measured.wanted} {of}: so far {what}{alone}. There is no verdict "
            "before all are finished."
        )
    assert row.estimate is not None
    missing = len(measured.finished) - len(row.values)
    left_out = f" {missing} {of} could not be compared and are left out." if missing else ""
    if missing == 1:
        left_out = f" 1 {of.removesuffix('s')} could not be compared and is left out."
    head = f"{judged.verdict.capitalize()}: {what}, over {len(row.values)} {of}"
    if judged.verdict == "confirmed":
        return f"{head}, which lies {claim.confirmed.words}.{left_out}"
    if judged.verdict == "refuted":
        return f"{head}, which lies outside the values that confirm the claim ({claim.confirmed.words}).{left_out}"
    return f"{head}: the interval is neither {claim.confirmed.words} nor wholly outside.{_needed(claim, row)}{left_out}"


def bounds_of(claim: Claim) -> list[float]:
    """Return the finite bounds of the values that confirm a claim."""
    return [bound for bound in (claim.confirmed.low, claim.confirmed.high) if math.isfinite(bound)]


def _needed(claim: Claim, row: Row) -> str:
    if row.estimate is None or claim.cost:
        return ""
    distance = min(abs(row.estimate.mean - bound) for bound in bounds_of(claim))
    away = f"a value that is {claim.smallest:g} away from the bound"
    if distance > claim.smallest:
        away = "a value as far from the bound as this one"
    count = seeds_needed(row.estimate, max(distance, claim.smallest))
    if count is not None and count < len(row.values):
        return f" {len(row.values)} seeds would probably have shown {away}; the true one is probably nearer to the bound."
    seeds = "more than 1,000 seeds" if count is None else f"about {count} seeds"
    return f" With this spread, {seeds} would show {away}."


def place_text(claim: Claim, measured: Measured) -> str:
    """Return where the variants of a claim are compared, with the mean level of each part."""
    places = []
    for name in dict.fromkeys(part.at for part in claim.parts):
        if name in TIMES:
            places.append(TIMES[name])
            continue
        rows = [row for part, row in zip(claim.parts, measured.parts) if part.at == name and row.levels]
        mean = f" (on average {'; '.join(map(_level_text, rows))})" if rows else ""
        places.append(f"at equal {MEASURES[name]}, the furthest that all runs of a seed reach, on a line between evaluations{mean}")
    return "; ".join(places)


def _level_text(row: Row) -> str:
    steps = ", ".join(f"{variant} at step {step:.0f}" for variant, step in row.steps.items())
    return f"{sum(row.levels.values()) / len(row.levels):.2f} for {row.label}: {steps}"


def alone(judged: Judged) -> dict[str, str]:
    """Return the verdict that each part of a claim would have alone, by the part's label."""
    region, parts = judged.measured.claim.confirmed, judged.measured.parts
    return {row.label: verdict_of(row.estimate.interval(), region) for row in parts if row.estimate is not None}


def limits_text(judged: Judged, together: int) -> str:
    """Return what a verdict does not say: that it falls when claims are corrected together, and parts that differ; else "".

    Args:
        judged: The claim with its verdict.
        together: Number of claims that were corrected together.
    """
    if judged.verdict == "preliminary":
        return ""
    sentences = []
    if judged.verdict != "not shown" and not judged.corrected:
        sentences.append(f"The verdict does not survive the correction for {together} claims (Holm).")
    other = [f"{verdict} for {label}" for label, verdict in alone(judged).items() if verdict != judged.verdict]
    if other:
        sentences.append(f"The verdict is on the mean of the parts; alone it would be {', '.join(other)}.")
    if judged.verdict != "not shown" and (label := _largest(judged.measured)):
        sentences.append(f"Most of the mean comes from {label}.")
    return " ".join(sentences)


def _largest(measured: Measured) -> str:
    """Return the label of the part that makes most of a mean over several parts; "" if none does."""
    means = {row.label: row.estimate.mean for row in measured.parts if row.estimate is not None}
    total = sum(means.values())
    shares = {label: mean / total for label, mean in means.items()} if len(means) > 1 and total else {}
    label = max(shares, key=lambda name: shares[name], default="")
    return label if label and shares[label] >= MOST else ""


def beside_text(measured: Measured) -> str:
    """Return the values beside a number, for comparison, without a verdict; "" where there are none."""
    values = [
        f"{row.label}: {interval_text(row)}, over {len(row.values)} seed{'s' * (len(row.values) > 1)}"
        for row in measured.beside
        if row.values
    ]
    return f"For comparison, not part of the rule: {'; '.join(values)}." if values else ""
