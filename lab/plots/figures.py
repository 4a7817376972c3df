"""Every figure of a run by its name; the dashboard, the notebooks and `Run.figure` draw them here.

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

from .glossary import PAIR_TERMS, entry
from .record import Record
from .style import is_step_axis, plainly

if TYPE_CHECKING:
    from lab.store import StoreReader

RECENT = 50
"""Steps that the confusion of the degree head is counted over."""

SHARE = (-0.03, 1.03)
"""Axis of what lies between 0 and 1."""

DISTRIBUTION = "distribution:"
"""What the names of the distributions begin with; a term's name follows."""

SCALAR = "scalar:"
"""What the name of the curve of any recorded scalar begins with; the scalar's name follows."""


@dataclass(frozen=True)
class FigureSpec:
    """A figure that can be drawn of any run: its title, and `draw(record, dark)`.

    scalars: the scalars that are its data, if such are.   data: gives its data where they are something else.
    interval: what an evaluation calls the confidence interval around it.
    """

    title: str
    draw: Callable[[Record, bool], go.Figure]
    scalars: tuple[str, ...] = ()
    data: Callable[[Record], pd.DataFrame] | None = None
    interval: str = ""


def _lines(title: str, *names: str, smooth: bool = True, **look: Any) -> FigureSpec:
    """Curves of some scalars; `look` is handed on to `curves`."""

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
            **look,
        )

    return FigureSpec(title, draw, names)


