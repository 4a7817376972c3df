"""Changes of one pair: swap, drop, the remedies of its findings, and its degree, weight, tags and note."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from app.state.access import may_edit
from app.state.author import author
from app.text.findings import check_explanation
from app.text.plain import displayable, editable, plain
from app.widgets.difference import answers_html
from app.widgets.pairs.acting import act
from app.widgets.pairs.pair_view import compare
from lab.pairs import Pair, PairConflict, PairsError, PairStore, answer_text, apply_remedy, prompt_text
from lab.pairs.checks import Finding

DEGREES = {"none": None, "slight": 1 / 3, "clear": 2 / 3, "strong": 1.0}
"""Preference degrees that are annotated by hand."""
REMEDIES = {"swap": "Swap the answers", "drop": "Drop the pair", "edit": "Take the proposed text", "tag": "Tag the pair"}
"""Labels of the remedies that a finding can propose."""


def change_buttons(store: PairStore, pair: Pair, *, shortcuts: bool = True) -> None:
    """Draw the buttons that swap, drop or restore a pair. shortcuts: answer to the keys S and D."""
    by: dict[str, Any] = {"expected_version": pair.version, "author": author()}
    restore = ("Restore", "restore_from_trash", "D", lambda: store.restore(pair.id, **by), "Take this pair into training again.")
    drop = ("Drop", "delete", "D", lambda: store.drop(pair.id, **by), "Leave this pair out of training.")
    swap = ("Swap", "swap_horiz", "S", lambda: store.swap(pair.id, **by), "Exchange chosen and rejected.")
    for label, icon, key, change, message in (swap, restore if pair.dropped else drop):
        st.button(
            label,
            icon=f":material/{icon}:",
            key=f"change.{label}",
            shortcut=key if shortcuts else None,
            disabled=not may_edit(),
            on_click=act,
            args=(change,),
            help=message,
        )


def show_findings(store: PairStore, pair: Pair, *, key: str | None = "F", on_open: Callable[[str], None] | None = None) -> None:
    """Draw what the checks found in a pair, each with a button for its remedy, the text it proposes, and the other pair it names.

    Args:
        store: The pair set.
        pair: The pair as it is shown.
        key: Key that applies the first remedy; None for none.
        on_open: Opens the other pair, given by its id; None where the page cannot open it.
    """
    for number, finding in enumerate(store.findings(pair.id)):
        text, button = st.columns([9, 3], vertical_alignment="center")
        text.warning(plain(finding.sentence), icon=":material/rule:")
        if finding.remedy != "none":
            button.button(
                REMEDIES[finding.remedy],
                key=f"remedy.{pair.id}.{finding.check}.{number}",
                shortcut=key if number == 0 else None,
                disabled=not may_edit(),
                on_click=act,
                args=(lambda finding=finding: apply_remedy(store, finding, author=author(), expected_version=pair.version),),
                help=f"{REMEDIES[finding.remedy]}. {check_explanation(finding.check)}".strip(),
            )
        if finding.remedy == "edit":
            _show_proposal(pair, finding)
        if finding.other_id and finding.other_id in store:
            _show_other(store, finding, f"other.{pair.id}.{finding.check}.{number}", on_open)


def _show_proposal(pair: Pair, finding: Finding) -> None:
    """Draw the texts that a finding would replace, before and after."""
    with st.expander("Proposed text", expanded=True):
        for name, new in finding.proposal.items():
            text_of = prompt_text if name == "prompt" else answer_text
            sides = answers_html(text_of(getattr(pair, name)), text_of(new), ("first", "second"))
            for column, when, html in zip(st.columns(2), ("now", "proposed"), sides):
                column.caption(f"{name.capitalize()}, {when}")
                column.html(html)


def _show_other(store: PairStore, finding: Finding, key: str, on_open: Callable[[str], None] | None) -> None:
    """Draw the pair that a finding names beside its own, with a button that opens it."""
    other = store.get(finding.other_id)
    with st.expander(plain(f"The other pair, {other.id}{' (dropped)' if other.dropped else ''}")):
        compare(store, other)
        if on_open is not None:
            st.button("Open this pair", icon=":material/open_in_new:", key=key, on_click=on_open, args=(other.id,))


def degree_name(degree: float | None) -> str:
    """Return the word for a preference degree, or the number of one that has none."""
    if degree is None:
        return "none"
    return next((name for name, value in DEGREES.items() if value == degree), f"{degree:.2f}")


def show_labels(store: PairStore, pair: Pair) -> None:
    """Draw degree, weight, tags and note of a pair; each is saved when it is changed."""
    name = f"{pair.id}.{pair.version}"
    row = st.container(horizontal=True, vertical_alignment="bottom")
    label = degree_name(pair.degree)
    labels = list(DEGREES) if label in DEGREES else [*DEGREES, label]
    disabled = not may_edit()
    row.segmented_control(
        "Preference degree",
        labels,
        default=label,
        required=True,
        key=f"degree.{name}",
        disabled=disabled,
        on_change=lambda: _label(store, pair, degree=DEGREES.get(st.session_state[f"degree.{name}"], pair.degree)),
        help="How clearly the chosen answer is better: slight 1/3, clear 2/3, strong 1. dpo, simpo and alpha_dpo use it with "
        "degree_margin, spo with annotated_degrees; other objectives do not.",
    )
    row.number_input(
        "Weight",
        min_value=0.0,
        max_value=100.0,
        value=float(pair.weight),
        step=0.5,
        width=130,
        key=f"weight.{name}",
        disabled=disabled,
        on_change=lambda: _label(store, pair, weight=st.session_state[f"weight.{name}"]),
        help="Factor of the pair's loss in training, with every objective: 2 counts as two pairs, 0 trains nothing.",
    )
    row.multiselect(
        "Tags",
        sorted({*store.tags(), *pair.tags}),
        list(pair.tags),
        key=f"tags.{name}",
        format_func=displayable,
        disabled=disabled,
        accept_new_options=True,
        placeholder="Choose or type a tag",
        width=280,
        on_change=lambda: _label(store, pair, tags=tuple(st.session_state[f"tags.{name}"])),
    )
    st.text_input(
        "Note",
        editable(pair.note),
        key=f"note.{name}",
        disabled=disabled,
        placeholder="A remark on this pair, for people only",
        on_change=lambda: _label(store, pair, note=st.session_state[f"note.{name}"]),
    )


def _label(store: PairStore, pair: Pair, **labels: Any) -> None:
    act(lambda: _labelled(store, pair, labels))


def _labelled(store: PairStore, pair: Pair, labels: Mapping[str, Any]) -> Pair:
    """Store a label of a pair, also where somebody else has changed something else of the pair meanwhile.

    Tags that both have changed are put together. A degree belongs to the answers that it was given for.

    Raises:
        PairsError: Both have changed the label, or the answers have changed under a degree; the message holds the value.
    """
    by: dict[str, Any] = {"author": author()}
    try:
        return store.edit(pair.id, **labels, expected_version=pair.version, **by)
    except PairConflict as conflict:
        base, theirs = conflict.base, conflict.theirs
        if "tags" in labels:
            removed, added = set(base.tags) - set(labels["tags"]), set(labels["tags"]) - set(base.tags)
            return store.edit(pair.id, tags=(set(theirs.tags) - removed) | added, expected_version=theirs.version, **by)
        ((name, mine),) = labels.items()
        present = getattr(theirs, name)
        if present not in (getattr(base, name), mine) or (name == "degree" and theirs.content != base.content):
            raise PairsError(
                f"the {name} of pair {pair.id} is not saved, because the pair was changed meanwhile: yours was {mine!r}, now it is "
                f"{present!r}; look at the pair and give it again."
            ) from None
        return store.edit(pair.id, **labels, expected_version=theirs.version, **by)
