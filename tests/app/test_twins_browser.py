"""Twins that are started in a browser lead to a Compare page that is filled, every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab
from tests.app.browsing import address_of, body
from tests.app.test_live_browser import FIGURES
from tests.helpers import until

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 300.0
"""Seconds; a process of its own imports torch first."""


@pytest.mark.parametrize("apart", [False, True], ids=["threads", "processes"])
def test_the_page_is_filled_after_every_start_of_twins(
    dashboard: str, page: Any, model_folder: Callable[[str], Path], rows: list[dict[str, str]], apart: bool
) -> None:
    quick: dict[str, Any] = {"steps": 3, "batch_size": 4, "evaluate": False, "device": "cpu"}
    lab.train("ipo", rows, model_folder("llama"), background=False, **quick)
    known = {run.dir.name for run in lab.runs()}
    for _ in range(2):
        page.goto(f"{dashboard}/compare")
        if len(known) > 1:
            page.get_by_text("Start twins", exact=True).first.click()
        page.get_by_text("New runs with the settings of a run").click()
        page.get_by_text("From step").wait_for(state="detached")
        if apart:
            page.get_by_text("Separate processes", exact=True).click()
            until(lambda: page.get_by_label("Separate processes").first.is_checked(), PATIENCE)
        page.get_by_role("button", name="Start the twins").click()
        until(lambda: len(lab.runs()) == len(known) + 2, PATIENCE, lambda: body(page))  # noqa: B023
        new = {run.dir.name for run in lab.runs()} - known
        known |= new

        def filled(new: set[str] = new) -> bool:
            shown = address_of(page).replace("%2C", ",").rpartition("runs=")[2].split(",")
            return set(shown) == new and bool(page.evaluate(FIGURES)) and all(name in body(page) for name in ("A dpo", "B sgdpo"))

        until(filled, PATIENCE, lambda: f"{address_of(page)} {body(page)}")
        page.wait_for_timeout(2000)
        assert filled(), body(page)
        until(lambda: all(run.state == "finished" for run in lab.runs()), PATIENCE, lambda: str([run.error for run in lab.runs()]))
        assert {run.status.get("executor") for run in lab.runs() if run.dir.name in new} == {"process" if apart else "thread"}
        assert filled(), body(page)
