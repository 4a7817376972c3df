"""The opened pair: what is done to it by one key, its findings with their remedies, and its neighbours in the list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.state.access import may_edit
from app.state.address import put
from app.state.author import author
from app.text.plain import plain
from app.views.pairs.acting import act
from app.views.pairs.listing import Listed, open_pair
from app.widgets.pairs.pair_view import show
from lab.pairs import Pair, PairsError, PairStore, apply_remedy

DEGREES = {"none": None, "slight": 1 / 3, "clear": 2 / 3, "strong": 1.0}
"""Preference degrees that are annotated by hand."""
REMEDIES = {"swap": "Swap the answers", "drop": "Drop the pair", "edit": "Take the proposed text", "tag": "Tag the pair"}
"""Labels of the remedies that a finding can propose."""


def show_opened(store: PairStore, listed: Listed) -> None:
    """Draw the pair that the address names."""
    try:
        pair = store.get(st.query_params["pair"])
    except PairsError as error:
        st.error(plain(error))
        return
    _actions(store, pair, listed)
    show_findings(store, pair)
    show(store, pair, act)
    _labels(store, pair)


def _actions(store: PairStore, pair: Pair, listed: Listed) -> None:
    """Draw the pair's id and the buttons that change it or open its neighbours."""
    by: dict[str, Any] = {"expected_version": pair.version, "author": author()}
    changes: list[tuple[str, str, str, Callable[[], object], str]] = [
        ("Swap", "swap_horiz", "S", lambda: store.swap(pair.id, **by), "Exchange chosen and rejected."),
        ("Drop", "delete", "D", lambda: store.drop(pair.id, **by), "Leave this pair out of training."),
    ]
    if pair.dropped:
        changes[1] = (
            "Restore",
            "restore_from_trash",
            "D",
            lambda: store.restore(pair.id, **by),
            "Take this pair into training again.",
        )
    duplicate = lambda: _open_copy(store, pair)  # noqa: E731
    changes.append(("Duplicate", "content_copy", "", duplicate, "Add a copy of this pair to edit."))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Pair {plain(pair.id)}**, version {pair.version}{', dropped' if pair.dropped else ''}", width="content")
        st.space("stretch")
        for label, icon, key, change, message in changes:
            st.button(
                label,
                icon=f":material/{icon}:",
                shortcut=key or None,
                disabled=not may_edit(),
                on_click=act,
                args=(change,),
                help=message,
            )
        before, after = neighbours(listed, pair.id)
        for label, key, side, place in (("Previous", "P", "left", before), ("Next", "N", "right", after)):
            st.button(
                label, icon=f":material/chevron_{side}:", shortcut=key, disabled=place is None, on_click=_go, args=(store, place)
            )
        st.button(
            "Close", icon=":material/close:", type="tertiary", on_click=open_pair, args=(store, None), help="Show the list alone."
        )


def _open_copy(store: PairStore, pair: Pair) -> None:
    put(pair=store.duplicate(pair.id, author=author()).id)


def neighbours(listed: Listed, id: str) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """Return the pairs before and after a pair in the list, each with its page.

    If the pair has left the list (because it was dropped), the next one is the pair that took its place.
    """
    row = listed.ids.index(id) if id in listed.ids else None
    place = row if row is not None else min(int(st.session_state.get("pairs.row", 0)), len(listed.ids))
    line = [(i, listed.sheet) for i in listed.ids]
    ahead = [*line[place + (row is not None) :], *([(listed.after, listed.sheet + 1)] if listed.after else [])]
    behind = [*([(listed.before, listed.sheet - 1)] if listed.before else []), *line[:place]]
    return (behind[-1] if behind else None), (ahead[0] if ahead else None)


def _go(store: PairStore, place: tuple[str, int] | None) -> None:
    if place is not None:
        open_pair(store, place[0])
        put(sheet=str(place[1]))


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
                args=(lambda finding=finding: apply_remedy(store, finding, author=author()),),
            )


def _labels(store: PairStore, pair: Pair) -> None:
    """Draw degree, weight, tags and note of a pair; each is saved when it is changed."""
    name = f"{pair.id}.{pair.version}"
    one, two, three = st.columns([5, 2, 5], vertical_alignment="bottom")
    label = next(
        (label for label, degree in DEGREES.items() if degree == pair.degree), f"{pair.degree:.2f}" if pair.degree else "none"
    )
    labels = list(DEGREES) if label in DEGREES else [*DEGREES, label]
    disabled = not may_edit()
    one.segmented_control(
        "Preference degree",
        labels,
        default=label,
        required=True,
        key=f"degree.{name}",
        disabled=disabled,
        on_change=lambda: _label(store, pair, degree=DEGREES.get(st.session_state[f"degree.{name}"], pair.degree)),
        help="How clearly the chosen answer is better: slight 1/3, clear 2/3, strong 1. Objectives that use degrees say so.",
    )
    two.number_input(
        "Weight",
        min_value=0.0,
        max_value=100.0,
        value=float(pair.weight),
        step=0.5,
        key=f"weight.{name}",
        disabled=disabled,
        on_change=lambda: _label(store, pair, weight=st.session_state[f"weight.{name}"]),
        help="Factor of the pair's loss in training: 2 counts as two pairs, 0 trains nothing.",
    )
    three.multiselect(
        "Tags",
        sorted({*store.tags(), *pair.tags}),
        list(pair.tags),
        key=f"tags.{name}",
        disabled=disabled,
        accept_new_options=True,
        placeholder="Choose or type a tag",
        on_change=lambda: _label(store, pair, tags=tuple(st.session_state[f"tags.{name}"])),
    )
    st.text_input(
        "Note",
        pair.note,
        key=f"note.{name}",
        disabled=disabled,
        placeholder="A remark on this pair, for people only",
        on_change=lambda: _label(store, pair, note=st.session_state[f"note.{name}"]),
    )


def _label(store: PairStore, pair: Pair, **labels: Any) -> None:
    act(lambda: store.edit(pair.id, **labels, expected_version=pair.version, author=author()))
