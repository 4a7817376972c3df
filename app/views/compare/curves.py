"""The Compare page's curves, numbers and settings, redrawn every second while one of the runs trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.text.plain import markup, plain
from app.text.run_text import STATES, meanings
from app.widgets import save_dialog
from app.widgets.figure import dark
from lab.comparison import AXES, Comparison
from lab.comparison.matching import common_reach
from lab.comparison.numbers import MEASURES, as_text, format_number
from lab.glossary import entry
from lab.plots.comparison.overlay import colour_of_run, dash_of_run
from lab.run.handle import Run

FIRST = (
    "rewards/margins",
    "eval/oracle_reward",
    "eval/reward",
    "eval/kl",
    "eval/win_rate",
    "eval/rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
)
"""Curves that are selected at first, if a run has them."""

AT_FIRST = 6

STROKES = {
    "solid": (44,),
    "dash": (9, 5),
    "dot": (3, 3),
    "dashdot": (9, 4, 3, 4),
    "longdash": (15, 6),
    "longdashdot": (15, 4, 3, 4),
}
"""Plotly's dash patterns in pixels: stroke, gap, stroke, ..."""

AXIS_NAMES = {"step": "Step", "pairs": "Pairs seen", "trained": "Time trained", "clock": "Clock", "kl": "KL"}

OVERLAID, LESS = "overlaid", "less"


def kept(runs: Sequence[Run]) -> Comparison:
    """Return the comparison of these runs that the session keeps."""
    comparison = st.session_state.get("comparison")
    if not isinstance(comparison, Comparison) or [run.dir for run in comparison.runs] != [run.dir for run in runs]:
        comparison = st.session_state["comparison"] = Comparison(runs)
    return comparison


def legend(comparison: Comparison, states: Sequence[str]) -> None:
    """Draw the legend: line, label, folder, state and step of each run."""
    lines = []
    for number, (label, run, state) in enumerate(zip(comparison.labels, comparison.runs, states)):
        line = f'<span style="{_line(number)}"></span>'
        steps = int(run.manifest["config"]["steps"])
        progress = f"{STATES[state][0].lower()}, step {comparison.steps[number]:,} of {steps:,}"
        lines.append(
            f'<span style="white-space:nowrap">{line} <b>{markup(label)}</b> '
            f'<span style="opacity:0.75">{markup(run.dir.name)}: {progress}</span></span>'
        )
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:0.2rem 1.6rem">{"".join(lines)}</div>')


def _line(number: int) -> str:
    """Return CSS that draws a piece of a run's line."""
    colour, strokes = colour_of_run(number, dark()), STROKES[dash_of_run(number)]
    stops, at = [], 0
    for place, length in enumerate(strokes):
        stops.append(f"{'transparent' if place % 2 else colour} {at}px {at + length}px")
        at += length
    gradient = f"repeating-linear-gradient(90deg,{','.join(stops)})"
    return f"display:inline-block;vertical-align:middle;width:44px;height:3px;margin-right:0.4rem;background:{gradient}"


def curves(comparison: Comparison) -> None:
    """Draw curves of chosen scalars over a common axis, or the first run minus the second."""
    names = comparison.names()
    if not names:
        st.caption("The curves appear here after the first step of a run.")
        return
    one, which, other, last = st.columns([5, 3, 2, 2], vertical_alignment="bottom")
    first = [name for name in FIRST if name in names][:AT_FIRST]
    with which.popover("Numbers", icon=":material/checklist:", help="Which curves are drawn."):
        chosen = st.multiselect(
            "Numbers", names, default=first, format_func=_named, key="compare.names", label_visibility="collapsed", width=700
        )
    axis = one.segmented_control(
        "x axis", list(AXES), default="step", required=True, format_func=AXIS_NAMES.__getitem__, key="compare.axis"
    )
    axis = axis or "step"
    if not chosen:
        st.caption("Choose a number to draw.")
        return
    two = len(comparison.runs) == 2
    subtract = two and other.toggle("A − B", key="compare.less", help="Draw the first run minus the second.")
    with last:
        st.download_button(
            "CSV",
            lambda: comparison.data(chosen, axis).to_csv(index=False).encode(),
            file_name="comparison.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="The points of the curves below: run, scalar, place on the axis, step, value, moving mean, interval. The disk in "
            "a chart's bar saves every recorded number of that chart.",
        )
    st.caption(plain(AXES[axis].meaning + (_loss_words(comparison) if "loss" in chosen else "")))
    view = f"{'-'.join(run.dir.name for run in comparison.runs)}/{axis}/{subtract}"
    for start in range(0, len(chosen), 3):
        row = chosen[start : start + 3]
        for cell, name in zip(st.columns(len(chosen) if len(chosen) < 3 else 3), row):
            draw = comparison.difference_figure if subtract else comparison.figure
            figure = draw(name, axis, dark=dark())
            figure.layout.paper_bgcolor = "rgba(0,0,0,0)"  # the page has its own
            figure.layout.uirevision = f"{view}/{name}"  # constant: keeps zoom and hidden traces at a refresh
            with cell:
                save_dialog.chart(
                    figure,
                    f"compare-{name}",
                    title=f"{_named(name)}, {AXES[axis].title}",
                    file=file_name(comparison, f"{name}-{axis}"),
                    data=partial(_data, comparison, name, axis, subtract),
                    caption="Value and moving mean of the first run minus the second."
                    if subtract
                    else "Every run that is compared.",
                )


