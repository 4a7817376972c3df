"""The view of a small batch: pairs as numbers to edit or to take from a run, and what each objective makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from app.state import current_run
from app.state.access import may_edit
from app.state.learn.learn_address import LearnState
from app.text.plain import plain
from app.text.run_text import meaning
from app.views.learn.shown import Shown, attempt, show_figure
from app.widgets.figure import dark
from lab.errors import LabError
from lab.glossary import entry
from lab.plots.landscapes.batch import batch_figure
from lab.run.handle import Run
from lab.teaching import MOST_PAIRS, PairNumbers, Plane, batch_table, influence, influence_note, pairs_of_run

COLUMNS = {
    "log_x1": ("log X₁ (nats)", "Log-ratio of the chosen answer, summed over its tokens."),
    "log_x2": ("log X₂ (nats)", "Log-ratio of the rejected answer, summed over its tokens."),
    "n_w": ("Tokens, chosen", "Length of the chosen answer."),
    "n_l": ("Tokens, rejected", "Length of the rejected answer."),
    "ref_w": ("Reference, chosen", "The reference's log-prob of each token of the chosen answer, nats."),
    "ref_l": ("Reference, rejected", "The reference's log-prob of each token of the rejected answer, nats."),
}

LENGTHS = {"tokens_chosen": "n_w", "tokens_rejected": "n_l"}


def draw(shown: Sequence[Shown], state: LearnState, opening: LearnState, prefix: str) -> LearnState:
    """Draw the view; return the state with the batch that was edited."""
    batch = _editor(state, opening, prefix)
    tables = {}
    for one in shown:
        table = attempt(one, batch_table, one.objective, batch, seed=state.plane.seed, statistics=state.plane.statistics)
        if table is not None:
            tables[one.label] = table
    if tables:
        _pictures(tables, state.projector, prefix)
        for one in shown:
            if one.label in tables:
                _influence(one, batch, state.plane, prefix)
    return replace(state, plane=replace(state.plane, batch=batch))


def _editor(state: LearnState, opening: LearnState, prefix: str) -> tuple[PairNumbers, ...]:
    """Draw the table of the pairs; return them, the last valid ones while the table is not valid."""
    version = st.session_state.get(f"{prefix}.batch.version", 0)
    start: tuple[PairNumbers, ...] = st.session_state.setdefault(f"{prefix}.batch.{version}.start", opening.plane.batch)
    table = pd.DataFrame(
        [(p.log_x1, p.log_x2, *p.tokens, *p.ref) for p in start], columns=list(COLUMNS), index=range(1, len(start) + 1)
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(plain(f"A batch of up to {MOST_PAIRS} pairs as numbers: edit a cell, add or delete rows."))
        _from_run(prefix, version)
    edited = st.data_editor(
        table,
        num_rows="dynamic",
        key=f"{prefix}.batch.{version}",
        column_config={
            name: st.column_config.NumberColumn(
                label, help=help_text, required=True, step=1 if name.startswith("n_") else None, width="small"
            )
            for name, (label, help_text) in COLUMNS.items()
        },
        hide_index=False,
    )
    try:
        pairs = tuple(_pair(row, number) for number, (_, row) in enumerate(edited.iterrows(), 1))
        if not 1 <= len(pairs) <= MOST_PAIRS:
            raise ValueError(f"The batch has {len(pairs)} pairs; use from 1 to {MOST_PAIRS}.")
    except ValueError as error:
        st.error(plain(f"{error} The pictures show the last batch that worked."))
        return state.plane.batch
    return pairs


def _pair(row: pd.Series[float], number: int) -> PairNumbers:
    if row.isna().any():
        empty = ", ".join(COLUMNS[str(name)][0] for name in row.index[row.isna()])
        raise ValueError(f"Row {number} has no number for {empty}; fill it in.")
    return PairNumbers(
        float(row["log_x1"]),
        float(row["log_x2"]),
        (int(row["n_w"]), int(row["n_l"])),
        (float(row["ref_w"]), float(row["ref_l"])),
    )


def _from_run(prefix: str, version: int) -> None:
    """Draw the choice of a run whose batch is put into the table."""
    with st.popover("From a run", icon=":material/download:"):
        runs = {run.folder.name: run for run in current_run.offered_runs()}
        if not runs:
            st.caption("There is no run yet; start one on New run, then take a batch of it here.")
            return
        name = st.selectbox("Run", list(runs), format_func=lambda key: current_run.label(runs[key]), key="learn.batch.run")
        step = st.number_input("Step", min_value=1, value=max(1, runs[name].step), step=1, key="learn.batch.step")
        if st.button("Take this batch", key="learn.batch.take", type="primary"):
            try:
                pairs = pairs_of_run(Run(runs[name].folder), int(step), limit=MOST_PAIRS, fetch=may_edit())
            except (LabError, ValueError) as error:
                st.error(plain(str(error)))
                return
            st.session_state[f"{prefix}.batch.{version + 1}.start"] = pairs
            st.session_state[f"{prefix}.batch.version"] = version + 1
            st.rerun(scope="fragment")


def _pictures(tables: dict[str, pd.DataFrame], large: bool, prefix: str) -> None:
    """Draw one quantity of all pairs under all objectives, and the tables behind it."""
    names = [name for name in _ORDER if any(name in table for table in tables.values())]
    quantity = st.segmented_control(
        "Show",
        names,
        default="target_margin" if "target_margin" in names else names[0],
        required=True,
        format_func=lambda name: entry(name).title,
        key=f"{prefix}.batch.quantity.{'+'.join(names)}",
        persist_state="page",
    )
    show_figure(batch_figure(tables, quantity, dark=dark()), "learn-batch", large=large)
    st.caption(meaning(quantity))
    for label, table in tables.items():
        st.markdown(f"**{plain(label)}**")
        st.dataframe(
            table,
            column_config={
                name: st.column_config.NumberColumn(
                    LENGTHS.get(name, entry(name).symbol), help=meaning(name), format="%.4g", width="small"
                )
                for name in table.columns
            },
        )


_ORDER = ("target_margin", "z", "gap", "logit", "loss", "weight_chosen", "weight_rejected")


def _influence(one: Shown, batch: Sequence[PairNumbers], plane: Plane, prefix: str) -> None:
    """Draw how moving one pair changes the margin, loss and weights of every pair."""
    with st.expander(f"{plain(one.label)}: one pair moves the others", expanded=False):
        first, second, third = st.columns(3)
        key = f"{prefix}.influence.{one.label}"
        row = first.selectbox("Pair", range(1, len(batch) + 1), key=f"{key}.row", persist_state="page")
        side = second.segmented_control(
            "Side", ["chosen", "rejected"], default="chosen", required=True, key=f"{key}.side", persist_state="page"
        )
        change = third.slider("Change (nats)", -10.0, 10.0, 4.0, 0.5, key=f"{key}.change", persist_state="page")
        table = attempt(
            one,
            influence,
            one.objective,
            batch,
            row - 1,
            "chosen" if side == "chosen" else "rejected",
            change,
            seed=plane.seed,
            statistics=plane.statistics,
        )
        if table is None:
            return
        st.dataframe(table)
        note = influence_note(one.objective, plane.statistics)
        moved = f"Every pair before and after the {side} log-ratio of pair {row} alone moves by {change:g} nats."
        st.caption(plain(note or moved))
