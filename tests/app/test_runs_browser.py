"""The Runs page in a real browser: by keyboard, while a run trains, with names that stay texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lab
from lab.run.handle import Run
from tests.app.browsing import address_of, body
from tests.app.conftest import HOSTILE_MARKUP
from tests.helpers import until

pytestmark = pytest.mark.browser

ROW = ".lab-rows tbody tr"


def test_runs_are_ticked_opened_deleted_and_restored(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    store_run("one", steps=20)
    two = store_run("two", steps=20, objective="dpo")
    lives = store_run("lives", steps=40, state="running")
    two.rename(f"<img src=x onerror=alert(1)> {HOSTILE_MARKUP}")
    page.goto(f"{dashboard}/runs?sort=objective&ascending=yes")
    rows = page.locator(ROW)
    until(lambda: rows.count() == 3, 120, lambda: body(page))
    assert rows.first.get_attribute("data-id") == "two"
    assert HOSTILE_MARKUP in rows.first.inner_text()
    assert not page.locator(f"{ROW} img").count()
    assert page.locator(f"{ROW} polyline").count() == 3

    rows.first.focus()
    for key in ("Space", "ArrowDown", "Space"):
        page.keyboard.press(key)
    page.get_by_text("2 ticked").wait_for()
    lives.tag("seen")  # from outside: the list follows, and keeps what is ticked and focused
    page.locator(ROW, has_text="seen").wait_for()
    assert page.locator(f"{ROW}.ticked").count() == 2
    page.get_by_role("button", name="Name", exact=True).click()
    until(lambda: "sort=name" in address_of(page), 30, lambda: address_of(page))
    page.locator("th[aria-sort=ascending]", has_text="Name").wait_for()
    assert page.locator(f"{ROW}.ticked").count() == 2

    page.locator(f"{ROW}[data-id=one]").focus()
    page.keyboard.press("Enter")
    page.get_by_text("sgdpo: beta").wait_for()
    note = page.get_by_label("Note")
    note.fill("Look at step 12.")
    note.press("Control+Enter")
    until(lambda: lab.open_run("one").labels.note == "Look at step 12.", 30)

    page.get_by_role("button", name="Untick").click()
    page.locator(f"{ROW}.ticked").first.wait_for(state="detached")
    page.get_by_role("checkbox", name="Tick run two").check()
    page.get_by_text("1 ticked").wait_for()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Move to the trash").click()
    until(lambda: [run.name for run in lab.trashed_runs()] == ["two"], 30, lambda: body(page))
    until(lambda: rows.count() == 2, 30, lambda: body(page))
    page.reload()
    page.get_by_text("Trash: 1 deleted run").click()
    page.get_by_label("Deleted runs").click()
    page.get_by_role("option", name="two").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Restore").click()
    until(lambda: len(lab.runs()) == 3, 30, lambda: body(page))

    until(lambda: rows.count() == 3, 30, lambda: body(page))
    rows.first.click()
    page.get_by_role("button", name="Live", exact=True).wait_for()
    page.locator("body").press("l")
    until(lambda: "Trained for" in body(page) and "run=" in address_of(page), 60, lambda: body(page))
