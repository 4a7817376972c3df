"""The parameters in a page's address."""

from __future__ import annotations

import streamlit as st
from streamlit.errors import StreamlitAPIException


def put(**given: str | None) -> None:
    """Change parameters of the address in one entry of the browser's history; None removes a parameter."""
    now = st.query_params.to_dict()
    wanted = {name: value for name, value in (now | given).items() if value is not None}
    if wanted == now:
        return
    try:
        st.query_params.from_dict(wanted)
    except StreamlitAPIException:  # a parameter is bound to a widget, and only the widget may change it
        for name in now.keys() - wanted.keys():
            del st.query_params[name]
        if changed := {name: value for name, value in wanted.items() if now.get(name) != value}:
            st.query_params.update(changed)
