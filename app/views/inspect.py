"""Inspect: one pair of a run. Its two answers, painted; its history; what another text, or one step on it alone, would do.

The address holds the run, the pair and the step that is shown, so a reload or a link finds them again.
"""

from __future__ import annotations

import sqlite3

import pandas as pd
import streamlit as st

import lab
from app import examining, painted, pair_list, virtual, what_if
from app.choosing import choose
from app.figure import dark, show
from app.moment import go_to, moment
from app.pair_list import open_pair
from app.pair_view import judgements, label_in_words, shown
from app.plain import plain
from lab.monitor import RunError
from lab.monitor.terms import with_margin
from lab.pairs import Pair, PairsError, PairStore, prompt_text
from lab.plots import history_groups, history_table, pair_history
from lab.run import Run
from lab.whatif import kept, tokenizer_of
from lab.world import is_world


def page() -> None:
    """The whole page."""
    runs = lab.runs()
    if not runs:
        st.title("No run yet")
        st.write("Here one looks into single pairs of a run. Start one first.")
        st.page_link("views/new_run.py", label="Start a run", icon=":material/play_circle:")
        return
    left, right = st.columns([5, 4], vertical_alignment="bottom", gap="medium")
    with left:
        run = choose(runs)
    step = moment(run.dir.name)
    store = _store(run)
    asked = st.query_params.get("pair")
    with st.expander("Pairs", icon=":material/list:", expanded=True):
        listed = pair_list.show(run, store, step)
    opened = st.query_params.get("pair", asked)
    if opened is None:
        with right:
            _travel(run, step, [])
        seen = "The run has seen no pair yet; they appear here after its first step."
        st.info(seen if step is None else f"No pair was seen up to step {step:,}; go to a later one.")
        return
    history = with_margin(run.reader.pair_history(opened))
    with right:
        _travel(run, step, [int(found) for found in history["step"]])
    _pair(run, store, opened, history, step, listed)


def _store(run: Run) -> PairStore | None:
    try:
        return run.pair_store()
    except PairsError as error:
        st.warning(plain(f"The texts of the pairs cannot be shown: {error}"))
        return None


def _travel(run: Run, step: int | None, seen: list[int]) -> None:
    """Which step is shown, and buttons to the steps before and after it at which this pair was seen."""
    name, last = run.dir.name, run.step
    now = last if step is None else step
    # None of them is the present: from the last step at which the pair was seen one goes back.
    before = [found for found in seen if found < (now if step is not None or not seen else seen[-1])]
    # And on to the last of them is on to the present: what it said of the pair is the same, and Back and On undo each other.
    after = [found for found in seen[:-1] if found > now]
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.text(f"Step {now:,} of {last:,}" if step is not None else f"Step {last:,}, the latest")
        st.button(
            "Back",
            icon=":material/chevron_left:",
            shortcut="Left",
            disabled=not before,
            on_click=go_to,
            args=(name, before[-1] if before else None),
            help="To the step before at which this pair was seen.",
        )
        st.button(
            "On",
            icon=":material/chevron_right:",
            icon_position="right",
            shortcut="Right",
            disabled=step is None,
            on_click=go_to,
            args=(name, after[0] if after else None),
            help="To the next step at which this pair was seen; where that is the last of them, to the latest step.",
        )
        st.button("Latest", disabled=step is None, on_click=go_to, args=(name, None), help="Follow the run again.")


def _pair(run: Run, store: PairStore | None, id: str, history: pd.DataFrame, step: int | None, listed: pair_list.Listed) -> None:
    """The opened pair as it was when the step that is shown, or one before it, saw it last."""
    upto = history if step is None else history[history["step"] <= step]
    row = None if upto.empty else upto.iloc[-1]
    pair = _text(store, id, None if row is None else int(row["version"]))
    if pair is None and history.empty:
        st.error(plain(f"There is no pair {id} in this run (any more); choose one of the list."))
        return
    _heading(id, pair, row, step, listed)
    if pair is not None:
        _answers(run, store, pair, row, step)
    history_tab, what_tab, step_tab = st.tabs(["History", "What if", "Virtual step"], key="inspect.tab", on_change="rerun")
    with history_tab:
        if history_tab.open:
            _history(upto, history, step)
    latest = None if store is None else _text(store, id, None)
    for tab, draw in ((what_tab, what_if.section), (step_tab, virtual.section)):
        with tab:
            if tab.open and latest is not None and store is not None:
                draw(run, store, latest, step)
            elif tab.open:
                st.caption("The text of this pair is not there any more.")


