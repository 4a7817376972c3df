"""Rename and delete an experiment, with a warning about what is lost."""

from __future__ import annotations

import streamlit as st

from app.pages import EXPERIMENTS
from app.state.access import may_edit, require_edit
from app.state.author import author
from app.state.navigation import leave_for
from app.text.plain import displayable, plain
from app.text.run_text import count_of
from app.views.experiments.acting import DONE
from lab.experiments import Experiment, find_experiment
from lab.experiments.deletion import delete_experiment, deletion_effect, rename_experiment
from lab.run.config import ConfigError
from lab.run.preflight_report import size
from lab.store import RunError

ASKED = "experiments.delete"
"""In the session: the experiment whose deletion is to be confirmed."""
GOAL = "experiments.goal"
"""In the session: parameters of the address to go to after a change."""
REFUSED = "experiments.refused"
"""In the session: why the last change was refused, shown once."""


def buttons(experiment: Experiment) -> None:
    """Draw the buttons Rename and Delete."""
    locked = not may_edit() or experiment.active
    why = "Stop the experiment first." if experiment.active else None
    with st.popover("Rename", icon=":material/edit_note:", type="tertiary", disabled=locked, help=why):
        name = st.text_input("Name", experiment.name, key=f"experiment.rename.{experiment.name}").strip()
        st.caption("Its runs keep their names and folders.")
        st.button("Rename", type="primary", disabled=name in ("", experiment.name), on_click=rename, args=(experiment, name))
    st.button("Delete", icon=":material/delete:", type="tertiary", disabled=locked, help=why, on_click=ask, args=(experiment.name,))


def form(experiment: Experiment) -> None:
    """Draw why the last change was refused, and the form that deletes the experiment, if it was asked for."""
    if message := st.session_state.pop(REFUSED, ""):
        st.error(plain(message))
    if st.session_state.get(ASKED) != experiment.name or not may_edit():
        return
    effect = deletion_effect(find_experiment(experiment.name))
    with st.container(border=True):
        lost = (
            f"Declaration and results of {count_of(effect.results, 'finished run')} are" if effect.results else "Its declaration is"
        )
        st.markdown(f"**Delete {plain(experiment.name)}?** {lost} deleted for good.")
        runs = False
        if effect.runs:
            count = count_of(len(effect.runs), "run")
            runs = st.toggle(f"Delete its {count}, too", key="experiment.delete.runs")
            freed = f"{size(effect.freed.bytes)} with {count_of(effect.freed.checkpoints, 'checkpoint')}"
            st.text(
                f"{count} move to the trash of the Runs page: {freed}." if runs else f"{count} stay on the Runs page ({freed})."
            )
            for warning in effect.freed.warnings if runs else ():
                st.text(displayable(warning))
        with st.container(horizontal=True):
            st.button("Delete the experiment", icon=":material/delete:", type="primary", on_click=delete, args=(experiment, runs))
            st.button("Cancel", on_click=ask, args=(None,))


def leave_if_changed() -> None:
    """Go to the experiment's new name, or to the list after a deletion."""
    if (goal := st.session_state.pop(GOAL, None)) is not None:
        leave_for(EXPERIMENTS, goal)


def ask(name: str | None) -> None:
    """Open the form that deletes an experiment, or close it."""
    st.session_state[ASKED] = name


def delete(experiment: Experiment, runs: bool) -> None:
    """Delete an experiment, and its runs if wanted; a refusal becomes a message."""
    require_edit()
    ask(None)
    try:
        delete_experiment(find_experiment(experiment.name), runs=runs, author=author())
    except RunError as error:
        st.session_state[REFUSED] = str(error)
        return
    st.session_state[DONE] = f"{experiment.name} is deleted.{' Its runs are in the trash of the Runs page.' if runs else ''}"
    st.session_state[GOAL] = {}


def rename(experiment: Experiment, name: str) -> None:
    """Give an experiment another name; a refusal becomes a message."""
    require_edit()
    try:
        renamed = rename_experiment(find_experiment(experiment.name), name)
    except (ConfigError, RunError) as error:
        st.session_state[REFUSED] = str(error)
        return
    st.session_state[GOAL] = {"experiment": renamed.name}
