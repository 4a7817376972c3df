"""Edit the texts of a pair and score them with the run's model at any checkpoint (the "What if" tab)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.state.access import require_edit
from app.state.author import author
from app.state.jobs import Job, Jobs, show_progress
from app.text.plain import plain
from app.text.run_text import meanings_in_halves, taking_edits
from app.widgets import examining, token_view
from app.widgets.pairs.merging import Draft
from app.widgets.pairs.text_editor import changes_of, draft_key, texts_of, texts_to_begin_with
from lab.glossary import entry
from lab.pairs import Pair, PairConflict, PairsError, PairStore, answer_text
from lab.run.handle import Run
from lab.run.pair_versions import CURRENT
from lab.store import ENDED, RunError
from lab.store.terms import MARGIN, with_margin
from lab.whatif import Examined, Scored, tokenizer_of

MESSAGE = "inspect.message"
"""In the session: (kind, text) of the message about the last click, shown once."""

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Two values that differ by less than this share of them are equal in float32."""


def section(run: Run, store: PairStore, pair: Pair, step: int | None) -> None:
    """Draw the editor and the scores. pair: its present text. step: the step that is shown; None for the latest."""
    if message := st.session_state.pop(MESSAGE, None):
        (st.error if message[0] == "error" else st.success)(plain(message[1]))
    chosen = examining.choose(run, step, "whatif.model")
    if chosen is None:
        return
    edited = _editor(store, pair)
    model = examining.opened(run, chosen)
    _actions(run, store, pair, edited)
    if model is None:
        return
    if not model.lock.acquire(timeout=0.5):
        st.info("This model is measuring a virtual step; the texts are scored when it is done.")
        return
    try:
        before = scored(model, pair)
        after = scored(model, edited) if edited.content != pair.content else None
    except ValueError as error:
        st.error(plain(str(error)))
        return
    finally:
        model.lock.release()
    _results(run, model, pair, edited, before, after)


def _editor(store: PairStore, pair: Pair) -> Pair:
    """Draw the texts in fields; return the pair with the texts in them. A refused edit is put together with the present texts."""
    texts = texts_of(pair)
    keys = {name: f"whatif.{pair.id}.{pair.version}.{name}" for name in texts}
    begun = texts_to_begin_with(store, pair, texts, keys)
    typed: dict[str, str] = {}
    for name in (name for name in texts if name.startswith("prompt")):
        typed[name] = st.text_area(plain(name.capitalize()), begun[name], height=80, key=keys[name], persist_state="page")
    for column, side in zip(st.columns(2), token_view.SIDES):
        for name in (name for name in texts if name.startswith(side)):
            label = f"{name.capitalize()} answer" if name == side else name.capitalize()
            typed[name] = column.text_area(plain(label), begun[name], height=150, key=keys[name], persist_state="page")
    return replace(pair, **changes_of(pair, texts, typed))


def _actions(run: Run, store: PairStore, pair: Pair, edited: Pair) -> None:
    changed = edited.content != pair.content
    used, newest, live = run.pairs_version, store.version, run.state not in ENDED
    with st.container(horizontal=True):
        st.button(
            "Save as an edit of the pair",
            icon=":material/save:",
            disabled=not changed,
            on_click=_save,
            args=(store, pair, edited),
            help="A new version of the pair in its store. Undo takes it back, here or on the Pairs page.",
        )
        st.button(
            "Undo",
            icon=":material/undo:",
            disabled=pair.version == 1,
            on_click=_undo,
            args=(store, pair),
            help="Take back your latest change of this pair set, if it was made to this pair.",
        )
        st.button(
            "Let the run train on it",
            icon=":material/published_with_changes:",
            disabled=not live or used == newest or run.pairs_setting != CURRENT,
            on_click=_take,
            args=(run,),
            help=f"The run {taking_edits(run.pairs_setting, paused=run.state == 'paused')}" if live else "The run has ended.",
        )


def _save(store: PairStore, pair: Pair, edited: Pair) -> None:
    require_edit()
    prompt = edited.prompt if edited.prompt != pair.prompt else None
    try:
        new = store.edit(
            pair.id, prompt=prompt, chosen=edited.chosen, rejected=edited.rejected, expected_version=pair.version, author=author()
        )
    except PairConflict:  # the editor tells what happened, and keeps what was typed
        st.session_state[draft_key(pair)] = Draft(texts_of(pair), texts_of(edited))
    except PairsError as error:
        message = str(error)
        st.session_state[MESSAGE] = ("error", f"Not saved: {message}")
    else:
        st.session_state.pop(draft_key(pair), None)
        st.session_state[MESSAGE] = ("done", f"Saved as version {new.version} of this pair.")


