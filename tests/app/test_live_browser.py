"""What only a browser can show of the Live page: figures that are updated in place, offline, and keep the zoom."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.monitor import StoreWriter
from lab.run import Run
from tests.app.conftest import fill

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
STEPS = 100_000

FIGURE = """() => {
  const figure = document.querySelector(".lab-figure");
  figure.mark ??= Math.random();
  const steps = figure._fullData[0].x;
  return {mark: figure.mark, range: [...figure.layout.xaxis.range], last: steps[steps.length - 1],
          hidden: figure._fullData.some((trace) => trace.visible === "legendonly"), width: figure.getBoundingClientRect().width};
}"""


@pytest.fixture
def address(lab_home: Path) -> Iterator[str]:
    """A dashboard of its own, on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, env=os.environ.copy(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), "the dashboard listens", 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def page(address: str) -> Iterator[Any]:  # asks for the address so that it is closed before the dashboard is
    """A page of a real browser; an error in it, or a request that leaves this machine, fails the test."""
    if CHROMIUM is None:
        pytest.skip("No chromium is installed: `apt-get install chromium`, and run the browser tests again.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        wrong: list[str] = []
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        opened.on("request", lambda r: wrong.append(r.url) if "//127.0.0.1" not in r.url and r.url.startswith("http") else None)
        yield opened
        browser.close()
    assert not wrong


@pytest.fixture
def moving(store_run: Callable[..., Run]) -> Iterator[Run]:
    """A run that looks alive and goes on by twenty steps a second."""
    run = store_run("moving", state="running", steps=STEPS, done=200)
    store, ending = StoreWriter(run.dir), threading.Event()

    def train() -> None:
        step = 200
        while not ending.wait(0.05):
            step += 1
            fill(store, "sgdpo", range(step, step + 1), STEPS)
            store.status(step=step)

    thread = threading.Thread(target=train)
    thread.start()
    yield run
    ending.set()
    thread.join()
    store.close()


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def refreshes(page: Any, count: int) -> list[dict[str, Any]]:
    """The first figure's state after each of so many refreshes that brought new steps."""
    states = [page.evaluate(FIGURE)]
    deadline = time.monotonic() + 10 * count
    while len(states) <= count:
        assert time.monotonic() < deadline, f"only {len(states) - 1} refreshes"
        page.wait_for_timeout(100)
        state = page.evaluate(FIGURE)
        if state["last"] > states[-1]["last"]:
            states.append(state)
    return states[1:]


def zoom(page: Any) -> dict[str, Any]:
    """Drag over a part of the first figure; its state then."""
    area = page.locator(".lab-figure .nsewdrag").first.bounding_box()
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + 0.3 * area["width"], middle)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.6 * area["width"], middle + 3, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)
    return page.evaluate(FIGURE)


def test_zoom_survives_refreshes_and_a_pause(page: Any, address: str, moving: Run) -> None:
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{address}/?run={moving.dir.name}")
    page.wait_for_selector(".lab-figure .nsewdrag", timeout=60_000)
    first = page.evaluate(FIGURE)
    zoomed = zoom(page)
    assert zoomed["range"] != first["range"]
    received.clear()
    for state in refreshes(page, 6):
        assert state["range"] == zoomed["range"]
        assert state["mark"] == zoomed["mark"], "the same element, not a new one"
    assert sum(received) / 6 < 1_000_000, "a refresh carries figures and nothing else"
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Asked the run to pause").wait_for()
    assert page.evaluate(FIGURE)["range"] == zoomed["range"]
    assert page.evaluate(FIGURE)["mark"] == zoomed["mark"]
    area = page.locator(".lab-figure .nsewdrag").first
    area.dblclick()
    page.wait_for_timeout(500)
    assert page.evaluate(FIGURE)["range"] != zoomed["range"]


def test_a_figure_takes_the_width_it_is_given(page: Any, address: str, store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=30)
    page.goto(address)
    page.wait_for_selector(".lab-figure .nsewdrag", timeout=60_000)
    narrow = page.evaluate(FIGURE)["width"]
    page.set_viewport_size({"width": 1800, "height": 900})
    wait_until(lambda: page.evaluate("document.querySelector('.lab-figure .main-svg').clientWidth") > narrow * 1.3, "wider", 10)
