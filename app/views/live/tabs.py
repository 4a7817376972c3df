"""The tabs of the Live page. Only the open one is drawn."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.state.learn.to_learn import open_batch_in_learn
from app.state.objective_in_use import annotations_in_use
from app.text.plain import plain
from app.views.live.answers_tab import answers
from app.views.live.charts import chart, row
from app.views.live.pairs_scatter import scatter
from app.views.live.tokens_tab import painting
from lab.errors import LabError
from lab.plots import DISTRIBUTION, FIGURES, SCALAR, Record, entry
from lab.plots.run.confusion import PREFIX
from lab.run.handle import Run

BOTH = ("loss", "margins", "accuracy", "rewards", "logps", "log_ratios")
"""Curves that every objective has."""

OWN = ("pilots", "weights", "target_margin")
"""Curves that only some objectives have: SGDPO's pilots, weights of the sides, alpha-DPO's margin."""

OVER_PAIRS = ("pilot_chosen", "pilot_rejected", "target_margin", "weight_chosen", "weight_rejected")
"""Distributions that are selected at first, if the run has them."""


def curves(run: Run, record: Record) -> None:
    """Draw the curves of both sides, the objective's own terms, and chosen other scalars."""
    row(record, BOTH)
    recorded = set(record.scalar_names(""))
    own = [name for name in OWN if recorded & set(FIGURES[name].scalars)]
    row(record, own, columns=max(2, len(own)))
    if "degree" in record.term_names():
        row(record, ["degree", "confusion"], columns=2)
    drawn = {scalar for name in (*BOTH, *own, "degree") for scalar in FIGURES[name].scalars}
    others = [name for name in record.scalar_names("") if name not in drawn and not name.startswith(PREFIX)]
    if others:
        with st.expander("More curves", icon=":material/add_chart:", key=f"more-curves-{run.dir.name}"):
            chosen = st.pills(
                "Recorded", others, selection_mode="multi", key=f"scalars-{run.dir.name}", label_visibility="collapsed"
            )
        row(record, [SCALAR + name for name in chosen])


def pairs(run: Run, record: Record) -> None:
    """Draw the scatter of all pairs and the distributions of the chosen terms."""
    scatter(run, record)
    st.caption(plain(annotations_in_use(run, record.until)))
    if record.step and st.button(
        "This batch in Learn",
        icon=":material/school:",
        key=f"learn-{run.dir.name}",
        help="Open the batch of the step that is shown as numbers, with the objective in use.",
    ):
        try:
            open_batch_in_learn(run, record.step)
        except (LabError, ValueError) as error:
            st.error(plain(str(error)))
    terms = record.term_names()
    if not terms:
        st.caption("The distributions of the terms appear here after the first step.")
        return
    chosen = st.pills(
        "Terms",
        terms,
        default=[term for term in OVER_PAIRS if term in terms],
        selection_mode="multi",
        format_func=lambda term: entry(term).title,
        key=f"terms-{run.dir.name}",
        label_visibility="collapsed",
    )
    row(record, [DISTRIBUTION + term for term in chosen], columns=2 if len(chosen) in (2, 4) else 3)


def gradient(record: Record) -> None:
    """Draw the gradient by layer and side, its norm, the learning rate and the throughput."""
    chart(record, "layers")
    row(record, ["grad_norm", "learning_rate", "throughput", "probe_cost"], columns=2)


TABS: dict[str, Callable[[Run, Record], None]] = {
    "Curves": curves,
    "Pairs": pairs,
    "Tokens": painting,
    "Gradient": lambda run, record: gradient(record),
    "Answers": lambda run, record: answers(record),
}
"""Functions that draw the tabs, by title."""
