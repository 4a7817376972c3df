"""What only a browser can show of the Inspect page: keys, numbers on hover, and a whole way through it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab
from tests.app.browsing import address_of, body
from tests.helpers import until

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='broken in'\"> ![](http://x.invalid/p.png)"
PATIENCE = 120
"""Seconds that a busy machine may take to import torch and to open a model."""


@pytest.fixture
def run(lab_home: Path, model_folder: Callable[[str], Path]) -> lab.Run:
    """A finished SGDPO run of hostile pairs."""
    rows = [{"prompt": f"Question {i}\n", "chosen": f"good {HOSTILE} {i}", "rejected": f"bad answer {i}"} for i in range(6)]
    settings = {"steps": 6, "batch_size": 2, "save_every": 3, "evaluate": False, "device": "cpu", "learning_rate": 1e-3}
    found = lab.train("sgdpo", rows, model_folder("llama"), background=False, **settings)
    assert found.state == "finished", found.error
    return found


def heading(page: Any) -> str:
    return str(page.get_by_text(re.compile(r"^Pair .*, version")).first.inner_text())


def changed(page: Any, before: str, read: Callable[[Any], str]) -> str:
    """What is read once it is another one."""
    return str(until(lambda: now if (now := read(page)) != before else "", PATIENCE, lambda: f"still {before}: {body(page)}"))


def test_the_way_through_the_page(run: lab.Run, dashboard: str, page: Any) -> None:
    page.goto(f"{dashboard}/inspect?run={run.dir.name}")
    page.locator(".lab-figure .main-svg").first.wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")  # keys pressed earlier fall on no button
    page.wait_for_timeout(1000)
    first = heading(page)
    # Keys: to the next pair and back, to an earlier step and back.
    page.keyboard.press("n")
    second = changed(page, first, heading)
    page.keyboard.press("p")
    assert changed(page, second, heading) == first
    page.keyboard.press("ArrowLeft")
    earlier = changed(page, first, heading)
    assert "step=" in address_of(page)
    page.keyboard.press("ArrowRight")
    assert changed(page, earlier, heading) == first
    page.keyboard.press("?")
    page.get_by_text("next pair of the list").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("next pair of the list").wait_for(state="hidden")
    # A heat map: numbers on hover, and the pair's text is text.
    page.get_by_text("Credit", exact=True).first.click()
    token = page.locator(".heat span").first
    token.wait_for()
    assert re.match(r"token 1 of \d+: credit [+-]", token.get_attribute("title"))
    assert "<img src=x" in page.locator(".heat").first.inner_text()
    # Another text: typing in a field, the keys of the page do nothing; its numbers come, with the difference.
    page.get_by_role("tab", name="What if").click()
    field = page.get_by_label("Chosen answer")
    field.fill("")
    field.press_sequentially("no pain nor pen")
    field.press("Control+Enter")
    page.get_by_text("Edited text under the model after step 6").wait_for()
    assert heading(page) == first
    # One step on this pair: what it does to the others.
    page.get_by_role("tab", name="Virtual step").click()
    page.get_by_role("button", name="Take a virtual step").click()
    page.get_by_text("Helped most").wait_for()
    page.get_by_text("Others hurt").wait_for()
    assert "broken in" not in page.title()
