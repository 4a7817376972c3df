"""Go from one page to another without returning to the old page by accident.

A late timer request of a live page (a fragment with `run_every`) makes Streamlit restore the old page, so an empty page,
which has no timers, is drawn first; when the browser reports it, the server opens the new page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import streamlit as st

from app.pages import INSPECT, PAGES, Page
from app.state.moment import go_to

GOAL = "leaving"
"""In the session: the page to open, its parameters, and whether the browser was told to end the old page."""

NUMBER = "leaving.number"

JAVASCRIPT = """
export default function ({data, parentElement, setTriggerValue}) {
  if (parentElement.ended) return;
  parentElement.ended = true;
  window.labLeaving?.(data.path);  // see app.serving
  setTriggerValue("ended", true);
}
"""

_mount = st.components.v2.component("lab_leaving", html="<span></span>", js=JAVASCRIPT, isolate_styles=False)


def leave_for(page: Page, parameters: Mapping[str, str]) -> NoReturn:
    """End the current page and open another one with these parameters in its address."""
    st.session_state[GOAL] = (page, dict(parameters), False)
    st.rerun(scope="app")
    raise AssertionError("st.rerun ends the script")


def leaving() -> bool:
    """Return whether the page is being left, so that nothing of it may be drawn; open the next page once the browser is ready.

    The script must come to its own end afterwards: a script that is stopped leaves the fragments of the old page in use.
    """
    if GOAL not in st.session_state:
        return False
    page, parameters, ended = st.session_state[GOAL]
    if ended:
        del st.session_state[GOAL]
        st.switch_page(page.file, query_params=parameters)
    number = st.session_state[NUMBER] = st.session_state.get(NUMBER, 0) + 1
    st.session_state[GOAL] = (page, parameters, True)
    _mount(key=f"leaving-{number}", data={"path": "" if page is PAGES[0] else page.path}, on_ended_change=lambda: None)
    return True


def open_pair(run: str, pair: str, step: int | None) -> NoReturn:
    """Go to the Inspect page of a pair.

    Args:
        run: Name of the run's folder.
        pair: Id of the pair.
        step: The step to show there; None for the latest.
    """
    go_to(run, step, passing=True)
    leave_for(INSPECT, {"run": run, "pair": pair} | ({} if step is None else {"step": str(step)}))
