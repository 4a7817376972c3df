"""Actions on the ticked runs: compare, tag, archive, delete."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.pages import COMPARE
from app.state.access import may_edit
from app.state.author import author
from app.state.navigation import leave_for
from app.text.plain import displayable, plain
from app.text.run_text import count_of
from app.views.runs.acting import acted
from app.views.runs.filters import REDRAW
from app.views.runs.listing import open_run, tick, ticked
from lab.comparison import MOST
from lab.experiments import effects_of_deletion
from lab.run.handle import Run
from lab.run.listing.summary import RunSummary
from lab.run.listing.trash import freed_by
from lab.run.preflight_report import size

ASKED = "runs.asked"
"""In the session: the form that is open for the ticked runs, "tag" or "delete"."""


def selection_bar(runs: Sequence[RunSummary], known: Sequence[RunSummary]) -> None:
    """Draw how many runs are listed and ticked, and the buttons for the ticked ones.

    Args:
        runs: The runs that match the filter.
        known: All known runs.
    """
    chosen = [run for run in known if run.folder.name in ticked()]
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = count_of(len(runs), "run")
        st.text(shown if len(runs) == len(known) else f"{shown} of {len(known):,}", width="content")
        if chosen:
            _buttons(chosen)
        if chosen and len(chosen) < len(runs):
            names = [run.folder.name for run in runs]
            st.button(f"Tick all {len(runs):,}", on_click=tick, args=(names,), help="Every run of the list, on all pages.")
    form = st.session_state.get(ASKED)
    if chosen and form and may_edit():
        with st.container(border=True):
            (_tag_form if form == "tag" else _delete_form)(chosen, known)


def _buttons(chosen: Sequence[RunSummary]) -> None:
    locked, names = not may_edit(), [run.folder.name for run in chosen]
    st.text(f"{len(chosen):,} ticked", width="content")
    compare = st.button(
        "Compare",
        icon=":material/stacked_line_chart:",
        type="primary",
        disabled=len(chosen) < 2,
        help=f"Lay the runs side by side: up to {MOST} curves, each of one run or of runs that differ only in their seed.",
    )
    st.button("Tag", icon=":material/label:", disabled=locked, on_click=ask, args=("tag",))
    if all(run.labels.archived for run in chosen):
        st.button("Unarchive", icon=":material/unarchive:", disabled=locked, on_click=_archive, args=(chosen, False))
    else:
        hint = "Leave the ticked runs out of lists. Nothing is deleted."
        st.button("Archive", icon=":material/archive:", disabled=locked, on_click=_archive, args=(chosen, True), help=hint)
    st.button("Delete", icon=":material/delete:", disabled=locked, on_click=ask, args=("delete",))
    st.button("Untick", on_click=_untick)
    if compare:
        leave_for(COMPARE, {"runs": ",".join(names)})


def ask(form: str | None) -> None:
    """Open a form for the ticked runs, or close it."""
    st.session_state[ASKED] = form


def _untick() -> None:
    tick([])
    ask(None)


def _archive(chosen: Sequence[RunSummary], archived: bool) -> None:
    def change() -> None:
        for run in chosen:
            handle = Run(run.folder)
            (handle.archive if archived else handle.unarchive)(author=author())

    done = "archived; Filters shows archived runs" if archived else "listed again"
    if acted(change, f"{count_of(len(chosen), 'run')} {done}."):
        _untick()


def _tag_form(chosen: Sequence[RunSummary], known: Sequence[RunSummary]) -> None:
    tags = sorted({tag for run in known for tag in run.labels.tags})
    own = sorted({tag for run in chosen for tag in run.labels.tags})
    one, two, three = st.columns([4, 4, 3], vertical_alignment="bottom")
    added = one.multiselect("Add tags", tags, key="runs.add", accept_new_options=True, placeholder="Choose or type a tag")
    removed = two.multiselect("Remove tags", own, key="runs.remove", placeholder="None" if own else "They have no tags")
    with three, st.container(horizontal=True):
        st.button(
            f"Change {count_of(len(chosen), 'run')}",
            type="primary",
            disabled=not (added or removed),
            on_click=_tag,
            args=(chosen, added, removed),
        )
        st.button("Cancel", on_click=ask, args=(None,))


def _tag(chosen: Sequence[RunSummary], added: Sequence[str], removed: Sequence[str]) -> None:
    def change() -> None:
        for run in chosen:
            handle = Run(run.folder)
            handle.tag(*added, author=author())
            handle.untag(*removed, author=author())

    if acted(change, f"Tags of {count_of(len(chosen), 'run')} changed."):
        ask(None)


def _delete_form(chosen: Sequence[RunSummary], known: Sequence[RunSummary]) -> None:
    freed = freed_by([run.folder for run in chosen], known)
    names = ", ".join(run.name for run in chosen[:5]) + (f" and {len(chosen) - 5:,} more" if len(chosen) > 5 else "")
    st.markdown(
        f"**Move {count_of(len(chosen), 'run')} to the trash?** {plain(names)}: {size(freed.bytes)} with "
        f"{count_of(freed.checkpoints, 'checkpoint')}. Deleted runs can be restored until the trash is emptied."
    )
    for warning in [*freed.warnings, *effects_of_deletion(run.folder for run in chosen)]:
        st.text(displayable(warning))
    with st.container(horizontal=True):
        st.button("Move to the trash", icon=":material/delete:", type="primary", on_click=_delete, args=(chosen,))
        st.button("Cancel", on_click=ask, args=(None,))


def _delete(chosen: Sequence[RunSummary]) -> None:
    def change() -> None:
        for run in chosen:
            handle = Run(run.folder)
            handle.delete(author=author())

    if acted(change, f"{count_of(len(chosen), 'run')} moved to the trash, which is at the end of this page."):
        _untick()
        st.session_state[REDRAW] = True  # the trash is drawn apart from the list
        if st.query_params.get("run") in [run.folder.name for run in chosen]:
            open_run(None)
    else:  # those that could be deleted are no longer ticked, because they are no longer listed
        ask(None)
