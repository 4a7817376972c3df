"""The Compare page's pairs and answers: a term of every pair in two runs, one pair in both, one prompt in all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.state.address import put
from app.state.current_run import opened_pair, remember_pair
from app.state.navigation import open_pair
from app.text.plain import displayable, one_line, plain
from app.text.run_text import meaning
from app.views.compare.curves import file_name
from app.widgets import save_dialog
from app.widgets.difference import answers_html
from app.widgets.figure import Event, dark
from lab.comparison import Comparison
from lab.comparison.answers import prompts, side_by_side
from lab.comparison.pairwise import Batches
from lab.pairs import Pair, PairsError, answer_text, prompt_text
from lab.plots import entry, times_seen
from lab.plots.comparison.against import against
from lab.plots.comparison.overlay import overlay
from lab.store import ENDED, SCREEN_POINTS, RunError

ROWS = 200
"""Pairs in the table: those that differ most."""

VISIBLE = 1 / 50
"""Pairs are read again when the runs have advanced by this share."""

FIRST_TERMS = ("log_ratio_chosen", "log_ratio_rejected", "logit", "weight_chosen", "weight_rejected")
LATEST = "latest"
ADDRESSED = "compare.pair.addressed"
"""In the session: the pair in the address when it was read last."""
CLICKED = "compare.clicked"
"""In the session: pair and step of the point that was clicked, until the page is left for it."""


def twins_line(comparison: Comparison) -> None:
    """Draw the result of comparing the batches of twins."""
    if len(comparison.runs) != 2 or not comparison.are_twins():
        return
    batches = _batches(comparison)
    if batches.first is not None:
        st.warning(
            plain(f"Twins: {batches.message} Possible cause: one run took edits of its pairs."), icon=":material/call_split:"
        )
    else:
        message = f"Twins: same start, same batches in the same order, two objectives. {batches.message}"
        st.caption(f":material/join: {plain(message)}")


def _batches(comparison: Comparison) -> Batches:
    """Compare the batches, again when the runs have advanced by a quarter, and at their end."""
    key = ("batches", tuple(run.dir for run in comparison.runs))
    last, ended = comparison.last_common_step(), any(run.state in ENDED for run in comparison.runs)
    before, batches = st.session_state.get("compare.batches", {}).get(key, (0, None))
    if batches is None or last > 1.25 * before or (ended and last != before):
        batches = comparison.batches()
        st.session_state["compare.batches"] = {key: (last, batches)}
    return batches


def pairs(comparison: Comparison) -> None:
    """Draw a term of the pairs of two runs as scatter and table, and the chosen pair in both."""
    if clicked := st.session_state.pop(CLICKED, None):
        open_pair(comparison.runs[0].dir.name, *clicked)
    if len(comparison.runs) < 2:
        st.caption("Choose a second run to compare its pairs with those of this one.")
        return
    terms = comparison.terms()
    if not terms:
        st.caption("Pairs appear here after the first step of both runs.")
        return
    if len(comparison.runs) > 2:
        st.caption(plain(f"Of the runs chosen, the first two: {comparison.labels[0]} and {comparison.labels[1]}."))
    one, other = st.columns([2, 3], vertical_alignment="bottom")
    start = terms.index("log_ratio_chosen") if "log_ratio_chosen" in terms else 0
    term = one.selectbox("Term", terms, index=start, format_func=_named, key="compare.term")
    held_out = other.toggle(
        "Held-out pairs", key="compare.held_out", help="The pairs that are never trained on, at the latest evaluation."
    )
    table = _table(comparison, term, held_out)
    left, right = st.columns([1, 1], gap="medium")
    with left:
        figure = against(table, term, labels=comparison.labels[:2], dark=dark())
        figure.layout.uirevision = f"{'-'.join(comparison.labels)}/{term}/{held_out}"
        save_dialog.chart(
            figure,
            "compare-against",
            title=f"{_named(term)}, pair by pair",
            file=file_name(comparison, f"pairs-{term}"),
            data=lambda: table.assign(term=term),
            caption=f"Every pair of both runs; one is {comparison.labels[0]}, other is {comparison.labels[1]}.",
            on_click=_clicked,
        )
    with right:
        st.caption(
            f"The {min(len(table), ROWS)} pairs that differ most, as last seen up to step {comparison.last_common_step():,}, the "
            "last common step; the first of them are the diamonds. Choose a row to see the pair under both; click a point "
            f"to inspect its pair under {plain(comparison.labels[0])}."
        )
        pair = _choice(comparison, table, term)
    if pair:
        _pair(comparison, pair)


def _clicked(event: Event) -> None:
    """Remember pair and step of a clicked point; its custom data are pair, difference and step of the first run."""
    if event["custom"]:
        pair, _, step = event["custom"]
        st.session_state[CLICKED] = (str(pair), int(step))


def _named(term: str) -> str:
    definition = entry(term)
    return definition.title if definition.title == term else f"{definition.title}, {definition.symbol} ({term})"


def _table(comparison: Comparison, term: str, held_out: bool) -> pd.DataFrame:
    key, last = (tuple(run.dir for run in comparison.runs), term, held_out), comparison.last_common_step()
    kept, at, table = st.session_state.get("compare.table", (None, -1, None))
    if table is None or kept != key or last < at or last - at > at * VISIBLE:
        table = comparison.pairs(term, held_out=held_out)
        st.session_state["compare.table"] = (key, last, table)
    return table


def _choice(comparison: Comparison, table: pd.DataFrame, term: str) -> str:
    """Draw the table; return the pair that is chosen in it, else the one in the address, else ""."""
    one, other = (plain(label) for label in comparison.labels[:2])
    columns = ["pair", "one", "other", "difference", "step_one", "version_one", "version_other"]
    rows = table.head(ROWS)[columns]
    if (rows["version_one"] == rows["version_other"]).all():
        rows = rows.drop(columns=["version_one", "version_other"])
    number, what = partial(st.column_config.NumberColumn, format="%.4g"), meaning(term)
    config = {
        "pair": st.column_config.TextColumn("pair", help="The pair's id."),
        "one": number(comparison.labels[0], help=f"Under {one}. {what}"),
        "other": number(comparison.labels[1], help=f"Under {other}. {what}"),
        "difference": number("difference", help=f"{one} less {other}."),
        "step_one": st.column_config.NumberColumn("step", help=f"Latest step of {one} whose batch contained the pair."),
        "version_one": st.column_config.NumberColumn("version", help=f"Version of the text in that batch of {one}."),
        "version_other": st.column_config.NumberColumn(
            "version of the other", help=f"Version of the text in that batch of {other}."
        ),
    }
    opened = _opened(comparison, set(table["pair"]))
    event: Any = st.dataframe(
        rows,
        hide_index=True,
        height=360,
        on_select="rerun",
        selection_mode="single-row",
        key="compare.rows",
        column_config=config,
    )
    marked = event.selection.rows
    if not marked:
        st.session_state.pop("compare.marked", None)
    if marked and marked[0] < len(rows):
        chosen = str(rows["pair"].iloc[marked[0]])
        if st.session_state.get("compare.marked") != (marked[0], chosen):  # a click, not the table moving beneath an old one
            fresh = st.session_state.get("compare.marked", (None, ""))[0] != marked[0]
            st.session_state["compare.marked"] = (marked[0], chosen)
            if fresh or not opened:
                opened = chosen
    st.session_state["compare.pair"] = st.session_state[ADDRESSED] = opened
    put(pair=opened or None)
    if opened:
        remember_pair(str(comparison.runs[0].manifest["pairs_store"]), opened)
    return opened


def _opened(comparison: Comparison, pairs: set[str]) -> str:
    """Return the pair of a link or the browser's Back, else the one opened here, else on another page, else ""."""
    named = st.query_params.get("pair", "")
    if named and named != st.session_state.get(ADDRESSED):
        return named
    before = opened_pair(str(comparison.runs[0].manifest["pairs_store"]))
    kept: str = st.session_state.get("compare.pair", "")
    return kept or (before if before in pairs and before is not None else "")


