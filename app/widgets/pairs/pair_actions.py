"""Changes of one pair: swap, drop, the remedies of its findings, and its degree, weight, tags and note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app.state.access import may_edit
from app.state.author import author
from app.text.findings import check_explanation
from app.text.plain import displayable, editable, plain
from app.widgets.pairs.acting import act
from lab.pairs import Pair, PairConflict, PairsError, PairStore, apply_remedy

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


def show_findings(store: PairStore, pair: Pair, *, key: str | None = "F") -> None:
    """Draw what the checks found in a pair, each with a button for its remedy; the first is also applied by a key."""
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


def show_labels(store: PairStore, pair: Pair) -> None:
    """Draw degree, weight, tags and note of a pair; each is saved when it is changed."""
    name = f"{pair.id}.{pair.version}"
    row = st.container(horizontal=True, vertical_alignment="bottom")
    label = next(
        (label for label, degree in DEGREES.items() if degree == pair.degree), f"{pair.degree:.2f}" if pair.degree else "none"
    )
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
