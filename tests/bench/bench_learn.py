"""How soon the fields of the Learn page answer a drag, a hover and an arrow key, in a real browser.

    python -m tests.bench.bench_learn [--moves 200] [--fields 3] [--slow 0.2] [--large]

A page with nothing but the fields is served. For every event the time from its arrival at the browser to the frame in which the
readout changed, painted, is measured in the page. While the point moves it is reported to Python five times a second; --slow is the
time that the rest of the page would take Python after each report.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.app.fields import NAMES, computed, served

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
LIMIT = 50.0
"""Milliseconds within which 95 % of the events should be answered."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=200)
    parser.add_argument("--fields", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--slow", type=float, default=0.2)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-learn-") as scratch, served(Path(scratch), computed(NAMES)) as address:
        answered = measure(address, options)
    print(f"\n{options.fields} fields of 61 x 61 points; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| event | answers | median ms | p95 ms | largest ms | p95 within 50 ms |\n|---|---|---|---|---|---|")
    for kind, times in answered.items():
        late = sorted(times)[int(0.95 * (len(times) - 1))] if times else float("nan")
        middle = statistics.median(times) if times else float("nan")
        print(f"| {kind} | {len(times)} | {middle:.1f} | {late:.1f} | {max(times, default=0):.1f} | {late <= LIMIT} |")


if __name__ == "__main__":
    main()