def _window(values: int) -> int:
    """Width of the moving mean: a fortieth of what there is, so that the line stays a line however long the run."""
    return min(max(values // 40, 1), 500)


def _sampled(title: str, name: str, interval: str, *, waiting: str, **look: Any) -> FigureSpec:
    """A mean over sampled answers with its confidence interval, which evaluations keep as <interval>_low and <interval>_high."""

    def draw(record: Record, dark: bool) -> go.Figure:
        band, frame = _band(record, interval), record.scalars([name])
        counts = frame.attrs.get("stands_for")
        return curves(
            frame, [name], title=title, events=record.notable(), stands_for=counts, band=band, waiting=waiting, dark=dark, **look
        )

    return FigureSpec(title, draw, (name,), interval=interval)


def _band(record: Record, interval: str) -> pd.DataFrame:
    """An interval by step: index `step`, columns low and high."""
    low, high = f"{interval}_low", f"{interval}_high"
    events = record.events()
    looks = events[events["kind"] == "evaluation"]
    found = [(step, d[low], d[high]) for step, d in zip(looks["step"], looks["detail"]) if low in d and high in d]
    return pd.DataFrame(found, columns=["step", "low", "high"]).drop_duplicates("step", keep="last").set_index("step")


def interval_of(record: Record, name: str) -> pd.DataFrame | None:
    """The confidence interval around a figure's curve by step, columns low and high; None where it has none."""
    interval = spec_of(record, name).interval
    return _band(record, interval) if interval else None


def _distribution(term: str) -> FigureSpec:
    return FigureSpec(
        entry(term).title, lambda record, dark: distribution(record.terms(), term, events=record.notable(), dark=dark)
    )


def _scalar(name: str) -> FigureSpec:
    about = entry(name)
    return _lines(about.title, name, unit=about.unit)


def _confusion(record: Record, dark: bool) -> go.Figure:
    """Counts of the latest steps; earlier ones are of another head."""
    counts = record.scalars(record.scalar_names(PREFIX)).tail(RECENT).sum()
    counts.index = pd.MultiIndex.from_tuples(
        [tuple(int(degree) for degree in name.removeprefix(PREFIX).split("/")) for name in counts.index], names=["true", "named"]
    )
    note = f"{int(counts.sum()):,} answers of the latest {RECENT} steps"
    return confusion(counts.unstack("named") if len(counts) else pd.DataFrame(), note=note, dark=dark)


_SAMPLED = "Answers to held-out prompts are sampled before the first step, every eval_every steps and at the end."
_JUDGED = f"{_SAMPLED} The curve appears where an oracle or a reward model judges them."

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
    "target_margin": _lines("Target margin", "target_margin", unit="reward, no unit"),
    "degree": _lines(
        "Degree head: accuracy and rank correlation", "degree_accuracy", "rank_correlation", unit="share, correlation"
    ),
    "confusion": FigureSpec(CONFUSION_TITLE, _confusion),
    "oracle": _sampled("Oracle reward of sampled answers", "eval/oracle_reward", "reward", unit="reward", waiting=_JUDGED),
    "reward": _sampled("Reward of sampled answers", "eval/reward", "reward", unit="reward", waiting=_JUDGED),
    "win_rate": _sampled(
        "Win rate against the reference", "eval/win_rate", "win", unit="share of comparisons", span=SHARE, waiting=_JUDGED
    ),
    "valid": _lines("Valid answers", "eval/valid", unit="share", span=SHARE, smooth=False, waiting=_JUDGED),
    "kl": _sampled("Distance to the reference", "eval/kl", "kl", unit="nats per answer", waiting=_SAMPLED),
    "answer_length": _lines(
        "Length of sampled answers", "eval/completions/mean_length", unit="tokens", smooth=False, waiting=_SAMPLED
    ),
    "repetition": _lines(
        "Repeated and cut answers",
        "eval/repetition",
        "eval/completions/clipped_ratio",
        unit="share",
        span=SHARE,
        smooth=False,
        waiting=_SAMPLED,
    ),
    "grad_norm": _lines("Gradient norm", "grad_norm", unit="length, no unit"),
    "learning_rate": _lines("Learning rate", "learning_rate", unit="η, no unit", smooth=False),
    "throughput": _lines("Throughput", "pairs_per_second", unit="pairs per second"),
    "probe_cost": _lines("Cost of the probes", "probe_cost", unit="share of training time"),
    "layers": FigureSpec(LAYERS_TITLE, lambda record, dark: layers(record.layers(), events=record.notable(), dark=dark)),
    "panel": FigureSpec(
        PANEL_TITLE,
        lambda record, dark: panel(record.panel(), events=record.events(), dark=dark),
        data=lambda record: record.panel(),
    ),
    "plane": FigureSpec(PLANE_TITLE, lambda record, dark: plane(record.pairs(), batch=record.step, dark=dark)),
    **{DISTRIBUTION + term: _distribution(term) for term in PAIR_TERMS},
}
"""Every figure by name. `distribution:<term>` also works for a term that only an objective of one's own has, and `scalar:<name>` is
the curve of any recorded scalar."""


def run_figure(source: StoreReader | Record, name: str, dark: bool = False) -> go.Figure:
    """A figure of a run as it stands. `dark` chooses the colours; the background is transparent.

    source: the store of a run, or the Record of one that somebody keeps for drawing it again and again.
    Raises FigureError naming the figures there are. A figure that has no data yet says what will appear, and when.
    """
    return go.Figure(run_parts(source, name, dark), _validate=False)


def run_parts(source: StoreReader | Record, name: str, dark: bool = False) -> dict[str, Any]:
    """The same as plain data, {"data": traces, "layout": layout}, at half the cost: what a page sends at every refresh."""
    record = source if isinstance(source, Record) else Record(source)
    spec = spec_of(record, name)
    with plainly():
        drawn = spec.draw(record, dark)
    parts: dict[str, Any] = drawn.to_plotly_json() if isinstance(drawn, go.Figure) else drawn
    layout = parts["layout"]
    layout["uirevision"] = f"{record.reader.folder.name}/{name}"  # the same word at every refresh: keep zoom and hidden traces
    if record.until is not None and parts["data"]:  # in the past: the axis keeps its length, and the curves grow along it
        for look in (look for key, look in layout.items() if key.startswith("xaxis") and is_step_axis(look)):
            look["range"] = [0, max(record.latest, 1)]
    return parts


def spec_of(record: Record, name: str) -> FigureSpec:
    """What draws a figure of this run. Raises ValueError naming the figures there are."""
    spec = FIGURES.get(name)
    term = name.removeprefix(DISTRIBUTION)
    if spec is None and name.startswith(DISTRIBUTION) and term in record.term_names():
        spec = _distribution(term)
    scalar = name.removeprefix(SCALAR)
    if spec is None and name.startswith(SCALAR) and scalar in record.scalar_names(""):
        spec = _scalar(scalar)
    if spec is None:
        there = sorted(known for known in FIGURES if not known.startswith(DISTRIBUTION))
        spread = f", the spread of a term ({', '.join(DISTRIBUTION + known for known in record.term_names())})"
        more = f"{spread if record.term_names() else ''}, or the curve of any recorded scalar ({SCALAR}<name>)"
        raise FigureError(f"There is no figure {name!r}; choose one of {', '.join(there)}{more}.{did_you_mean(name, there)}")
    return spec