def _pair(comparison: Comparison, pair: str) -> None:
    """Draw one pair: its text, and its terms over the steps of each run."""
    st.subheader("The same pair under both")
    both = {label: frame for label, frame in comparison.pair(pair, SCREEN_POINTS).items() if len(frame)}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Pair {pair}")
        for label, run in zip(comparison.labels, comparison.runs):
            if label in both and st.button(
                f"Inspect under {plain(label)}", icon=":material/search:", key=f"inspect-{run.dir.name}"
            ):
                open_pair(run.dir.name, pair, int(both[label].index.max()))
    if not both:
        st.caption("None of these runs has seen this pair.")
        return
    st.caption(plain(". ".join(f"{label}: {times_seen(frame)}" for label, frame in both.items()) + "."))
    _texts(comparison, pair, {label: int(frame["version"].iloc[-1]) for label, frame in both.items()})
    terms = [term for term in comparison.terms() if all(term in frame for frame in both.values())]
    chosen = st.pills(
        "Terms",
        terms,
        default=[term for term in FIRST_TERMS if term in terms][:3],
        selection_mode="multi",
        format_func=lambda term: entry(term).title,
        key="compare.pair_terms",
        label_visibility="collapsed",
    )
    for start in range(0, len(chosen), 3):
        for cell, term in zip(st.columns(min(max(len(chosen), 1), 3)), chosen[start : start + 3]):
            figure = overlay(
                {label: _values(frame, term) for label, frame in both.items()},
                term,
                labels=comparison.labels,
                events=comparison.marked(),
                dark=dark(),
            )
            figure.layout.uirevision = f"{pair}/{term}"
            with cell:
                save_dialog.chart(
                    figure,
                    f"compare-pair-{term}",
                    title=f"{_named(term)} of pair {pair}",
                    file=file_name(comparison, f"{term}-of-one-pair"),
                    data=partial(comparison.pair_data, pair, [term]),
                    caption="Every step whose batch contained the pair, for every run.",
                )


