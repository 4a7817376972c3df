"""A list or a review without any pair: why it is empty, and what to do next."""

from __future__ import annotations

import streamlit as st

from app.state.address import put
from app.text.findings import check_title
from app.text.plain import one_line, plain
from app.views.pairs.filters import ANY_FINDING, filter_finding
from lab.pairs import PairStore
from lab.pairs.query import PairQuery


def show_nothing(store: PairStore, query: PairQuery, otherwise: str) -> None:
    """Draw why no pair matches a query. otherwise: the sentence where it is not for a finding that no pair has any more."""
    if query.finding and not pairs_with(store, query.finding):
        show_rest(store, query.finding)
    else:
        st.info(otherwise)


def show_rest(store: PairStore, finding: str) -> None:
    """Draw how many pairs still have the finding that was filtered by, and the ways on."""
    count = pairs_with(store, finding)
    named = "a finding" if finding == ANY_FINDING else f"the finding {one_line(check_title(finding))}"
    if count:
        st.info(plain(f"{count:,} {'pair still has' if count == 1 else 'pairs still have'} {named}."))
    else:
        message = f"No pair with {named} is left. Run the checks again under Evidence, since a change can cause a new finding"
        st.success(plain(f"{message}, or remove the filter to see all {len(store):,} pairs."))
    with st.container(horizontal=True):
        st.button("Open Evidence", icon=":material/rule:", key="nothing.evidence", on_click=put, kwargs={"view": "evidence"})
        st.button(
            "Remove the filter", icon=":material/filter_list_off:", key="nothing.remove", on_click=filter_finding, args=(None,)
        )


def pairs_with(store: PairStore, finding: str) -> int:
    """Return how many pairs, without dropped ones, a check found something in; "any" for every check."""
    return store.count(PairQuery(finding=finding))