def _text(store: PairStore | None, id: str, version: int | None) -> Pair | None:
    """A version of the pair's text; the present one where that is not known. None where the store has no such pair."""
    if store is None:
        return None
    for wanted in (version, None):
        try:
            return store.get(id, wanted)
        except PairsError:
            continue
    return None


def _heading(id: str, pair: Pair | None, row: pd.Series | None, step: int | None, listed: pair_list.Listed) -> None:
    words = f"**Pair {plain(id)}**"
    if pair is not None:
        words += f", version {pair.version} of its text"
    if row is not None:
        words += f", as step {int(row['step']):,} saw it"
    elif step is not None:
        words += f", not seen up to step {step:,}"
    else:
        words += ", not seen yet"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(words, width="content")
        st.space("stretch")
        for label, shortcut, icon, other in (("Previous", "P", "left", listed.before), ("Next", "N", "right", listed.after)):
            st.button(
                label,
                icon=f":material/chevron_{icon}:",
                icon_position="left" if icon == "left" else "right",
                shortcut=shortcut,
                disabled=other is None,
                on_click=open_pair,
                args=(other,),
            )


def _answers(run: Run, store: PairStore | None, pair: Pair, row: pd.Series | None, step: int | None) -> None:
    st.caption("Prompt")
    st.code(shown(prompt_text(pair.prompt)), language=None, wrap_lines=True)
    wanted = painted.switch("inspect.paint")
    tokens, tokenizer, source = None, None, ""
    if wanted != painted.DIFFERENCE:
        tokens, source = _tokens(run, pair, row, step)
        try:
            tokenizer = tokenizer_of(run) if tokens is not None else None
        except RunError as error:
            st.error(plain(str(error)))
            tokens = None
    notes = judgements(store, pair) if store is not None else ("", "")
    painted.draw(wanted, (pair.chosen, pair.rejected), tokens, tokenizer, notes)
    if source:
        st.caption(plain(source))
    if store is not None and is_world(store.source):
        st.text(label_in_words(pair))


def _tokens(run: Run, pair: Pair, row: pd.Series | None, step: int | None) -> tuple[pd.DataFrame | None, str]:
    """Token values as the step recorded them, or where they are kept no more computed again by the nearest checkpoint."""
    if row is not None:
        found = run.reader.tokens(int(row["step"]), pair.id)
        if len(found):
            return found, f"As step {int(row['step']):,} computed them, before it moved the weights."
    there = examining.steps(run)
    if not there:
        st.caption("The token values of this step are kept no more, and there is no checkpoint to compute them again with.")
        return None, ""
    nearest = examining.nearest(there, step)
    asked = f"inspect.tokens.{run.dir.name}.{nearest}"
    if kept(run, nearest) is None and not st.session_state.get(asked):
        which = f"after step {nearest:,}" if nearest else "before the first step"
        st.caption("The run keeps token values of its latest steps (token_steps) alone, and this one is not among them.")
        st.button(
            f"Compute them with the model {which}",
            icon=":material/calculate:",
            on_click=st.session_state.__setitem__,
            args=(asked, True),
        )
        return None, ""
    model = examining.opened(run, nearest)
    if model is None:
        return None, ""
    try:
        return what_if.scored(model, pair).tokens, f"Computed again by the model after step {nearest:,}."
    except ValueError as error:
        st.error(plain(str(error)))
        return None, ""


def _history(upto: pd.DataFrame, history: pd.DataFrame, step: int | None) -> None:
    if upto.empty:
        st.caption("Its curves begin when a step sees this pair.")
        return
    row, groups = upto.iloc[-1], history_groups(upto)
    numbers, pictures = st.columns([2, 3], gap="medium")
    with numbers:
        first, table = upto.iloc[0], history_table(upto)
        config = {
            "term": st.column_config.TextColumn("Term", width=255),
            "now": st.column_config.NumberColumn(f"Step {int(row['step']):,}", format="%.4g", width=75),
            "change": st.column_config.NumberColumn(
                "Change", format="%+.3g", width=75, help=f"Since it was first seen, at step {int(first['step']):,}."
            ),
        }
        table = table if len(upto) > 1 else table.drop(columns="change")
        st.dataframe(table, hide_index=True, height="content", column_config=config)
    with pictures:
        if len(history) == 1:
            st.caption("Curves begin when a second step sees this pair.")
            return
        titles = list(groups)
        for start in range(0, len(titles), 2):
            for column, title in zip(st.columns(2), titles[start : start + 2]):
                with column:
                    figure = pair_history(upto, groups[title], title=title, shown=step, dark=dark())
                    figure.layout.uirevision = title
                    show(figure, key=f"history-{title}")


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The run cannot be read: {error}"))
