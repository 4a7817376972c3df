"""How soon the fields of the Learn page answer a drag, a hover, an arrow key and a slider, in a real browser.

    python -m tests.bench.bench_learn [--only fields|sliders] [--moves 200] [--fields 3] [--slow 0.2] [--large] [--slides 60]

Fields: a page with nothing but the fields is served. For every event the time from its arrival at the browser to the frame in which
the readout changed, painted, is measured in the page. While the point moves it is reported to Python five times a second; --slow is
the time that the rest of the page would take Python after each report.

Sliders: the whole dashboard is served. For every change of a slider, by an arrow key and by the end of a drag, the times from the
event's arrival at the browser to the painted frame with the new field, and with the new numbers in the formulas, are measured. On a
busy machine `chrt -r 1 python -m tests.bench.bench_learn` gives both programs the processors that a quiet one would.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.app.fields import NAMES, ROOT, computed, served

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
LIMIT, SLIDER_LIMIT = 50.0, 200.0
"""Milliseconds within which 95 % of the events should be answered: those of the fields, and those of a slider."""

PAGES = (("dpo", "sgdpo"), ("sgdpo", "alpha_dpo", "simpo"))
"""Objectives of the pages whose sliders are moved."""

# An event without an answer counts as one second; a message posted from an animation frame arrives after that frame was painted.
WATCH = """() => {
  window.answered = {drag: [], hover: [], key: []};
  const root = document.querySelector(".lab-fields");
  const readout = () => [...root.querySelectorAll("td.here, .under")].map((element) => element.textContent).join("|");
  const measure = (kind, event) => {
    const before = readout(), began = event.timeStamp;
    const look = () => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        const passed = performance.now() - began;
        if (readout() !== before || passed > 1000) window.answered[kind].push(passed); else look();
      };
      channel.port2.postMessage(0);
    });
    look();
  };
  document.addEventListener("pointermove", (event) => measure(event.buttons ? "drag" : "hover", event), true);
  document.addEventListener("keydown", (event) => measure("key", event), true);
}"""


def measure(address: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Drag, hover and press arrow keys; return the milliseconds of every answer by kind."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        received: list[int] = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
        page.goto(f"{address}/?count={options.fields}&slow={options.slow}&large={int(options.large)}")
        page.locator(".lab-fields td.here").first.wait_for(timeout=240_000)
        page.wait_for_timeout(2000)
        page.evaluate(WATCH)
        hit = page.locator(".lab-fields .hit").first
        hit.scroll_into_view_if_needed()
        box = hit.bounding_box()
        assert box is not None
        print(f"first picture: {sum(received) / 1e3:.0f} kB in {len(received)} frames")
        received.clear()
        for down in (False, True):
            move(page, box, options.moves, down=down)
        print(f"hover and drag: {sum(received) / 1e3:.0f} kB in {len(received)} frames")
        hit.focus()
        for k in range(options.moves):
            page.keyboard.press(("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown")[k // 10 % 4])
            page.wait_for_timeout(20)
        page.wait_for_timeout(500)
        answered: dict[str, list[float]] = page.evaluate("window.answered")
        browser.close()
    return answered


def move(page: Any, box: Any, moves: int, *, down: bool) -> None:
    """Move the mouse on a spiral over the plane, with its button pressed or not."""
    for k in range(moves):
        radius, angle = 0.45 * (0.2 + 0.8 * k / moves), k / 6
        x = box["x"] + box["width"] * (0.5 + radius * math.cos(angle))
        page.mouse.move(x, box["y"] + box["height"] * (0.5 + radius * math.sin(angle)))
        if down and k == 0:
            page.mouse.down()
        page.wait_for_timeout(20)
    if down:
        page.mouse.up()


# A new picture is an image that was not drawn before; formulas carry their source as text.
SLIDES = """() => {
  window.slid = {picture: [], numbers: []};
  const seen = new WeakSet(), drawImage = CanvasRenderingContext2D.prototype.drawImage;
  let pictures = 0;
  CanvasRenderingContext2D.prototype.drawImage = function (source, ...more) {
    if (!seen.has(source)) { seen.add(source); pictures += 1; }
    return drawImage.call(this, source, ...more);
  };
  const formulas = () => [...document.querySelectorAll("annotation")].map((element) => element.textContent).join("|");
  const measure = (event) => {
    const began = event.timeStamp, read = {picture: () => pictures, numbers: formulas};
    const before = {picture: pictures, numbers: formulas()}, open = new Set(Object.keys(read));
    const look = () => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => {
        const passed = performance.now() - began;
        for (const kind of open) {
          if (read[kind]() === before[kind] && passed < 2000) continue;
          window.slid[kind].push(passed);
          open.delete(kind);
        }
        if (open.size) look();
      };
      channel.port2.postMessage(0);
    });
    look();
  };
  document.addEventListener("keydown", measure, true);
  window.measureRelease = () => document.addEventListener("pointerup", measure, {capture: true, once: true});
}"""


def slide(options: argparse.Namespace) -> dict[str, list[float]]:
    """Move the first slider of two pages by keys and by drags; return the milliseconds of every answer by kind."""
    from playwright.sync_api import sync_playwright

    answered: dict[str, list[float]] = {}
    with dashboard() as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=QUIET)
        for objectives in PAGES:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{address}/learn?" + "&".join(f"{slot}={name}" for slot, name in zip("ABC", objectives)))
            page.locator(".lab-fields td.here").first.wait_for(timeout=240_000)
            page.wait_for_timeout(4000)
            page.evaluate(SLIDES)
            for kind in ("key", "drag"):
                move_slider(page, kind, options.slides)
                for what, times in page.evaluate("window.slid").items():
                    answered[f"{kind}, {' + '.join(objectives)}: {what}"] = times
                page.evaluate("window.slid = {picture: [], numbers: []}")
            page.close()
        browser.close()
    return answered


def move_slider(page: Any, kind: str, count: int) -> None:
    """Change the first slider of the page some times, back and forth."""
    slider = page.get_by_role("slider").first
    slider.focus()
    track = page.locator("[data-testid=stSlider]").first
    for k in range(count):
        if kind == "key":
            page.keyboard.press("ArrowRight" if k // 8 % 2 == 0 else "ArrowLeft")
        else:
            thumb, whole = track.get_by_test_id("stSliderThumbValue").locator("..").bounding_box(), track.bounding_box()
            page.mouse.move(thumb["x"] + thumb["width"] / 2, thumb["y"] + thumb["height"] / 2)
            page.mouse.down()
            page.mouse.move(whole["x"] + whole["width"] * (0.3 + 0.4 * (k % 5) / 4), thumb["y"] + thumb["height"] / 2, steps=4)
            page.evaluate("window.measureRelease()")
            page.mouse.up()
        page.wait_for_timeout(700)


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a dashboard with a folder of its own."""
    from tests.app.conftest import _answers
    from tests.helpers import free_port, until

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-learn-") as scratch, (Path(scratch) / "log.txt").open("w+") as log:
        command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
        environment = os.environ | {"LAB_HOME": scratch, "PYTHONPATH": str(ROOT)}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            until(lambda: _answers(port), 240)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(60)


def report(answered: dict[str, list[float]], limit: float) -> None:
    """Print one row per kind of event."""
    print(f"| event | answers | median ms | p95 ms | largest ms | p95 within {limit:g} ms |\n|---|---|---|---|---|---|")
    for kind, times in answered.items():
        late = sorted(times)[math.ceil(0.95 * len(times)) - 1] if times else float("nan")
        middle = statistics.median(times) if times else float("nan")
        print(f"| {kind} | {len(times)} | {middle:.1f} | {late:.1f} | {max(times, default=0):.1f} | {late <= limit} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("fields", "sliders"))
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--fields", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--slow", type=float, default=0.2)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--slides", type=int, default=60, help="changes of a slider on each page, by keys and by drags each")
    options = parser.parse_args()
    if options.only != "sliders":
        with tempfile.TemporaryDirectory(prefix="bench-learn-") as scratch, served(Path(scratch), computed(NAMES)) as address:
            answered = measure(address, options)
        print(f"\n{options.fields} fields of 61 x 61 points; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        report(answered, LIMIT)
    if options.only != "fields":
        answered = slide(options)
        print(f"\nThe whole page; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        report(answered, SLIDER_LIMIT)


if __name__ == "__main__":
    main()
