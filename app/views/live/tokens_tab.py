"""The Tokens tab: both answers of a pair of the latest step, painted token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app.state.access import may_edit
from app.text.plain import plain
from app.views.live.charts import OPEN_PAIR
from app.widgets import token_view
from lab.plots import Record, paintable
from lab.run.handle import Run
from lab.store import RunError
from lab.whatif import tokenizer_of


def painting(run: Run, record: Record) -> None:
    """Draw a choice of the pairs of the latest step whose tokens are kept, and the chosen pair's answers."""
    kept = record.reader.tokens.steps()
    steps = [step for step in kept if step <= record.step]
    if not steps:
        where = f"They begin with step {kept[0]:,}: go there." if kept else "The first appear with the next step."
        st.caption(f"The tokens of this step are not kept: a run keeps those of its latest steps (setting token_steps). {where}")
        return
    step = steps[-1]
    rows = record.reader.tokens.read(step)
    ids = list(dict.fromkeys(rows["pair"]))
    offered = paintable(rows)[::-1]  # the objective's own first
    heading, choice, link = st.columns([4, 3, 2], vertical_alignment="bottom")
    with heading:
        wanted = token_view.switch("live.paint", offered)
    pair = choice.selectbox(f"Pair of step {step:,}", ids, key=f"painted-{run.dir.name}", format_func=str)
    if link.button("Inspect", icon=":material/search:", help="Open this pair at this step."):
        st.session_state[OPEN_PAIR] = str(pair)
        st.rerun(scope="fragment")
    tokens = rows[rows["pair"] == pair]
    try:
        tokenizer = tokenizer_of(run, fetch=may_edit())
    except RunError as error:
        st.caption(plain(str(error)))
        return
    sides = {row.side: _summary(row) for row in tokens.itertuples()}
    token_view.draw(wanted, ("", ""), tokens, tokenizer, (sides["chosen"], sides["rejected"]))


def _summary(row: Any) -> str:
    """The counts and sums of one answer, a row of `StoreReader.tokens`."""
    parts = [] if row.pilot is None else [f"{int(row.pilot.sum())} of {len(row.pilot)} tokens drawn by the pilot"]
    if row.ref_logps is not None:
        parts.append(f"log-ratio {np.sum(row.logps - row.ref_logps):+.3f} nats")
    return ", ".join(parts)
