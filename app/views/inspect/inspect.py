"""Inspect: one pair of a run, with its answers, its history, "what if" with an edited text, and the virtual step.

The address holds the run, the pair and the step that is shown.
"""

from __future__ import annotations

import sqlite3
import time
from functools import partial

import pandas as pd
import streamlit as st

from app.pages import NEW_RUN
from app.state.access import may_edit
from app.state.current_run import choose, offered_runs
from app.state.learn.to_learn import open_pair_in_learn
from app.state.moment import go_to, moment
from app.state.objective_in_use import annotations_in_use, objective_at
from app.text.plain import displayable, plain
from app.text.run_text import edit_sentences, meanings_in_halves, pair_annotations
from app.views.inspect import degrees, following, pair_list, virtual, what_if
from app.views.inspect.pair_list import open_pair
from app.widgets import examining, save_dialog, shortcuts, token_view
from app.widgets.figure import dark
from app.widgets.pairs.acting import act, show_messages
from app.widgets.pairs.pair_actions import change_buttons, show_findings, show_labels
from app.widgets.pairs.pair_view import judgements, label_agreement
from app.widgets.pairs.turn_editor import edit_turns
from lab.errors import LabError
from lab.objectives import Objective
from lab.pairs import Pair, PairsError, PairStore, answer_text, prompt_text
from lab.plots import Record, edits_of, history_groups, history_table, pair_history, times_seen
from lab.run.handle import Run
from lab.store import SCREEN_POINTS, RunError
from lab.store.terms import with_margin
from lab.whatif import tokenizer_of
from lab.whatif.degrees import degree_guesses
from lab.world import world_of

DRAWN = "inspect.pictured"
"""In the session: what the drawn answers show: run, pair, version, step, shown step, picture."""


def _no_action() -> None:
    """Do nothing: the buttons of the page handle these keys, which are only listed here."""


KEYS = {
    "ArrowLeft": shortcuts.Key("previous step with this pair", _no_action),
    "ArrowRight": shortcuts.Key("next step with this pair", _no_action),
    "n": shortcuts.Key("next pair of the list", _no_action),
    "p": shortcuts.Key("previous pair of the list", _no_action),
}


def page() -> None:
    """Draw the whole page."""
    began = time.thread_time()
    runs = offered_runs()
    if not runs:
        st.title("No run yet")
        st.write("Single pairs of a run are shown here. Start a run first.")
        st.page_link(NEW_RUN.file, label="Start a run", icon=":material/play_circle:")
        return
    left, right = st.columns([4, 5], vertical_alignment="bottom", gap="medium")
    with left:
        run = choose(runs)
    step = moment(run.dir.name)
    store = _store(run)
    before = st.query_params.get("pair")
    with st.expander("Pairs", icon=":material/list:", expanded=True):
        listed = pair_list.show(run, store, step)
    opened = st.query_params.get("pair", before)
    if opened is None:
        with right:
            _travel(run, step, None, [])
        message = "The run has seen no pair yet; they appear here after its first step."
        st.info(message if step is None else f"No pair was seen up to step {step:,}; go to a later one.")
        return
    seen = run.reader.pairs.steps_of(opened)
    with right:
        _travel(run, step, opened, seen)
    history = run.reader.pairs.history(opened, last=step, points=SCREEN_POINTS)
    _pair(run, store, opened, with_margin(history), step, listed, ever=bool(seen))
    save_dialog.offer()
    following.drawn(began)


def _store(run: Run) -> PairStore | None:
    try:
        return run.pair_store()
    except PairsError as error:
        st.warning(plain(f"The texts of the pairs cannot be shown: {error}"))
        return None


def _travel(run: Run, step: int | None, pair: str | None, seen: list[int]) -> None:
    """Draw the step that is shown, and buttons to the previous and the next step with this pair."""
    name = run.dir.name
    now = run.step if step is None else step
    # At the present step, "previous" begins at the latest step with the pair.
    before = [at for at in seen if at < (now if step is not None or not seen else seen[-1])]
    # The last of them is the present: its values of the pair are the same, and so the two buttons undo each other.
    after = [at for at in seen[:-1] if at > now]
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        following.step(run, step, pair)
        st.button(
            "Previous step",
            icon=":material/chevron_left:",
            shortcut="Left",
            disabled=not before,
            on_click=go_to,
            args=(name, before[-1] if before else None),
            help="The previous step at which this pair was in the batch.",
        )
        st.button(
            "Next step",
            icon=":material/chevron_right:",
            icon_position="right",
            shortcut="Right",
            disabled=step is None,
            on_click=go_to,
            args=(name, after[0] if after else None),
            help="The next step at which this pair was in the batch; after the last of them the latest step.",
        )
        st.button("Latest", disabled=step is None, on_click=go_to, args=(name, None), help="Follow the run again.")
        shortcuts.help_button(KEYS)
        shortcuts.bind({}, key="inspect-keys")


