"""One experiment: its state and controls, and the parts Progress, Results, Curves and Declaration."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.pages import EXPERIMENTS
from app.state import pacing
from app.state.experiments import opened
from app.state.navigation import leave_for
from app.text.plain import plain
from app.text.run_text import duration
from app.views.experiments import acting, curves, deleting, progress, results
from app.views.experiments.states import EXPERIMENT_STATES
from app.widgets import save_dialog
from lab.experiments import Experiment, ExperimentState, as_python, as_yaml
from lab.experiments.experiment import PRESENT
from lab.store import RunError

INTERVAL = 1.5
"""Seconds between two drawings while the runs train: each reads one small file."""
SHOWN = "experiments.shown"
"""In the session: the experiment that was drawn last."""


def page(name: str) -> None:
    """Draw the experiment of a name."""
    try:
        experiment = opened(name)
    except (RunError, OSError, ValueError) as error:
        st.error(plain(error))
        if st.button("All experiments"):
            leave_for(EXPERIMENTS, {})
        return
    _begin_anew(name)
    state, active = experiment.state(), experiment.active
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.title(plain(name), anchor=False, width="content")
        word, colour, icon = EXPERIMENT_STATES[state.state]
        st.badge(word, icon=f":material/{icon}:", color=colour)
        st.space("stretch")
        acting.buttons(experiment, state)
    acting.messages(experiment)
    with st.container(horizontal=True, vertical_alignment="center"):
        chosen = _part()
        st.space("stretch")
        deleting.buttons(experiment)
        if st.button("All experiments", icon=f":material/{EXPERIMENTS.icon}:", type="tertiary"):
            leave_for(EXPERIMENTS, {})
    deleting.form(experiment)
    interval = max(INTERVAL, pacing.shortest_interval()) if active else None
    st.fragment(_draw, run_every=interval)(experiment, chosen, state.state, active)
    save_dialog.offer()


def _begin_anew(name: str) -> None:
    """Forget what was chosen for another experiment: its parts, numbers and baseline, except what the address holds."""
    if st.session_state.get(SHOWN, name) != name:
        for key in ("view", *results.KEYS, *curves.KEYS):
            if key not in st.query_params:
                st.session_state.pop(key, None)
    st.session_state[SHOWN] = name


def _part() -> str:
    """Draw the choice of a part, which the address holds; return its name."""
    part = st.segmented_control(
        "Part", list(PARTS), default="progress", required=True, format_func=str.capitalize, key="view", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    return part or "progress"


def _draw(experiment: Experiment, part: str, drawn_state: str, was_active: bool) -> None:
    save_dialog.rerun_if_asked()
    try:
        state = experiment.state()
    except (RunError, OSError):  # deleted or renamed in another window: the page says so
        st.rerun(scope="app")
    if state.state != drawn_state or experiment.active != was_active:
        st.rerun(scope="app")  # the buttons above must follow
    with st.container():
        _summary(state)
    with st.container():
        PARTS[part](experiment, state)


def _summary(state: ExperimentState) -> None:
    """Draw the progress of the whole experiment in one line."""
    parts = [f"{state.count('finished'):,} of {len(state.runs):,} runs finished"]
    counts = {"in training": state.count("running")}
    counts |= {word: state.count(word) for word in ("paused", "queued", "stopped", "crashed", "failed")}
    parts += [f"{count:,} {word}" for word, count in counts.items() if count]
    parts += [f"about {duration(state.remaining)} left"] if state.remaining and state.state in PRESENT else []
    message = f" {state.message[:1].upper()}{state.message[1:]}." if state.message else ""
    st.progress(state.share, text=plain(f"{', '.join(parts)}.{message}"))


def _declaration(experiment: Experiment, state: ExperimentState) -> None:
    """Draw the declaration as YAML and Python, with what was fixed when it was stored."""
    content = experiment.content
    for source, pairs in content.pair_sets.items():
        st.text(f"Pairs {source}: {pairs.name}, version {pairs.version:,}, in {pairs.location}")
    st.text(f"{content.workers:,} at a time; checkpoints of finished runs are {'kept' if content.keep_checkpoints else 'deleted'}.")
    st.code(as_yaml(experiment.name, experiment.declaration), language="yaml", wrap_lines=True)
    st.code(as_python(experiment.name, experiment.declaration), language="python", wrap_lines=True)
    st.caption("From a terminal:")
    st.code(f"python -m lab sweep {experiment.name}", language="bash")


PARTS: dict[str, Callable[[Experiment, ExperimentState], None]] = {
    "progress": progress.show,
    "results": results.show,
    "curves": curves.show,
    "declaration": _declaration,
}
