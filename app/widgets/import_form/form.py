"""The import form: choose a source, say which column is what, see the first rows, import, and read the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from app.state import pair_sets
from app.state.access import WHY, may_edit, require_edit
from app.state.jobs import Job, show_progress
from app.text.plain import displayable, plain
from app.widgets.import_form.uploads import MEGABYTES, PACKED, TYPES, keep_upload
from app.widgets.pairs.source_conflicts import show_conflicts
from lab import home
from lab.pairs import ColumnMapping, PairsError, PairStore, forget_mapping
from lab.pairs.importing import LAYOUTS, OnError, PairReader

from .importing import Outcome, Source, Target, import_source, own_set, reader_of
from .preview import in_the_form, show_preview

NONE = "(none)"
NEW_SET = "a new set"
NEW_IN_DATABASE = "a new set in a database"
UPLOAD, PLACE = "Upload a file", "A path, or a data set of the hub"
LABELS = {
    "chosen": "Chosen answer",
    "rejected": "Rejected answer",
    "system": "System message",
    "tools": "Tools",
    "history": "Earlier turns",
    "score_chosen": "Score of chosen",
    "score_rejected": "Score of rejected",
    "margin": "Score difference",
}
LAYOUT_LABELS = {"auto": "as the columns are", "conversation": "text prompts become a user's turn", "text": "text stays text"}
DROP, KEEP = "drop them (can be undone)", "keep them"
DEFAULT = "import.into.default"
"""In the session: (source, mapping, key of the set that it updates by default)."""
JOB = "import.job"
"""In the session: (source, mapping, where to, job) of the import that runs or has ended."""


def show(done: Callable[[PairStore], None]) -> None:
    """Draw the form; `done` is called with the set once a person opens what was imported."""
    if not may_edit():
        st.info(WHY)
        return
    source = _source()
    if source is None:
        return
    try:
        reader = reader_of(source, None)
        sample = reader.sample()
        guessed, columns = reader.mapping(sample)
    except PairsError as error:
        st.error(plain(_named(str(error), source)))
        return
    st.caption(plain(f"{_named(reader.table.source, source)}: {reader.table.format}, {len(columns)} columns."))
    left, right = st.columns([4, 7], gap="large")
    with left:
        mapping = _mapping(source, guessed, list(columns), kept=reader.uses_kept)
        into = _into(source, reader, mapping)
    with right:
        show_preview(source, mapping)
    _import(source, mapping, into, done)


def _source() -> Source | None:
    """Draw the choice of a source; return it, or None until there is one."""
    how = st.segmented_control("Source", [UPLOAD, PLACE], default=UPLOAD, required=True, key="import.how")
    if how == UPLOAD:
        file = st.file_uploader(
            "JSON Lines, JSON, CSV, TSV or Parquet, packed or not",
            type=[*TYPES, *PACKED],
            key="import.file",
            max_upload_size=MEGABYTES,
        )
        if file is None:
            return None
        try:
            path, _ = keep_upload(file.name, file.getvalue())
        except PairsError as error:
            st.error(plain(error))
            return None
        return Source(str(path), name=file.name, uploaded=True)
    one, two, three = st.columns([5, 2, 2])
    place = one.text_input("Path, or owner/name", key="import.place").strip()
    split = two.text_input("Split", "train", key="import.split").strip() or "train"
    configuration = three.text_input("Configuration", key="import.configuration", help="Subset of a data set of the hub.").strip()
    return Source(place, split, configuration, place) if place else None


def _named(text: str, source: Source) -> str:
    """A message that names an uploaded file as the person knows it."""
    return in_the_form(text).replace(source.place, source.name or source.place)


def _mapping(source: Source, guessed: ColumnMapping, columns: list[str], *, kept: bool) -> ColumnMapping:
    """Draw a field for each thing that is read; return the mapping as it stands in them. kept: of an earlier import."""
    st.subheader("Columns")
    key = f"import.{hash((source, tuple(columns)))}"
    if kept:
        st.info("These are the columns of an earlier import; they are kept for files with these columns.")
        st.button("Forget them", on_click=_forget, args=(tuple(columns), key))
    columns = [*columns, *sorted(path for path in guessed.used() - set(columns) if path.split(".")[0] in columns)]
    shown = {name: displayable(name) for name in columns}
    prompt = st.multiselect(
        "Prompt",
        columns,
        default=[name for name in guessed.prompt if name in columns],
        format_func=lambda name: shown.get(name, name),
        key=f"{key}.prompt",
        help="Several columns are joined by a line break. None: what both answers begin with.",
    )
    values: dict[str, Any] = {}
    for number, (name, label) in enumerate(LABELS.items()):
        if number % 2 == 0:
            pair = st.columns(2)
        options = [NONE, *columns] if name not in ("chosen", "rejected") else columns
        value = getattr(guessed, name) or NONE
        chosen = pair[number % 2].selectbox(
            label,
            options,
            index=options.index(value) if value in options else None if options is columns else 0,
            format_func=lambda name: shown.get(name, name),
            key=f"{key}.{name}",
        )
        values[name] = "" if chosen in (NONE, None) else chosen
    winner = st.multiselect(
        "Which answer is better",
        columns,
        default=list(guessed.winner),
        format_func=lambda name: shown.get(name, name),
        max_selections=2,
        key=f"{key}.winner",
        help="The column that says which of the two answers is better, or two columns of scores. None: the chosen one.",
    )
    if guessed.ranked:
        st.caption(plain(f"Answers: {guessed.ranked}, ordered by {guessed.rank_by}; the best against the worst."))
    layout: Any = st.selectbox(
        "Texts", LAYOUTS, index=LAYOUTS.index(guessed.layout), format_func=LAYOUT_LABELS.__getitem__, key=f"{key}.layout"
    )
    mapping = replace(guessed, prompt=tuple(prompt), winner=tuple(winner), layout=layout, **values)
    if unread := sorted(set(columns) - mapping.used()):
        st.caption(plain(f"Not read, but kept with the pairs: {', '.join(unread)}."))
    return mapping


def _forget(columns: tuple[str, ...], key: str) -> None:
    """Forget the mapping that is kept for these columns, and what the fields show of it."""
    require_edit()
    forget_mapping(home.home(), columns)
    for name in [name for name in st.session_state if str(name).startswith(f"{key}.")]:
        del st.session_state[name]


def _into(source: Source, reader: PairReader, mapping: ColumnMapping) -> Target | None:
    """Draw the choice between a new set and one that is updated; return None while the address of a new one is missing.

    The default is the set that the source updates (see `own_set`), found once: it stays while the report is on the screen.
    """
    stored = pair_sets.stored_sets()
    default = st.session_state.get(DEFAULT)
    if default is None or default[:2] != (source, mapping) or "import.into" not in st.session_state:
        default = (source, mapping, own_set(source, reader, mapping, st.query_params.get("pairs", "")))
        st.session_state[DEFAULT] = default
        st.session_state["import.into"] = default[2] or NEW_SET
    own = default[2]
    pair_sets.resend_label("import.into")
    chosen = st.selectbox(
        "Into",
        [NEW_SET, NEW_IN_DATABASE, *stored],
        format_func=lambda name: name if name in (NEW_SET, NEW_IN_DATABASE) else f"update {pair_sets.label(name)}",
        key="import.into",
        help="An update adds new rows and keeps the edits made here; rows are matched by their content. A path that was imported "
        "before, and an uploaded file with the name and the columns of an earlier one, update their own set.",
    )
    if chosen in stored:
        return Target(stored[chosen], new=False, own=chosen == own, drop_vanished=_drops_vanished(chosen, chosen == own))
    if chosen != NEW_IN_DATABASE:
        return Target(own=not own)
    address = st.text_input(
        "Address",
        key="import.address",
        placeholder="postgresql://user@host/database?set=name",
        help="Without a password: that belongs into ~/.pgpass or PGPASSWORD of the process that runs the lab.",
    ).strip()
    if not address:
        return None
    try:
        pair_sets.check_address(address)
    except PairsError as error:
        st.error(plain(error))
        return None
    return Target(address)


def _drops_vanished(chosen: str, own: bool) -> bool:
    """Draw the choice of what happens to rows of a set that are no longer in the file."""
    choice = st.radio(
        "Rows of the set that are no longer in the file",
        [DROP, KEEP],
        index=0 if own else 1,
        key=f"import.vanished.{chosen}.{own}",
        help="A row whose text has changed counts as one added and one no longer in the file.",
    )
    return choice == DROP


def _import(source: Source, mapping: ColumnMapping, into: Target | None, done: Callable[[PairStore], None]) -> None:
    wanted = (source, mapping, into)
    st.button(
        "Import",
        type="primary",
        icon=":material/upload:",
        disabled=not (mapping.chosen or mapping.ranked) or into is None,
        on_click=_begin,
        args=(wanted, "refuse"),
    )
    if JOB not in st.session_state or st.session_state[JOB][0] != wanted:
        return
    job: Job[Outcome] = st.session_state[JOB][1]
    if not job.done.wait(0.3):
        show_progress(job)
        return
    if job.error is not None:
        st.error(plain(_named(job.error, source)))
        return
    _report(job.result, wanted, done)


def _begin(wanted: tuple[Source, ColumnMapping, Target | None], on_error: OnError) -> None:
    require_edit()
    source, mapping, into = wanted
    assert into is not None
    st.session_state[JOB] = (wanted, Job(lambda progress: import_source(source, mapping, into, on_error, progress)))


def _report(outcome: Outcome, wanted: tuple[Source, ColumnMapping, Target | None], done: Callable[[PairStore], None]) -> None:
    """Draw what was read and refused, and what can be done next."""
    report, store = outcome.report, outcome.store
    rows = f"{report.refused_count:,} {report.units(report.refused_count)}"
    if store is None:
        st.error(plain(f"{rows} cannot be read as pairs, so nothing was imported; {report.read:,} can."))
        if report.read:
            st.button(f"Import the good ones ({report.read:,})", on_click=_begin, args=(wanted, "skip"))
    else:
        st.success(plain(_success(outcome)))
        if outcome.update is not None:
            show_conflicts(outcome.update.conflicts)
        st.button("Open the set", type="primary", on_click=done, args=(store,))
        report = replace(report, update=None)  # the line above has it
        if warning := report.warning():
            st.warning(plain(_named(warning, wanted[0])))
    lines = [*report.lines(imported=store is not None), *(outcome.update.details() if outcome.update else [])]
    st.code("\n".join(displayable(_named(line, wanted[0])) for line in lines), language=None, wrap_lines=True)
    if report.refused:
        refused = pd.DataFrame([{"number": each.number, "reason": in_the_form(each.reason)} for each in report.refused])
        st.dataframe(
            refused.map(lambda value: displayable(value) if isinstance(value, str) else value),
            hide_index=True,
            column_config={
                "number": report.unit.capitalize(),
                "reason": st.column_config.TextColumn("Why it is no pair", width="large"),
            },
        )


def _success(outcome: Outcome) -> str:
    update, store = outcome.update, outcome.store
    assert store is not None
    if update is None:
        return f"{len(store):,} pairs are stored as {store.name}."
    return f"{store.name}: {update.summary()}."