def _values(frame: pd.DataFrame, term: str) -> pd.DataFrame:
    """Return a term of a pair's history in the columns of `overlay`."""
    values = pd.DataFrame({"value": frame[term], "step": frame.index.astype(np.int64)})
    values.attrs = frame.attrs | {"of": ("time seen", "times seen")}
    return values


def _texts(comparison: Comparison, pair: str, versions: Mapping[str, int]) -> None:
    """Draw the text that each run saw last, once for runs that saw the same. versions: by the runs' labels."""
    saw: dict[str, tuple[Pair, list[str]]] = {}
    for label, run in zip(comparison.labels, comparison.runs):
        if label not in versions:
            continue
        try:
            text = run.pair_store().get(pair, versions[label])
        except (PairsError, RunError, OSError, KeyError) as error:
            st.caption(plain(f"The text of this pair cannot be read as {label} saw it: {error}"))
            continue
        saw.setdefault(repr(text.content), (text, []))[1].append(f"{label} (version {text.version})")
    for text, labels in saw.values():
        whose = "Text" if len(saw) == 1 and len(labels) == len(versions) else f"Text under {' and '.join(labels)}"
        with st.expander(plain(whose), expanded=True):
            st.text(displayable(prompt_text(text.prompt)))
            html = answers_html(answer_text(text.chosen), answer_text(text.rejected))
            for column, side, answer in zip(st.columns(2), ("chosen", "rejected"), html):
                with column, st.container(border=True):
                    st.caption(f"{side.capitalize()} answer")
                    st.html(answer)


def answers(comparison: Comparison) -> None:
    """Draw the answers of the reference and of every run to one held-out prompt, at the evaluations nearest to a step."""
    samples = comparison.samples()
    known = prompts(samples)
    if not known:
        st.caption("Sampled answers appear here after the first evaluation of a run.")
        return
    one, other = st.columns([3, 1])
    number = one.selectbox("Prompt", range(len(known)), format_func=lambda i: one_line(known[i]), key="compare.prompt")
    steps = sorted({step for evaluations in samples.values() for step in evaluations})
    at = other.selectbox(
        "Evaluation nearest to",
        [LATEST, *steps],
        format_func=lambda step: "the latest of each" if step == LATEST else f"step {step:,}",
        key="compare.evaluation",
    )
    table = side_by_side(samples, known[min(number, len(known) - 1)], None if at == LATEST else int(str(at)))
    for start in range(0, len(table), 3):
        part = table.iloc[start : start + 3]
        for cell, (_, row) in zip(st.columns(len(part)), part.iterrows()):
            with cell, st.container(border=True):
                reward = "" if np.isnan(row["reward"]) else f", reward {row['reward']:.3g}"
                whose = (
                    row["label"].capitalize() if row["label"].startswith("reference") else f"{row['label']} at step {row['step']:,}"
                )
                st.caption(plain(f"{whose}{reward}"))
                st.text(displayable(row["answer"]))
