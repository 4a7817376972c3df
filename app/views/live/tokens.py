"""The pilot's random choice at a step, painted on a pair of that step's batch; token credit where the objective has no pilot."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import streamlit as st

from app.text.plain import plain
from app.views.live.charts import OPEN_PAIR
from lab.export.source import Base
from lab.plots import Record
from lab.plots.run.pilot_choice import legend, painted, token_values
from lab.policy.text.pieces import Piece, pieces
from lab.run.handle import Run
from lab.store import RunError

SIDES = ("chosen", "rejected")


def painting(run: Run, record: Record) -> None:
    """Choose among the pairs of the latest step at or before the moment whose tokens are kept, and paint both answers."""
    kept = record.reader.tokens.steps()
    steps = [step for step in kept if step <= record.step]
    if not steps:
        there = f"Here they begin with step {kept[0]:,}: travel there." if kept else "The first appear with the next step."
        st.caption(f"The tokens of this moment are not kept: a run keeps those of its latest steps (setting token_steps). {there}")
        return
    step = steps[-1]
    rows = record.reader.tokens.read(step)
    ids = list(dict.fromkeys(rows["pair"]))
    heading, choice, link = st.columns([4, 3, 2], vertical_alignment="bottom")
    pilot = any(row is not None for row in rows["pilot"])
    heading.markdown(f"**{'The pilot’s choice' if pilot else 'Token credit'} at step {step:,}**")
    pair = choice.selectbox("Pair of this step", ids, key=f"painted-{run.dir.name}", format_func=str)
    if link.button("Inspect", icon=":material/search:", help="Open this pair at this step."):
        st.session_state[OPEN_PAIR] = str(pair)
        st.rerun(scope="fragment")
    try:
        place = Base(str(run.manifest["config"]["model"]), str(run.manifest["config"]["model"])).place()
        _tokenizer(place)
    except (OSError, ValueError, RunError) as error:
        st.caption(plain(f"The tokens cannot be shown as text, because the run's tokenizer cannot be loaded: {error}"))
        return
    st.html(legend(pilot))
    columns = st.columns(2)
    for row in rows[rows["pair"] == pair].itertuples():
        drawn, log_ratio, credit = token_values(row)
        with columns[SIDES.index(row.side)], st.container(border=True):
            count = f", {int(drawn.sum())} of {len(drawn)} tokens drawn" if drawn is not None else ""
            total = f", log-ratio {float(log_ratio.sum()):+.3f} nats" if log_ratio is not None else ""
            st.caption(f"{row.side.capitalize()}{count}{total}")
            cut = _pieces(place, tuple(int(i) for i in row.ids))
            st.html(painted(cut, row.side, pilot=drawn, log_ratio=log_ratio, credit=credit))
    st.caption("Rest the mouse on a token: its log-ratio log π − log ref, and its credit −∂L/∂log π, how hard the loss pushes it.")


@lru_cache(4)
def _tokenizer(place: str) -> Any:
    """The tokenizer of a model's folder or hub id. Raises ModelError where there is none."""
    from lab.policy.sources import read_tokenizer

    return read_tokenizer(place)


@lru_cache(256)
def _pieces(place: str, ids: tuple[int, ...]) -> list[Piece]:
    return pieces(_tokenizer(place), ids)