def _undo(store: PairStore, pair: Pair) -> None:
    require_edit()
    latest = store.next_undo(author=author())
    if [entry.pair_id for entry in latest] != [pair.id]:
        why = "was made to another pair, or to several; the Pairs page shows and undoes it" if latest else "is undone already"
        st.session_state[MESSAGE] = ("error", f"Your latest change of this set {why}.")
        return
    try:
        entry = store.undo(author=author())
    except PairsError as error:
        st.session_state[MESSAGE] = ("error", str(error))
        return
    message = f"Undone: the pair has version {entry.after} now." if entry else "There is nothing to undo."
    st.session_state[MESSAGE] = ("done", message)


def _take(run: Run) -> None:
    require_edit()
    try:
        run.take_edits()
    except (RunError, PairsError) as error:
        st.session_state[MESSAGE] = ("error", str(error))
    else:
        st.session_state[MESSAGE] = ("done", "The run takes the edits after its current step.")


def scored(model: Examined, pair: Pair) -> Scored:
    """Return the scores of a pair, cached in the session for the latest few texts."""
    kept: dict[Any, Scored] = st.session_state.setdefault("whatif.scored", {})
    key = _scored_key(model, pair)
    if key not in kept:
        _keep(kept, key, model.score([pair]))
    return kept[key]


SCORING: Jobs[Any, Scored] = Jobs()
"""Texts that are being scored, until a page has drawn the result."""


def scored_soon(model: Examined, pair: Pair) -> Scored | None:
    """Return the scores of a pair, computed in the background; until then draw the progress and return None.

    Raises ValueError as `Examined.score` does.
    """
    kept: dict[Any, Scored] = st.session_state.setdefault("whatif.scored", {})
    if (key := _scored_key(model, pair)) in kept:
        return kept[key]
    job = SCORING.get(key)
    if job is None:
        job = SCORING[key] = Job(lambda progress: model.score([pair], progress=progress))
    if not job.done.wait(0.2):
        show_progress(job)
        return None
    SCORING.forget(key, job)
    if job.error is not None:
        raise ValueError(job.error)
    _keep(kept, key, job.result)
    return job.result


def _scored_key(model: Examined, pair: Pair) -> Any:
    return (model.run_dir, model.step, id(model), pair.id, repr(pair.content))


def _keep(kept: dict[Any, Scored], key: Any, result: Scored) -> None:
    while len(kept) >= 8:
        del kept[next(iter(kept))]
    kept[key] = result


def _results(run: Run, model: Examined, pair: Pair, edited: Pair, before: Scored, after: Scored | None) -> None:
    st.markdown(f"**{'Edited' if after else 'Stored'} text under the model after step {model.step:,}**")
    examining.note_single_pair(model)
    latest = after or before
    for side, tokens in latest.cut.get(pair.id, {}).items():
        if tokens:
            st.caption(f"{side.capitalize()}: {tokens:,} tokens do not fit into max_length and are cut.")
    table, picture = st.columns([1, 1] if after else [2, 3], gap="medium")
    with table:
        st.dataframe(_table(before, after), hide_index=True, height="content", column_config=_columns(before, after is not None))
    with picture:
        offered = token_view.choices(
            model.objective, "ref_logps" in latest.tokens and bool(latest.tokens["ref_logps"].notna().all())
        )
        wanted = token_view.switch("whatif.paint", [name for name in offered if name != token_view.DEGREES])
        token_view.draw(wanted, (answer_text(edited.chosen), answer_text(edited.rejected)), latest.tokens, tokenizer_of(run))


def _table(before: Scored, after: Scored | None) -> pd.DataFrame:
    stored = with_margin(before.terms).iloc[0]
    order = _order(before)
    rows = pd.DataFrame({"term": [entry(name).label for name in order], "stored": stored[order].to_numpy(float)})
    if after is not None:
        edited = with_margin(after.terms).iloc[0]
        rows["edited"] = edited[order].to_numpy(float)
        moved = rows["edited"] - rows["stored"]
        noise = ROUNDING * rows[["stored", "edited"]].abs().max(axis=1)
        rows["difference"] = moved.where(moved.abs() > noise, 0.0)
    return rows


def _order(scores: Scored) -> list[str]:
    """Return the names of the terms, the margin first."""
    return list(dict.fromkeys([MARGIN, *with_margin(scores.terms).columns]))


def _columns(scores: Scored, both: bool) -> dict[str, Any]:
    begin, rest = meanings_in_halves(_order(scores))
    helps = {
        "stored": f"Score of the stored text.\n\n{rest}",
        "edited": "Score of the edited text.",
        "difference": "Edited minus stored; 0 where they differ by no more than float32 rounding.",
    }
    config: dict[str, Any] = {
        name: st.column_config.NumberColumn(
            name.capitalize(), format="%+.4g" if name == "difference" else "%.4g", width=75, help=helps[name]
        )
        for name in (helps if both else ("stored",))
    }
    return config | {"term": st.column_config.TextColumn("Term", width=230 if both else 300, help=begin)}
