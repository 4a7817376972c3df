"""The lab as people meet it: the real launcher, a real browser, a demo run that trains."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lab

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
PROBES = ("/_stcore/health", "/_stcore/host-config")
"""Addresses that Streamlit's own script tries at every level of the page's path until one answers."""
FIRST_START = 900.0
"""Seconds; where no other test has built the embedded world yet, the launcher does, beside whatever else the machine is doing."""


@pytest.fixture
def address(lab_home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a lab that `python -m app` has opened, with a demo run in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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


@contextmanager
def browser_page() -> Iterator[tuple[Any, list[str]]]:
    """A page of a fresh browser, and the list that every complaint of the browser is added to."""
    if CHROMIUM is None:
        pytest.skip("No chromium is installed; `apt-get install chromium` (or chrome on the PATH) lets this test run.")
    sync_playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright's Python package is not installed."
    ).sync_playwright
    complaints: list[str] = []

    def heard(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # those are heard below, with their address
            complaints.append(message.text)

    def answered(response: Any) -> None:
        if response.status >= 400 and not response.url.endswith(PROBES):
            complaints.append(f"{response.status} {response.url}")

    def asked(request: Any) -> None:
        if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:", request.url):
            complaints.append(f"asked for {request.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(30_000)
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", answered)
        page.on("request", asked)
        yield page, complaints
        browser.close()


def test_watch_pause_edit_reload(address: str) -> None:
    with browser_page() as (page, complaints):
        page.goto(address)
        first = until(lambda: step_on(page), 300, lambda: body(page))
        until(lambda: step_on(page) > first, 120, lambda: body(page))
        run = lab.open_run(until(lambda: re.search(r"[?&]run=([\w-]+)", page.evaluate("location.href")), 10, lambda: page.url)[1])

        page.get_by_role("button", name="Pause").click()
        until(lambda: run.state == "paused", 60, lambda: run.state)
        held = run.step
        until(lambda: "Paused" in body(page) and step_on(page) == held, 20, lambda: body(page))

        page.get_by_role("link", name="Pairs").click()
        store = lab.open_pairs("world")
        open_third_pair(page)
        id = until(lambda: re.search(r"[?&]pair=([\w-]+)", page.evaluate("location.href")), 20, lambda: body(page))[1]
        assert id == store.ids()[2]
        page.get_by_role("tab", name="Edit").click()
        page.get_by_label("Chosen answer").fill("Edited in the browser: <b>bold</b> $x$ ![](http://x.invalid/p.png)")
        page.get_by_role("button", name="Save").click()
        until(lambda: store.get(id).version == 2, 20, lambda: body(page))

        page.reload()
        until(lambda: "version 2" in body(page), 30, lambda: body(page))
        edited = page.locator(".answer.chosen").first
        assert edited.inner_text() == "Edited in the browser: <b>bold</b> $x$ ![](http://x.invalid/p.png)"
        assert edited.locator("b, img, .katex").count() == 0
        assert "Undo takes back the edit of pair" in body(page)

        page.get_by_role("link", name="Live").click()
        until(lambda: "Paused" in body(page) and step_on(page) == held, 30, lambda: body(page))
        page.reload()
        until(lambda: "Paused" in body(page) and step_on(page) == held, 30, lambda: body(page))
        assert run.state == "paused"
        assert "Traceback" not in body(page)
        assert complaints == []


def open_third_pair(page: Any) -> None:
    """Click the third line of the list, which is drawn on a canvas."""
    table = page.get_by_test_id("stDataFrame")
    table.wait_for()
    rows, header = 35, 35
    until(lambda: page.locator("[data-testid=stDataFrame] canvas").count() > 0, 20, lambda: body(page))
    time.sleep(1)  # the canvas is drawn after it is there
    table.click(position={"x": 300, "y": header + 2.5 * rows})


def body(page: Any) -> str:
    return page.inner_text("body")


def step_on(page: Any) -> int:
    """The step that the page shows, 0 if there is none yet."""
    found = re.search(r"Step ([\d,]+) of", body(page))
    return int(found[1].replace(",", "")) if found else 0


def until(find: Callable[[], Any], seconds: float, say: Callable[[], str]) -> Any:
    """What `find` returns once it is true; fails with what `say` returns when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain. {say()[-3000:]}")
        time.sleep(0.2)
    return found
