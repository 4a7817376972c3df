"""Curves of an experiment: scalars of evaluations by variant, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app.text.plain import markup, plain
from app.widgets import save_dialog
from app.widgets.figure import dark, legend_line
from lab.comparison import AXES, MOST
from lab.experiments import Experiment, ExperimentState
from lab.experiments.metrics import metric_of
from lab.experiments.results import SUMMARY

AXIS_NAMES = {"step": "Step", "kl": "KL"}
PER_ROW = 2
KEYS = ("axis", "numbers", "singles")
"""Keys of the fields, which are also names in the address."""


def show(experiment: Experiment, state: ExperimentState) -> None:
    """Draw the curves, or what is still to come."""
    recorded = experiment.metrics()
    if not recorded:
        st.info("The curves appear here with the first finished run. Compare draws runs that are still in training.")
        return
    first = [name for name in SUMMARY if name in recorded and name != "eval/win_rate"][:4]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        axis = st.segmented_control(
            "x axis", list(AXIS_NAMES), default="step", required=True, format_func=AXIS_NAMES.__getitem__, key="axis",
            bind="query-params", persist_state="page",
        )  # fmt: skip
        with st.popover("Numbers", icon=":material/checklist:", help="Which curves are drawn."):
            names = st.multiselect(
                "Numbers", recorded, first, key="numbers", bind="query-params", format_func=lambda name: metric_of(name).title,
                persist_state="page", width=600, label_visibility="collapsed",
            )  # fmt: skip
        with st.popover("Variants", icon=":material/filter_list:", help=f"At most {MOST} at once."):
            variants = st.multiselect(
                "Variants", experiment.variants, experiment.variants[:MOST], key=f"variants.{experiment.name}", max_selections=MOST,
                persist_state="page", width=600, label_visibility="collapsed",
            )  # fmt: skip
        seeds = st.toggle("Single seeds", key="singles", bind="query-params", persist_state="page", help="Draw every run, too.")
    explained = f"{AXES[axis].meaning} Mean over the seeds of a variant, with the 95 % interval of the mean (t); finished runs only"
    left_out = len(experiment.variants) - len(variants)
    st.caption(plain(f"{explained}{f', {len(variants)} of {len(experiment.variants)} variants' if left_out else ''}."))
    if not (names and variants):
        st.caption("Choose a number and a variant to draw.")
        return
    _legend(variants)
    for start in range(0, len(names), PER_ROW):
        for cell, name in zip(st.columns(PER_ROW), names[start : start + PER_ROW]):
            draw = partial(experiment.figure, name, axis, variants=variants, seeds=seeds, dark=dark())
            figure = draw(legend=False)
            figure.layout.uirevision = f"{experiment.name}/{axis}/{len(variants)}/{name}"
            with cell:
                save_dialog.chart(
                    figure,
                    f"experiment-{name}",
                    title=metric_of(name).title,
                    file=f"{experiment.name}-{name.replace('/', '-')}-{axis}",
                    data=experiment.evaluations,
                    caption="Every evaluation of every finished run.",
                    saved=draw,
                )


def _legend(variants: Sequence[str]) -> None:
    """Draw line and label of each variant, once for all figures."""
    lines = [f'<span><span style="{legend_line(at)}"></span> <b>{markup(label)}</b></span>' for at, label in enumerate(variants)]
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:0.2rem 1.6rem">{"".join(lines)}</div>')