def _pair(
    run: Run, store: PairStore | None, id: str, history: pd.DataFrame, step: int | None, listed: pair_list.Listed, *, ever: bool
) -> None:
    """Draw the opened pair as it was in its latest step up to the step that is shown.

    Args:
        run: The run.
        store: The pair set; None if it cannot be read.
        id: The pair.
        history: Its terms, up to the step that is shown.
        step: The step that is shown; None for the latest.
        listed: The list of pairs.
        ever: Whether any step contained the pair.
    """
    row = None if history.empty else history.iloc[-1]
    pair = _text(store, id, None if row is None else int(row["version"]))
    if pair is None and not ever:
        st.error(plain(f"There is no pair {id} in this run (any more); choose one of the list."))
        return
    _heading(run, store, id, pair, row, step, listed)
    if store is not None and pair is not None:
        show_messages()
        show_findings(store, store.get(id), key=None)
    if pair is not None:
        _answers(run, store, pair, row, step)
    names = ["History", "What if", "Virtual step", "Turns and tools"]
    history_tab, what_tab, step_tab, turns_tab = st.tabs(names, key="inspect.tab", on_change="rerun")
    with history_tab:
        if history_tab.open:
            _history(run, id, history, step)
    latest = None if store is None else _text(store, id, None)
    with turns_tab:
        if turns_tab.open and latest is not None and store is not None:
            edit_turns(store, latest, act)
    for tab, draw in ((what_tab, what_if.section), (step_tab, virtual.section)):
        with tab:
            if tab.open and latest is not None and store is not None:
                draw(run, store, latest, step)
            elif tab.open:
                st.caption("The text of this pair is not there any more.")


def _text(store: PairStore | None, id: str, version: int | None) -> Pair | None:
    """Return a version of the pair's text, the present one if that is unknown; None if the store has no such pair."""
    if store is None:
        return None
    for wanted in (version, None):
        try:
            return store.get(id, wanted)
        except PairsError:
            continue
    return None


def _heading(
    run: Run, store: PairStore | None, id: str, pair: Pair | None, row: pd.Series | None, step: int | None, listed: pair_list.Listed
) -> None:
    message = f"**Pair {plain(id)}**"
    if pair is not None:
        message += plain("".join(f", {text}" for text in (f"version {pair.version}", *pair_annotations(pair))))
    if row is not None:
        message += f", as step {int(row['step']):,} saw it"
    elif step is not None:
        message += f", not seen up to step {step:,}"
    else:
        message += ", not seen yet"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(message, width="content", help=plain(annotations_in_use(run, step)) or None)
        st.space("stretch")
        latest = None if store is None else _text(store, id, None)
        if store is not None and latest is not None:
            with st.popover("Change", icon=":material/edit:", help="Swap, drop, tag or weigh the pair as it is now in its set."):
                with st.container(horizontal=True):
                    change_buttons(store, latest, shortcuts=False)
                show_labels(store, latest)
                st.caption(plain(annotations_in_use(run, step)))
        if row is not None and st.button(
            "Open in Learn",
            icon=":material/school:",
            key="inspect.learn",
            help="Open this pair's numbers on the Learn page, with the objective in use.",
        ):
            try:
                open_pair_in_learn(run, id, step)
            except (LabError, ValueError) as error:
                st.error(plain(str(error)))
        for label, shortcut, icon, other in (
            ("Previous pair", "P", "left", listed.before),
            ("Next pair", "N", "right", listed.after),
        ):
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
    st.code(displayable(prompt_text(pair.prompt)), language=None, wrap_lines=True)
    st.fragment(_pictures)(run, store, pair, row, step)
    if store is not None and world_of(store.source):
        st.text(label_agreement(store, pair))


def _pictures(run: Run, store: PairStore | None, pair: Pair, row: pd.Series | None, step: int | None) -> None:
    """Draw both answers with the selected picture. A fragment: another picture does not wait for the rest of the page."""
    objective = _objective(run, step)
    wanted = token_view.switch("inspect.paint", token_view.choices(objective, _has_reference(run)))
    notes = judgements(store, pair) if store is not None else ("", "")
    place = st.empty()
    key = (run.dir.name, pair.id, pair.version, None if row is None else int(row["step"]), step, wanted)
    if st.session_state.get(DRAWN) != key:  # replaces another picture while this one is computed
        with place.container():
            token_view.draw(wanted, (answer_text(pair.chosen), answer_text(pair.rejected)), None, None, notes)
            st.caption(token_view.progress_text(wanted))
        st.session_state[DRAWN] = key
    with place.container():
        if wanted == token_view.DEGREES and objective is not None:
            _degrees(run, pair, objective, step)
            return
        tokens, tokenizer, source = None, None, ""
        if wanted != token_view.DIFFERENCE:
            tokens, source = _tokens(run, pair, row, step)
            try:
                tokenizer = tokenizer_of(run, fetch=may_edit()) if tokens is not None else None
            except RunError as error:
                st.error(plain(str(error)))
                tokens = None
        token_view.draw(wanted, (answer_text(pair.chosen), answer_text(pair.rejected)), tokens, tokenizer, notes)
        if source:
            st.caption(plain(source))


