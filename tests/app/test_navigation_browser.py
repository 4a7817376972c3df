"""From page to page in a real browser: run, step and pair are kept, Back leads back, and no page stays blank."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.run.handle import Run
from tests.app.browsing import address_of, body
from tests.app.conftest import ROOT, _answers
from tests.helpers import free_port, until

pytestmark = pytest.mark.browser

PATIENCE = 240.0
"""Seconds; the machine may be busy."""

TIMERS = """
import sys, time
from types import SimpleNamespace
sys.path.insert(0, {root!r})
import streamlit as st
from app.state.navigation import leave_for, leaving

def first():
    if st.button("Go"):
        st.session_state["end"] = time.time() + 0.5
    end = st.session_state.get("end")
    if end and time.time() < end:
        wait(end)
        st.stop()
    if end:
        del st.session_state["end"]
        leave_for(SimpleNamespace(file="second.py", path="second"), {{"x": "1"}})

@st.fragment(run_every=0.02)
def wait(end):
    if time.time() > end:
        st.rerun(scope="app")
    st.write("waiting")

pages = [st.Page(first, title="First", default=True), st.Page("second.py", title="Second", url_path="second")]
page = st.navigation(pages)
if not leaving():
    page.run()
"""
SECOND = "import time\nimport streamlit as st\nfor line in range(20):\n    time.sleep(0.02)\n    st.write(f'line {line}')\n"


@pytest.fixture
def timers(tmp_path: Path) -> Iterator[str]:
    """The address of two pages, the first of which is drawn by timers and leads to the second."""
    (tmp_path / "main.py").write_text(TIMERS.format(root=str(ROOT)))
    (tmp_path / "second.py").write_text(SECOND)
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", "main.py", "--server.port", str(port), "--server.headless", "true"]
    command += ["--browser.gatherUsageStats", "false", "--server.address", "127.0.0.1", "--logger.level", "error"]
    server = subprocess.Popen(command, cwd=tmp_path, env=os.environ.copy())
    try:
        until(lambda: _answers(port), 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def test_a_page_that_timers_drew_is_left_for_one_that_is_not_blank(timers: str, page: Any) -> None:
    for _ in range(5):
        page.goto(timers)
        page.get_by_role("button", name="Go").click()
        until(lambda: address_of(page) == f"{timers}/second?x=1" and "line 19" in body(page), PATIENCE, lambda: body(page))
        page.wait_for_timeout(500)
        assert "line 19" in body(page)


def said(page: Any, name: str) -> str:
    """What the address says of a parameter."""
    found = re.search(rf"[?&]{name}=([^&]*)", address_of(page))
    return found[1].replace("%2C", ",") if found else ""


def test_run_step_and_pair_are_kept_and_back_leads_back(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    for name in ("one", "two", "three"):
        store_run(name, steps=60)

    def at(path: str, **given: str) -> None:
        def there() -> bool:
            return address_of(page).split("?")[0] == f"{dashboard}/{path}" and all(said(page, k) == v for k, v in given.items())

        until(there, PATIENCE, lambda: f"{address_of(page)} and not /{path} with {given}")
        page.wait_for_timeout(1000)
        assert there(), address_of(page)

    def menu(name: str) -> None:
        page.get_by_role("link", name=name).first.click()

    page.goto(f"{dashboard}/?run=one")
    at("", run="one")
    page.get_by_role("combobox", name="Run", exact=True).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("two")
    page.keyboard.press("Enter")
    at("", run="two", step="")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Step back").click()
    at("", run="two", step="59")

    menu("Inspect")
    at("inspect", run="two", step="59")
    first = said(page, "pair")
    assert first
    page.get_by_text("Next pair", exact=True).first.click()
    until(lambda: said(page, "pair") not in ("", first), PATIENCE, lambda: address_of(page))
    second = said(page, "pair")

    menu("Compare")
    until(lambda: "two" in said(page, "runs").split(","), PATIENCE, lambda: address_of(page))
    menu("New run")
    at("new-run", run="")
    menu("Inspect")
    at("inspect", run="two", step="59", pair=second)
    menu("Live")
    at("", run="two", step="59")

    def back(path: str, **given: str) -> None:
        page.evaluate("history.back()")
        at(path, **given)

    back("inspect", run="two", step="59", pair=second)
    back("new-run")
    back("compare")
    back("inspect", run="two", step="59", pair=second)
    back("inspect", run="two", step="59", pair=first)
    back("", run="two", step="59")
    back("", run="two", step="")
    back("", run="one", step="")
    until(lambda: page.get_by_role("combobox", name="Run", exact=True).input_value() == "one", PATIENCE, lambda: body(page))
    page.evaluate("history.forward()")
    at("", run="two", step="")
    until(lambda: page.get_by_role("combobox", name="Run", exact=True).input_value() == "two", PATIENCE, lambda: body(page))


def test_a_link_to_a_run_that_is_gone_says_so(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    store_run("one", steps=60)
    for path in ("", "inspect"):
        page.goto(f"{dashboard}/{path}?run=gone&step=3&pair=nothing")
        until(lambda: "There is no run gone here (any more)" in body(page), PATIENCE, lambda: body(page))
        until(lambda: said(page, "run") == "one", PATIENCE, lambda: address_of(page))
