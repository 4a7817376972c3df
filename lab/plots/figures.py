"""The figures of a run by name, for the dashboard, notebooks and `Run.figure`.

Example:
    run_figure(run.reader, "margins")
    run_figure(run.reader, "distribution:pilot_chosen", dark=True)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from lab.errors import FigureError, did_you_mean
from lab.glossary import PAIR_TERMS, entry
from lab.plots.run.confusion import PREFIX, confusion
from lab.plots.run.confusion import TITLE as CONFUSION_TITLE
from lab.plots.run.curves import curves
from lab.plots.run.distribution import distribution
from lab.plots.run.layers import TITLE as LAYERS_TITLE
from lab.plots.run.layers import layers
from lab.plots.run.panel import TITLE as PANEL_TITLE
from lab.plots.run.panel import panel
from lab.plots.run.plane import TITLE as PLANE_TITLE
from lab.plots.run.plane import plane

from .record import Record
from .style import as_dicts, is_step_axis

if TYPE_CHECKING:
    from lab.store import StoreReader

RECENT = 50
"""Number of latest steps over which the confusion of the degree head is counted."""

SHARE = (-0.03, 1.03)
"""Axis range of shares."""

DISTRIBUTION = "distribution:"
"""Prefix of the names of distributions; the name of a term follows."""

SCALAR = "scalar:"
"""Prefix of the name of the curve of any recorded scalar; the name of the scalar follows."""


@dataclass(frozen=True)
class FigureSpec:
    """A figure that can be drawn for any run.

    Attributes:
        title: Its title.
        draw: draw(record, dark) returns the figure.
        scalars: The scalars it shows, if any.
        data: Returns its data if that is not scalars.
        interval: Name of its confidence interval in evaluation events, or "".
    """

    title: str
    draw: Callable[[Record, bool], go.Figure]
    scalars: tuple[str, ...] = ()
    data: Callable[[Record], pd.DataFrame] | None = None
    interval: str = ""


def _lines(title: str, *names: str, smooth: bool = True, **options: Any) -> FigureSpec:
    """Declare curves of some scalars; `options` is passed on to `curves`."""

    def draw(record: Record, dark: bool) -> go.Figure:
        frame = record.scalars(names)
        stands_for = frame.attrs.get("stands_for") or {name: int(frame[name].notna().sum()) for name in names}
        most = max(stands_for.values(), default=0)
        width = _window(most) if smooth else 1
        means = record.means(names, width) if width > 1 and most > len(frame) else None
        return curves(
            frame,
            names,
            title=title,
            events=record.notable(),
            smooth=width,
            means=means,
            stands_for=stands_for,
            dark=dark,
            **options,
        )

    return FigureSpec(title, draw, names)


def _window(values: int) -> int:
    """Return the width of the moving mean, a fortieth of the values, so that the line is smooth for any length of run."""
    return min(max(values // 40, 1), 500)


def _sampled(name: str, interval: str, *, waiting: str, **options: Any) -> FigureSpec:
    """Declare the curve of a mean over sampled answers with the interval <interval>_low to <interval>_high of its evaluations."""
    title = entry(name).title
    options = {"unit": entry(name).unit} | options

    def draw(record: Record, dark: bool) -> go.Figure:
        band, frame = _band(record, interval), record.scalars([name])
        counts = frame.attrs.get("stands_for")
        return curves(
            frame, [name], title=title, events=record.notable(), stands_for=counts, band=band, waiting=waiting, dark=dark, **options
        )

    return FigureSpec(title, draw, (name,), interval=interval)


def _band(record: Record, interval: str) -> pd.DataFrame:
    """Return an interval by step: index `step`, columns low and high."""
    low, high = f"{interval}_low", f"{interval}_high"
    events = record.events()
    evaluations = events[events["kind"] == "evaluation"]
    rows = [(step, d[low], d[high]) for step, d in zip(evaluations["step"], evaluations["detail"]) if low in d and high in d]
    return pd.DataFrame(rows, columns=["step", "low", "high"]).drop_duplicates("step", keep="last").set_index("step")


def interval_of(record: Record, name: str) -> pd.DataFrame | None:
    """Return the confidence interval of a figure's curve by step, with columns low and high; None if it has none."""
    interval = spec_of(record, name).interval
    return _band(record, interval) if interval else None


def _distribution(term: str) -> FigureSpec:
    return FigureSpec(
        entry(term).title, lambda record, dark: distribution(record.terms(), term, events=record.notable(), dark=dark)
    )


def _scalar(name: str, **options: Any) -> FigureSpec:
    """Declare the curve of one scalar, with title and unit from the glossary."""
    return _lines(entry(name).title, name, **({"unit": entry(name).unit} | options))


def _confusion(record: Record, dark: bool) -> go.Figure:
    """Draw the confusion over the latest steps; earlier counts belong to an earlier state of the head."""
    counts = record.scalars(record.scalar_names(PREFIX)).tail(RECENT).sum()
    counts.index = pd.MultiIndex.from_tuples(
        [tuple(int(degree) for degree in name.removeprefix(PREFIX).split("/")) for name in counts.index],
        names=["true", "predicted"],
    )
    note = f"{int(counts.sum()):,} answers of the latest {RECENT} steps"
    return confusion(counts.unstack("predicted") if len(counts) else pd.DataFrame(), note=note, dark=dark)


_SAMPLED = "Answers to held-out prompts are sampled before the first step, every eval_every steps and at the end."
_JUDGED = f"{_SAMPLED} The curve appears if an oracle or a reward model scores them."

