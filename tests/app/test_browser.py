"""The lab as people meet it: the real launcher, a real browser, a demo run that trains."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from tests.app.browsing import address_of, body
from tests.app.conftest import ROOT
from tests.helpers import free_port, until

pytestmark = pytest.mark.browser

FIRST_START = 900.0
"""Seconds; where no other test has built the embedded world yet, the launcher does, beside whatever else the machine is doing."""


@pytest.fixture
def address(lab_home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a lab that `python -m app` has opened, with a demo run in it."""
    port = free_port()
    log = tmp_path / "launcher.txt"
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "app", "--port", str(port)], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: "The lab is at" in log.read_text() or launcher.poll() is not None, FIRST_START, log.read_text)
        assert launcher.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(60) == 0
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        launcher.kill()


def test_watch_pause_edit_reload(address: str, page: Any) -> None:
    page.goto(address)
    first = until(lambda: step_on(page), 300, lambda: body(page))
    until(lambda: step_on(page) > first, 120, lambda: body(page))
    run = lab.open_run(until(lambda: re.search(r"[?&]run=([\w-]+)", address_of(page)), 10, lambda: address_of(page))[1])

    page.get_by_role("button", name="Pause").click()
    until(lambda: run.state == "paused", 60, lambda: run.state)
    held = run.step
    until(lambda: "Paused" in body(page) and step_on(page) == held, 20, lambda: body(page))

    page.get_by_role("link", name="Pairs").click()
    store = lab.open_pairs("world")
    open_third_pair(page)
    id = until(lambda: re.search(r"[?&]pair=([\w-]+)", address_of(page)), 20, lambda: body(page))[1]
    assert id == store.ids()[2]
    page.get_by_role("tab", name="Edit").click()
    page.get_by_label("Chosen answer").fill("Edited in the browser: <b>bold</b> $x$ ![](http://x.invalid/p.png)")
    page.get_by_role("button", name="Save", exact=True).click()
    until(lambda: store.get(id).version == 2, 20, lambda: body(page))

    page.reload()
    until(lambda: "version 2" in body(page), 30, lambda: body(page))
    edited = page.locator(".answer.chosen").first
    assert edited.inner_text() == "Edited in the browser: <b>bold</b> $x$ ![](http://x.invalid/p.png)"
    assert edited.locator("b, img, .katex").count() == 0
    assert page.get_by_role("button", name="Undo").first.is_enabled()

    page.get_by_role("link", name="Live").click()
    until(lambda: "Paused" in body(page) and step_on(page) == held, 30, lambda: body(page))
    page.reload()
    until(lambda: "Paused" in body(page) and step_on(page) == held, 30, lambda: body(page))
    assert run.state == "paused"
    assert "Traceback" not in body(page)


def open_third_pair(page: Any) -> None:
    """Click the third line of the list."""
    page.locator(".lab-rows tbody tr").nth(2).click()


def step_on(page: Any) -> int:
    """The step that the page shows, 0 if there is none yet."""
    found = re.search(r"Step ([\d,]+) of", body(page))
    return int(found[1].replace(",", "")) if found else 0
