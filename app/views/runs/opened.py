"""The opened run: name, tags, note, settings and numbers, and the pages that show more of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
import streamlit as st

from app.pages import INSPECT, LIVE
from app.state.access import may_edit
from app.state.author import author
from app.state.navigation import leave_for
from app.text.plain import displayable, plain
from app.text.run_text import STATES, count_of, duration, parameters
from app.views.runs.acting import act
from app.views.runs.filters import title
from app.views.runs.listing import open_run
from lab.run.handle import Run
from lab.run.listing.labels import LONGEST_NAME, LONGEST_NOTE, LabelChange
from lab.run.listing.summary import RunSummary
from lab.store import RunError, list_checkpoints, read_twins


def show_opened(name: str, known: Sequence[RunSummary]) -> None:
    """Draw the run that the address names (its folder's name)."""
    run = next((run for run in known if run.folder.name == name), None)
    if run is None:
        st.warning(plain(f"There is no run {name} here (any more)."))
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        word, colour, icon = STATES[run.state]
        st.badge(word, icon=f":material/{icon}:", color=colour)
        st.markdown(f"**{plain(run.name)}**", width="content")
        st.space("stretch")
        live = st.button("Live", icon=f":material/{LIVE.icon}:", type="primary", help="Open the run on Live (key l).")
        inspect = st.button("Inspect", icon=f":material/{INSPECT.icon}:", help="Open the run on Inspect (key i).")
        st.button("Close", icon=":material/close:", type="tertiary", on_click=open_run, args=(None,), help="Show the list alone.")
    if live:
        leave_for(LIVE, {"run": name})
    if inspect:
        leave_for(INSPECT, {"run": name})
    if run.error:
        st.error(plain(run.error))
    _labels(run, known)
    _facts(run)
    if run.numbers:
        rows = [{"Number": title(number), "Latest": value, "Recorded as": number} for number, value in run.numbers.items()]
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, height=300, column_config={"Latest": st.column_config.NumberColumn(format="%.5g")}
        )


def _labels(run: RunSummary, known: Sequence[RunSummary]) -> None:
    """Draw the fields for name, tags and note; a change is saved when a field is left."""
    folder, labels, locked, handle = run.folder.name, run.labels, not may_edit(), Run(run.folder)
    named = run.name if run.name != folder else ""
    # The value is part of the keys: a change from elsewhere makes the field anew.
    st.text_input(
        "Name",
        named,
        key=(name := f"name.{folder}.{named}"),
        max_chars=LONGEST_NAME,
        placeholder=folder,
        disabled=locked,
        on_change=lambda: act(lambda: handle.rename(st.session_state[name], author=author())),
        help=f"Shown in lists. The folder's name stays {plain(folder)}.",
    )
    tags = sorted({tag for each in known for tag in each.labels.tags})
    st.multiselect(
        "Tags",
        tags,
        labels.tags,
        key=(chosen := f"tags.{folder}.{labels.tags}"),
        accept_new_options=True,
        disabled=locked,
        on_change=lambda: act(lambda: _retag(handle, st.session_state[chosen])),
        placeholder="Choose or type a tag",
    )
    st.text_area(
        "Note",
        labels.note,
        key=(note := f"note.{folder}.{hash(labels.note)}"),
        max_chars=LONGEST_NOTE,
        disabled=locked,
        height="content",
        on_change=lambda: act(lambda: handle.note(st.session_state[note], author=author()), "Note saved."),
    )
    if changes := [f"{label} by {_when(change)}" for label, change in sorted(labels.changes.items())]:
        st.caption(plain(f"Latest changes: {', '.join(changes)}."))


def _when(change: LabelChange) -> str:
    return f"{change.author}, {datetime.fromisoformat(change.time):%-d %b %Y %H:%M}"


def _retag(handle: Run, tags: Sequence[str]) -> None:
    before = handle.labels.tags
    handle.tag(*(tag for tag in tags if tag not in before), author=author())
    handle.untag(*(tag for tag in before if tag not in tags), author=author())


def _facts(run: RunSummary) -> None:
    """Draw settings, relatives and place of the run."""
    trained = f", trained for {duration(run.seconds)}" if run.seconds else ""
    lines = [
        f"{parameters(run.objective)}; learning rate {run.learning_rate:g}, seed {run.seed}",
        f"{run.pairs} pairs, model {run.model}",
        f"Step {run.step:,} of {run.steps:,}{trained}; made {datetime.fromtimestamp(run.created):%-d %B %Y, %H:%M}",
        f"{count_of(len(list_checkpoints(run.folder)), 'checkpoint')} in {run.folder}",
    ]
    lines += [f"Branched from {run.parent.name}"] if run.parent else []
    try:
        twins = [twin.name for twin in read_twins(run.folder)]
        lines += [f"Twin of {', '.join(twins)}"] if twins else []
    except RunError as error:
        lines.append(str(error))
    st.text(displayable("\n".join(lines)))
