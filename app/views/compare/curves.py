"""The Compare page's curves, numbers and settings, redrawn every second while one of the runs trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from app.text.plain import markup, plain
from app.text.run_text import STATES, meanings
from app.views.compare.between import choose as choose_between
from app.views.compare.between import seeds_in_words
from app.widgets import save_dialog
from app.widgets.figure import dark, legend_line
from lab.comparison import AXES, Comparison
from lab.comparison.numbers import MEASURES, as_text
from lab.glossary import entry
from lab.run.handle import Run

FIRST = (
    "eval/rewards/accuracies",
    "rewards/margins",
    "logps/rejected",
    "logps/chosen",
    "weight_chosen",
    "weight_rejected",
    "eval/kl",
    "eval/oracle_reward",
    "eval/reward",
)
"""Curves that are selected at first, if a run has them."""

GROUPED = "grouped"
"""In the session and the address: whether runs that differ only in their seed share a curve."""

LEGENDS = 4
"""With more curves only the page has a legend; in every figure it would leave no room for the curves."""

AXIS_NAMES = {"step": "Step", "pairs": "Pairs seen", "trained": "Time trained", "clock": "Clock", "kl": "KL"}


def kept(runs: Sequence[Run]) -> Comparison:
    """Return the comparison of these runs that the session keeps."""
    grouped = is_grouped()
    comparison = st.session_state.get("comparison")
    folders = [run.dir for run in runs]
    if isinstance(comparison, Comparison) and ([run.dir for run in comparison.runs], comparison.group_seeds) == (folders, grouped):
        return comparison
    comparison = st.session_state["comparison"] = Comparison(runs, group_seeds=grouped)
    return comparison


def is_grouped() -> bool:
    """Return whether runs that differ only in their seed share a curve."""
    # At the first drawing the toggle has not read the address yet.
    return bool(st.session_state.get(GROUPED, st.query_params.get(GROUPED) != "false"))


def legend(comparison: Comparison, states: Sequence[str]) -> None:
    """Draw the legend: line, label, runs, state and step of each curve."""
    lines = []
    for number, group in enumerate(comparison.groups):
        line = f'<span style="{legend_line(number)}"></span>'
        runs = [comparison.runs[member] for member in group.members]
        names = runs[0].dir.name if group.single else f"seeds {', '.join(map(str, group.seeds))}"
        title = "" if group.single else markup("\n".join(run.dir.name for run in runs))
        progress = _progress([states[member] for member in group.members], [comparison.steps[member] for member in group.members])
        steps = max(int(run.manifest["config"]["steps"]) for run in runs)
        lines.append(
            f'<span title="{title}">{line} <b>{markup(group.label)}</b> '
            f'<span style="opacity:0.75">{markup(names)}: {progress} of {steps:,}</span></span>'
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<div style="display:flex;flex-wrap:wrap;gap:0.2rem 1.6rem">{"".join(lines)}</div>', width="content")
        if comparison.has_seed_groups():
            group_switch()


def group_switch() -> None:
    """Draw the switch that lets runs that differ only in their seed share a curve."""
    st.toggle(
        "Group seeds",
        value=True,
        key=GROUPED,
        bind="query-params",
        help="Runs that differ only in their seed share a curve: their mean, with a band.",
    )


def _progress(states: Sequence[str], steps: Sequence[int]) -> str:
    """Return states and steps of the runs of a curve: "finished, step 60", or "2 finished, 1 running, steps 40 to 60"."""
    counts = {STATES[state][0].lower(): list(states).count(state) for state in dict.fromkeys(states)}
    named = ", ".join(counts) if len(counts) == 1 else ", ".join(f"{count} {state}" for state, count in counts.items())
    low, high = min(steps), max(steps)
    return f"{named}, step {high:,}" if low == high else f"{named}, steps {low:,} to {high:,}"


def curves(comparison: Comparison) -> None:
    """Draw curves of chosen scalars over a common axis, or the first run minus the second."""
    names = comparison.names()
    if not names:
        st.caption("The curves appear here after the first step of a run.")
        return
    first = [name for name in FIRST if name in names]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        axis = st.segmented_control(
            "x axis", list(AXES), default="step", required=True, format_func=AXIS_NAMES.__getitem__, key="x",
            bind="query-params", persist_state="page",
        )  # fmt: skip
        with st.popover("Numbers", icon=":material/checklist:", help="Which curves are drawn."):
            chosen = st.multiselect(
                "Numbers", names, default=first, format_func=_named, key="curves", bind="query-params", persist_state="page",
                label_visibility="collapsed", width=700,
            )  # fmt: skip
        axis = axis or "step"
        seeds = _toggle("Single seeds", "seeds", "Draw also every run of a group, as a thin line.", _grouped(comparison))
        several = len(comparison.groups) > 1
        subtract = _toggle("A − B", "minus", "Draw the difference of two curves.", several)
        between = choose_between(comparison) if subtract else (0, 1)
        if chosen:
            _download(comparison, chosen, axis)
    if not chosen:
        st.caption("Choose a number to draw.")
        return
    st.caption(
        plain(
            AXES[axis].meaning
            + _group_words(comparison, between if subtract else None)
            + (_loss_words(comparison) if "loss" in chosen else "")
            + (" Ticks at the foot are events of the runs, such as findings; hover to read one." if comparison.marked(axis) else "")
        )
    )
    view = f"{'-'.join(run.dir.name for run in comparison.runs)}/{len(comparison.groups)}/{axis}/{between if subtract else ''}"
    for start in range(0, len(chosen), 3):
        row = chosen[start : start + 3]
        for cell, name in zip(st.columns(len(chosen) if len(chosen) < 3 else 3), row):
            draw = partial(comparison.figure, name, axis, dark=dark(), seeds=seeds)
            if subtract:
                figure = comparison.difference_figure(name, axis, dark=dark(), between=between)
            else:
                figure = draw(legend=len(comparison.groups) <= LEGENDS)
            figure.layout.paper_bgcolor = "rgba(0,0,0,0)"  # the page has its own
            figure.layout.uirevision = f"{view}/{name}"  # constant: keeps zoom and hidden traces at a refresh
            with cell:
                save_dialog.chart(
                    figure,
                    f"compare-{name}",
                    title=f"{_named(name)}, {AXES[axis].title}",
                    file=file_name(comparison, f"{name}-{axis}"),
                    data=partial(_data, comparison, name, axis, between if subtract else None),
                    caption="Value and moving mean of one curve minus another."
                    if subtract
                    else "Every run that is compared, and the mean of each group of seeds with its interval.",
                    saved=None if subtract else draw,
                )


def _toggle(label: str, key: str, help: str, offered: bool) -> bool:
    return offered and st.toggle(label, key=key, bind="query-params", persist_state="page", help=help)


def _grouped(comparison: Comparison) -> bool:
    return any(not group.single for group in comparison.groups)


def _download(comparison: Comparison, names: Sequence[str], axis: str) -> None:
    st.download_button(
        "CSV",
        lambda: comparison.data(names, axis).to_csv(index=False).encode(),
        file_name="comparison.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
        help="The points of the curves below: run, seed, scalar, place on the axis, step, value, moving mean, interval. The disk "
        "in a chart's bar saves every recorded number of that chart.",
    )


def _data(comparison: Comparison, name: str, axis: str, between: tuple[int, int] | None) -> pd.DataFrame:
    """Return the table that is saved of a chart. between: positions of the curves whose difference it shows."""
    if between is None:
        return comparison.data([name], axis, whole=True)
    difference = comparison.difference(name, axis, whole=True, between=between).rename_axis("x").reset_index()
    columns = [column for column in ("x", "step", "value", "mean", "low", "high", "runs") if column in difference]
    return difference[columns].assign(scalar=name, axis=axis)


def file_name(comparison: Comparison, what: str) -> str:
    """Return the name of a file that is saved of these runs, without its ending."""
    return "-".join([*(run.dir.name for run in comparison.runs[:2]), what.replace("/", "-")])


def _named(name: str) -> str:
    title = entry(name).title
    return title if title == name else f"{title} ({name})"


def _group_words(comparison: Comparison, between: tuple[int, int] | None) -> str:
    """Say what the bands of groups are, and how the difference of two curves is made."""
    if not _grouped(comparison):
        return ""
    words = (
        " Runs that differ only in their seed share a curve: their mean, with the 95 % interval of the mean over the seeds "
        "(Student's t), cut where no mean can be, above 0 for a log-prob. Where a run has ended or has not come so far, the "
        "line is thin and dotted: a mean of fewer runs."
    )
    if between and not all(comparison.groups[number].single for number in between):
        words += f" The difference is made {seeds_in_words(comparison.shared_seeds(between))}."
    return words


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
    evaluations = [comparison.evaluated(number) for number in range(len(comparison.groups))]
    when = ", ".join(f"{group.letter} at step {step:,}" for group, step in zip(comparison.groups, evaluations) if step is not None)
    grouped = _grouped(comparison)
    over = "over the prompts of a run, over the seeds of a group (t)" if grouped else "where there are any"
    if grouped and len(comparison.groups) == 2:
        over += f"; A − B {seeds_in_words(comparison.shared_seeds())}: no difference is shown where its interval includes 0"
    st.caption(
        plain(f"{when}{' (the latest that all runs of a group have done)' if grouped else ''}. In brackets 95 % intervals, {over}.")
    )
    explained = _explained(name for name in MEASURES if entry(name).title in set(table["measure"]))
    st.dataframe(as_text(table), width="stretch", height="content", column_config={"_index": explained})
    top = comparison.common_kl()
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
    matched = comparison.numbers_at_kl(top if target is None else target)
    explained = _explained(name for name in MEASURES if entry(name).title in set(matched["measure"]))
    st.dataframe(as_text(matched), width="stretch", height="content", column_config={"_index": explained})


def _explained(names: Iterable[str]) -> Any:
    """Return the column of measures, with their meanings as help text."""
    return st.column_config.TextColumn("Measure", help=meanings({name: entry(name).title for name in names}))


def settings(comparison: Comparison) -> None:
    """Draw the settings that differ, and the equal ones in a closed expander."""
    table = comparison.settings()
    differs, same = table[~table["same"]].drop(columns="same"), table[table["same"]].drop(columns="same")
    if len(comparison.groups) == 1:
        seeds = ", ".join(map(str, comparison.groups[0].seeds))
        several = f"These runs differ only in their seed ({seeds}): settings, pairs and libraries are the same."
        st.caption(several if len(comparison.runs) > 1 else "Choose a second run to compare its settings with those of this one.")
    elif differs.empty:
        st.caption("The settings of these runs are the same, and so are their pairs and the libraries they were trained with.")
    else:
        st.dataframe(_named_index(differs), width="stretch", height="content")
    with st.expander(f"The same in all: {len(same)} settings"):
        first = same[[comparison.labels[0]]].rename(columns={comparison.labels[0]: "all runs"}) if len(same) else same
        st.dataframe(_named_index(first), width="stretch", height="content")


def _named_index(table: pd.DataFrame) -> Any:
    return table.rename_axis("setting")
