"""How long the Live page takes to its first picture while a run trains: a browser without a cache, a lab that was just started.

    python -m tests.bench.bench_first_picture [--rounds 4] [--executor thread|process] [--tree FOLDER]

The lab is started as `make lab` starts it, with a run that trains in its process (thread) or beside it (process). In a browser with
an empty cache the page is opened, once as the first session of the server and then --rounds times. For each: seconds from the
navigation to the first figure with points, and number and bytes of the requests until then (the websocket's frames apart).
--tree measures another checkout of the project, to compare two of them in turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
DRAWN = """() => [...document.querySelectorAll(".lab-figure")]
  .some((figure) => figure.querySelector(".main-svg") && figure._fullData?.some((trace) => trace.x?.length > 1))"""
STARTING = 600.0
"""Seconds that the lab may take to start and to train its first steps."""


@dataclass
class Opening:
    """One opening of the page: seconds to its first picture; requests and their bytes; bytes of the websocket's frames."""

    seconds: float
    requests: int
    received: int
    frames: int


def open_page(driver: Any, address: str) -> Opening:
    """Open the page in a browser of its own, without a cache."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    browser = driver.chromium.launch(executable_path=chromium, args=QUIET)
    try:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        sizes: list[float] = []
        frames: list[int] = []
        devtools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(len(frame))))
        began = time.monotonic()
        page.goto(address, wait_until="commit", timeout=120_000)
        page.wait_for_function(DRAWN, polling=50, timeout=300_000)
        return Opening(time.monotonic() - began, len(sizes), round(sum(sizes)), sum(frames))
    finally:
        browser.close()


def measure(options: argparse.Namespace) -> list[Opening]:
    """Start the lab, wait until a run trains, and open its page again and again."""
    from playwright.sync_api import sync_playwright

    from tests.helpers import free_port

    port = free_port()
    tree = options.tree.resolve()
    env = {**os.environ, "PYTHONPATH": str(tree)}
    extra = ["--steps", "1000000"] if options.executor == "thread" else ["--no-demo"]
    server = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port), *extra], cwd=tree, env=env, stdout=subprocess.DEVNULL
    )
    run = None
    try:
        import lab

        if options.executor == "process":
            run = lab.train("sgdpo", steps=1_000_000, eval_every=0, executor="process", queue=False)
        deadline = time.monotonic() + STARTING
        while not any(found.step > 20 for found in lab.runs()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"No run trained within {STARTING:.0f} s.")
            time.sleep(0.5)
        with sync_playwright() as driver:
            return [open_page(driver, f"http://127.0.0.1:{port}/") for _ in range(1 + options.rounds)]
    finally:
        if run is not None:
            run.stop()
            run.wait(120)
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--executor", choices=("thread", "process"), default="thread")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-first-picture-") as scratch:
        os.environ["LAB_HOME"] = scratch
        first, *later = measure(options)
    print(f"\n{options.tree.resolve().name}, {options.executor} run; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| opening | seconds to the first picture | requests | MB | MB of frames |\n|---|---|---|---|---|")
    print(
        f"| first of the server | {first.seconds:.1f} | {first.requests} | {first.received / 1e6:.2f} | {first.frames / 1e6:.2f} |"
    )
    seconds = sorted(one.seconds for one in later)
    last = later[-1]
    listed = ", ".join(f"{value:.1f}" for value in seconds)
    print(
        f"| later, median | {statistics.median(seconds):.1f} ({listed}) | {last.requests} | {last.received / 1e6:.2f} "
        f"| {last.frames / 1e6:.2f} |"
    )


if __name__ == "__main__":
    main()