def _data(comparison: Comparison, name: str, axis: str, subtract: bool) -> pd.DataFrame:
    """Return the table that is saved of a chart."""
    if not subtract:
        return comparison.data([name], axis, whole=True)
    difference = comparison.difference(name, axis, whole=True).rename_axis("x").reset_index()
    return difference[["x", "step", "value", "mean"]].assign(scalar=name, axis=axis)


def file_name(comparison: Comparison, what: str) -> str:
    """Return the name of a file that is saved of these runs, without its ending."""
    return "-".join([*(run.dir.name for run in comparison.runs[:2]), what.replace("/", "-")])


def _named(name: str) -> str:
    title = entry(name).title
    return title if title == name else f"{title} ({name})"


def _loss_words(comparison: Comparison) -> str:
    names = {run.manifest["config"]["objective"]["name"] for run in comparison.runs}
    return "" if len(names) == 1 else " Losses of different objectives are different quantities: compare trends, not values."


def numbers(comparison: Comparison) -> None:
    """Draw the results of the latest evaluations, and the runs at the same KL distance from the reference."""
    table = comparison.numbers()
    if table.empty:
        st.caption("Numbers appear here after the first evaluation of a run.")
        return
    st.subheader("At the latest evaluation")
    evaluations = [max(comparison.evaluations(number), default=None) for number in range(len(comparison.runs))]
    when = ", ".join(f"{label[0]} at step {step:,}" for label, step in zip(comparison.labels, evaluations) if step is not None)
    st.caption(plain(f"{when}. In brackets 95 % intervals, where there are any."))
    explained = _explained(name for name in MEASURES if entry(name).title in set(table["measure"]))
    st.dataframe(as_text(table), width="stretch", height="content", column_config={"_index": explained})
    distances = {label: comparison.scalar(number, "eval/kl") for number, label in enumerate(comparison.labels)}
    top = common_reach(distances)
    if not top > 0:
        return
    st.subheader("At the same distance from the reference")
    st.caption(
        "Every run at the step where its KL first reached this value, interpolated between its evaluations. An objective that "
        "moves the policy further from the reference is not better for that alone."
    )
    target = st.number_input(
        "KL, nats per answer", value=None, min_value=0.0, placeholder=f"{top:.4g}, the largest that all have reached", width=420
    )
    matched = comparison.at_kl(top if target is None else target)
    labels = {name: entry(name).label for name in MEASURES}
    table = matched.rename(columns=labels | {"step": "Step"}).T.map(format_number)
    explained = _explained(name for name in MEASURES if name in matched)
    st.dataframe(table, width="stretch", height="content", column_config={"_index": explained})


def _explained(names: Iterable[str]) -> Any:
    """Return the column of measures, with their meanings as help text."""
    return st.column_config.TextColumn("Measure", help=meanings({name: entry(name).title for name in names}))


def settings(comparison: Comparison) -> None:
    """Draw the settings that differ, and the equal ones in a closed expander."""
    table = comparison.settings()
    differs, same = table[~table["same"]].drop(columns="same"), table[table["same"]].drop(columns="same")
    if differs.empty:
        st.caption("The settings of these runs are the same, and so are their pairs and the libraries they were trained with.")
    else:
        st.dataframe(_named_index(differs), width="stretch", height="content")
    with st.expander(f"The same in all: {len(same)} settings"):
        first = same[[comparison.labels[0]]].rename(columns={comparison.labels[0]: "all runs"}) if len(same) else same
        st.dataframe(_named_index(first), width="stretch", height="content")


def _named_index(table: pd.DataFrame) -> Any:
    return table.rename_axis("setting")
