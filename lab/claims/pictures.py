"""Pictures of claims as SVG: each part with its interval, and the measure over the steps; the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.experiments.metrics import metric_of
from lab.experiments.records import MARGIN_STD

from .claim import Claim
from .measuring import Curves, Measured, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 6
"""Most variants that are drawn over the steps."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9")
"""Okabe and Ito's colours, which people with any colour vision tell apart; the yellow is darker, for a white page."""
GREY, REGION = "#555555", "#d8efe4"
TITLES = {
    MARGIN_STD: "Std of held-out reward margins",
    "training/grad_norm": "Gradient norm",
    "training/weight_chosen": "Weight of the chosen side",
    "eval/degree_accuracy": "Accuracy of the degree head",
    "eval/rank_correlation": "Rank correlation with the degree",
    "eval/log_ratio_chosen": "Log-ratio of chosen answers (nats)",
    "eval/log_ratio_rejected": "Log-ratio of rejected answers (nats)",
}
"""Titles of measures that the glossary has only for training, or not at all."""


def draw(measured: Measured, curves: Curves) -> str:
    """Return the picture of a claim as the text of an SVG file.

    Left: the mean and each part with its 95 % interval over the seeds, dots for single seeds, and the values that confirm the claim
    shaded. Right: the measure over the steps of each variant, mean and 95 % interval over the seeds.

    Args:
        measured: The number of the claim.
        curves: Curves of the finished runs.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    claim = measured.claim
    drawn = [variant for variant in _curve_variants(claim) if curves.get(variant)]
    rows = [measured.mean] if len(measured.parts) < 2 else [measured.mean, *measured.parts]
    height = max(2.4 if drawn else 1.3, 0.9 + 0.27 * len(rows))
    look: Any = {
        "svg.hashsalt": claim.key,
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(look):
        figure = Figure(figsize=(10.0 if drawn else 5.5, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, 2 if drawn else 1, squeeze=False)[0]
        _forest(axes[0], claim, rows)
        if drawn:
            _over_steps(axes[1], claim.curve or claim.parts[0].terms[0].metric, drawn, curves)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)


def _forest(axes: Axes, claim: Claim, rows: Sequence[Row]) -> None:
    region = claim.confirmed
    numbers = [value for row in rows for value in _extent(row)]
    bounds = [bound for bound in (region.low, region.high) if np.isfinite(bound)]
    low, high = min([*numbers, *bounds]), max([*numbers, *bounds])
    margin = 0.08 * (high - low or 1.0)
    axes.set_xlim(low - margin, high + margin)
    axes.axvspan(max(region.low, low - margin), min(region.high, high + margin), color=REGION, linewidth=0)
    for bound in bounds:
        axes.axvline(bound, color=GREY, linewidth=0.8)
    for at, row in enumerate(rows):
        colour, width = (COLOURS[0], 2.2) if at == 0 else (GREY, 1.2)
        axes.plot(list(row.values.values()), [at] * len(row.values), "o", color=colour, alpha=0.3, markersize=3, markeredgewidth=0)
        if row.estimate is not None:
            axes.plot(row.estimate.interval(), [at, at], color=colour, linewidth=width)
            axes.plot([row.estimate.mean], [at], "s", color=colour, markersize=4.5)
    labels = ["mean" if len(rows) > 1 else "", *(row.label for row in rows[1:])]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"{claim.unit}; shaded: confirms")


def _over_steps(axes: Axes, metric: str, variants: Sequence[str], curves: Curves) -> None:
    from scipy.stats import t

    for colour, variant in zip(COLOURS, variants):
        own = [curve for curve in curves[variant].values() if metric in curve.scalars]
        if not own or len({curve.steps.tobytes() for curve in own}) != 1:
            continue
        steps, values = own[0].steps, np.array([curve.scalars[metric] for curve in own])
        mean = values.mean(0)
        axes.plot(steps, mean, color=colour, linewidth=1.4, label=variant)
        if len(own) > 1:
            half = float(t.ppf(0.975, len(own) - 1)) * values.std(0, ddof=1) / np.sqrt(len(own))
            axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("step")
    axes.set_title(TITLES.get(metric) or metric_of(metric).title, fontsize=9, loc="left")
    if axes.lines:
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0)


def _curve_variants(claim: Claim) -> list[str]:
    """Return the variants whose curves are drawn: all, or of many the first ones and the one that all are compared with."""
    variants = list(dict.fromkeys([*claim.variants, *(variant for part in claim.beside for variant in part.variants)]))
    if len(variants) <= MOST_CURVES:
        return variants
    compared = claim.parts[0].variants[-1]
    others = [variant for variant in variants if variant != compared]
    return [*others[: MOST_CURVES - 1], compared]


def _extent(row: Row) -> list[Any]:
    return [*row.values.values(), *(row.estimate.interval() if row.estimate is not None else ())]