def _objective(run: Run, step: int | None) -> Objective | None:
    """Return the objective in use at the step; None if it cannot be built any more."""
    try:
        return objective_at(run, step)
    except ValueError:
        return None


def _has_reference(run: Run) -> bool:
    """Return whether the run has the reference's log-probs, judged by its latest tokens, else by its terms."""
    kept = run.reader.tokens.steps()
    if kept:
        return bool(run.reader.tokens.read(kept[-1])["ref_logps"].notna().all())
    return "log_ratio_chosen" in run.reader.pairs.term_names()


def _degrees(run: Run, pair: Pair, objective: Objective, step: int | None) -> None:
    """Draw SPO's degraded answers with the predictions of the nearest checkpoint's head."""
    degraded = objective.degraded_spec()
    assert degraded is not None
    available = examining.steps(run)
    guesses, source = None, "The run has no checkpoint yet, so there are no predictions of its head."
    if available:
        nearest = examining.nearest(available, step)
        model = examining.opened(run, nearest)
        source = f"The head as it was after step {nearest:,}." if nearest else "The head as it was before the first step."
        if model is not None:
            try:
                guesses = degree_guesses(model, pair)
            except ValueError as error:
                st.error(plain(str(error)))
    degrees.draw(pair, degraded, guesses)
    st.caption(source)


def _tokens(run: Run, pair: Pair, row: pd.Series | None, step: int | None) -> tuple[pd.DataFrame | None, str]:
    """Return token values as the step recorded them, or else computed by the nearest checkpoint, and their source as a sentence."""
    if row is not None:
        recorded = run.reader.tokens.read(int(row["step"]), pair.id)
        if len(recorded):
            return recorded, f"As step {int(row['step']):,} computed them, before it moved the weights."
    available = examining.steps(run)
    if not available:
        st.caption("The token values of this step are not kept (token_steps), and there is no checkpoint to compute them.")
        return None, ""
    nearest = examining.nearest(available, step)
    which = f"after step {nearest:,}" if nearest else "before the first step"
    model = examining.opened(run, nearest)
    if model is None:
        st.caption(f"This step's token values are not kept (token_steps), so the model {which} computes them again.")
        return None, ""
    try:
        scored = what_if.scored_soon(model, pair)
    except ValueError as error:
        st.error(plain(str(error)))
        return None, ""
    return (None, "") if scored is None else (scored.tokens, f"Computed again by the model {which}.")


def _history(run: Run, id: str, history: pd.DataFrame, step: int | None) -> None:
    """Draw the pair's terms as a table and as curves over the steps."""
    if history.empty:
        st.caption("The curves appear after the first batch with this pair.")
        return
    row, groups = history.iloc[-1], history_groups(history)
    numbers, pictures = st.columns([2, 3], gap="medium")
    with numbers:
        first, table = history.iloc[0], history_table(history)
        begin, rest = meanings_in_halves([term for terms in groups.values() for term in terms])
        config = {
            "term": st.column_config.TextColumn("Term", width=255, help=begin),
            "now": st.column_config.NumberColumn(
                f"Step {int(row['step']):,}",
                format="%.4g",
                width=75,
                help=f"Value at this step, before the optimizer update.\n\n{rest}",
            ),
            "change": st.column_config.NumberColumn(
                "Change", format="%+.3g", width=75, help=f"Since it was first seen, at step {int(first['step']):,}."
            ),
        }
        table = table if len(history) > 1 else table.drop(columns="change")
        st.dataframe(table, hide_index=True, height="content", column_config=config)
    with pictures:
        if len(history) == 1:
            st.caption("The curves appear after the second batch with this pair.")
            return
        st.caption(plain(f"{times_seen(history).capitalize()}{'' if step is None else f' up to step {step:,}'}."))
        for sentence in edit_sentences(edits_of(history)):
            st.text(sentence)
        events = Record(run.reader, step).notable()
        titles = list(groups)
        for start in range(0, len(titles), 2):
            for column, title in zip(st.columns(2), titles[start : start + 2]):
                with column:
                    figure = pair_history(history, groups[title], title=title, shown=step, events=events, dark=dark())
                    figure.layout.uirevision = title
                    save_dialog.chart(
                        figure,
                        f"history-{title}",
                        title=f"{title} of pair {id}",
                        file=f"{run.dir.name}-{id}-{title}".replace(" ", "-"),
                        data=partial(_whole, run, id, groups[title], step),
                        caption="Every step whose batch contained the pair"
                        + (f", up to step {step:,}." if step is not None else "."),
                    )


def _whole(run: Run, id: str, terms: list[str], step: int | None) -> pd.DataFrame:
    """Return some terms of a pair at every step that contained it."""
    return with_margin(run.reader.pairs.history(id, last=step))[["step", "pair", "version", *terms]]


try:
    page()
except (RunError, OSError, sqlite3.Error) as error:
    st.error(plain(f"The run cannot be read: {error}"))