FIGURES: dict[str, FigureSpec] = {
    "loss": _lines("Loss", "loss", "loss_align", "loss_degree", "eval/loss", unit="nats"),
    "margins": _lines("Reward margin", "rewards/margins", "eval/rewards/margins", unit="reward, no unit"),
    "accuracy": _lines(
        "Accuracy of the implicit reward", "rewards/accuracies", "eval/rewards/accuracies", unit="share of pairs", span=SHARE
    ),
    "rewards": _lines("Rewards of both sides", "rewards/chosen", "rewards/rejected", unit="reward, no unit"),
    "logps": _lines("Log-probs of both sides", "logps/chosen", "logps/rejected", unit="nats"),
    "log_ratios": _lines("Log-ratios to the reference", "log_ratio_chosen", "log_ratio_rejected", unit="nats"),
    "pilots": _lines("Pilot terms", "pilot_chosen", "pilot_rejected", unit="nats"),
    "weights": _lines("Weights of both sides", "weight_chosen", "weight_rejected", unit="credit, 1/token"),
    "target_margin": _scalar("target_margin", unit="reward, no unit"),
    "degree": _lines(
        "Degree head: accuracy and rank correlation", "degree_accuracy", "rank_correlation", unit="share, correlation"
    ),
    "confusion": FigureSpec(CONFUSION_TITLE, _confusion),
    "oracle": _sampled("eval/oracle_reward", "reward", unit="reward", waiting=_JUDGED),
    "reward": _sampled("eval/reward", "reward", unit="reward", waiting=_JUDGED),
    "win_rate": _sampled("eval/win_rate", "win", unit="share of comparisons", span=SHARE, waiting=_JUDGED),
    "valid": _scalar("eval/valid", span=SHARE, smooth=False, waiting=_JUDGED),
    "kl": _sampled("eval/kl", "kl", waiting=_SAMPLED),
    "answer_length": _scalar("eval/completions/mean_length", smooth=False, waiting=_SAMPLED),
    "repetition": _lines(
        "Repeated and cut answers",
        "eval/repetition",
        "eval/completions/clipped_ratio",
        unit="share",
        span=SHARE,
        smooth=False,
        waiting=_SAMPLED,
    ),
    "grad_norm": _scalar("grad_norm", unit="norm, no unit"),
    "learning_rate": _scalar("learning_rate", unit="η, no unit", smooth=False),
    "throughput": _scalar("pairs_per_second", unit="pairs per second"),
    "probe_cost": _scalar("probe_cost", unit="share of training time"),
    "layers": FigureSpec(LAYERS_TITLE, lambda record, dark: layers(record.layers(), events=record.notable(), dark=dark)),
    "panel": FigureSpec(
        PANEL_TITLE,
        lambda record, dark: panel(record.panel(), events=record.events(), dark=dark),
        data=lambda record: record.panel(),
    ),
    "plane": FigureSpec(PLANE_TITLE, lambda record, dark: plane(record.pairs(), batch=record.step, dark=dark)),
    **{DISTRIBUTION + term: _distribution(term) for term in PAIR_TERMS},
}
"""The figures by name. Also valid are `distribution:<term>` for a term of a user's own objective, and `scalar:<name>` for the curve
of any recorded scalar."""


def run_figure(source: StoreReader | Record, name: str, dark: bool = False) -> go.Figure:
    """Draw a figure of a run. A figure without data explains what will appear and when.

    Args:
        source: Reader of the run, or a Record that is kept for drawing repeatedly.
        name: Name of the figure, see FIGURES.
        dark: Use the dark palette; the background is transparent.

    Raises:
        FigureError: The figure is unknown; the message lists the known ones.
    """
    return go.Figure(run_parts(source, name, dark), _validate=False)


def run_parts(source: StoreReader | Record, name: str, dark: bool = False) -> dict[str, Any]:
    """Draw a figure as a dict {"data": traces, "layout": layout}, at half the cost of `run_figure`; arguments as there."""
    record = source if isinstance(source, Record) else Record(source)
    spec = spec_of(record, name)
    with as_dicts():
        drawn = spec.draw(record, dark)
    parts: dict[str, Any] = drawn.to_plotly_json() if isinstance(drawn, go.Figure) else drawn
    layout = parts["layout"]
    layout["uirevision"] = f"{record.reader.folder.name}/{name}"  # constant, so that a refresh keeps zoom and hidden traces
    if record.until is not None and parts["data"]:  # an earlier step is shown: the axis keeps its length
        for axis in (axis for key, axis in layout.items() if key.startswith("xaxis") and is_step_axis(axis)):
            axis["range"] = [0, max(record.latest, 1)]
    return parts


def spec_of(record: Record, name: str) -> FigureSpec:
    """Return the declaration of a figure of this run. Raises FigureError, which lists the known figures, if there is none."""
    spec = FIGURES.get(name)
    term = name.removeprefix(DISTRIBUTION)
    if spec is None and name.startswith(DISTRIBUTION) and term in record.term_names():
        spec = _distribution(term)
    scalar = name.removeprefix(SCALAR)
    if spec is None and name.startswith(SCALAR) and scalar in record.scalar_names(""):
        spec = _scalar(scalar)
    if spec is None:
        figures = sorted(known for known in FIGURES if not known.startswith(DISTRIBUTION))
        spread = f", the distribution of a term ({', '.join(DISTRIBUTION + known for known in record.term_names())})"
        more = f"{spread if record.term_names() else ''}, or the curve of any recorded scalar ({SCALAR}<name>)"
        raise FigureError(f"There is no figure {name!r}; choose one of {', '.join(figures)}{more}.{did_you_mean(name, figures)}")
    return spec
