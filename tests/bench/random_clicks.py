"""Seeded random clicks, keys and nonsense values on every page of the dashboard.

    python -m tests.bench.random_clicks --minutes 60 --seed 1

Starts a dashboard of its own with a LAB_HOME of its own and three small runs in it, and drives it in chromium. After every action:
is the server up, does the page show neither a traceback nor nothing at all, is the browser's console free of errors, is every run
still there? The log has every action, so that a failure can be done again; screenshots of failures lie beside it. Runs that the
clicks start are stopped after `clicking.LONGEST_RUN` seconds. Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.clicking import MEMORY, ROOT, Clicker, Failure, Server
from tests.bench.nonsense import FILES


def prepare(home: Path, seed: int) -> None:
    """Three small runs in a fresh LAB_HOME: twins, and one of another objective."""
    for message in (("dpo", "--twin", "sgdpo"), ("spo",)):
        command = [sys.executable, "-m", "lab", "train", "--objective", *message, "--steps", "30", "--batch-size", "4"]
        command += [
            "--eval-every",
            "15",
            "--eval-prompts",
            "4",
            "--eval-pairs",
            "20",
            "--save-every",
            "10",
            "--seed",
            str(seed % 1000),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"LAB_HOME": str(home)}, cwd=ROOT)


def listen(page: Any, complaints: list[str]) -> None:
    """Collect the page's errors and failed requests."""

    def on_console(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def on_response(response: Any) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status} {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
    page.on("response", on_response)


def drive(options: argparse.Namespace, folder: Path, note: Callable[[str], None]) -> tuple[int, Counter[str], Counter[str]]:
    """Click until the time is over; returns the number of actions, the pages seen, and the failures by kind."""
    from playwright.sync_api import Error, sync_playwright

    from tests.app.conftest import CHROMIUM, QUIET

    rng = random.Random(options.seed)
    files = []
    for name, content in FILES.items():
        files.append(folder / "files" / name)
        files[-1].parent.mkdir(exist_ok=True)
        files[-1].write_bytes(content)
    server = Server(folder / "home", folder / "server.txt")
    server.start()
    failures: Counter[str] = Counter()
    count, began = 0, time.monotonic()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=rng.choice(("light", "dark")))
            page.set_default_timeout(10_000)
            clicker = Clicker(rng, server, page, files, note)
            listen(page, clicker.complaints)
            page.goto(server.address, timeout=120_000)
            actions = clicker.actions()
            while time.monotonic() - began < 60 * options.minutes and count < options.actions:
                count += 1
                action = rng.choices(list(actions), list(actions.values()))[0]
                lacking: Failure | None = None
                try:
                    message = action()
                except Failure as failure:  # what every page must have is missing
                    message, lacking = f"{action.__name__}: {failure.kind}", failure
                except Error as error:  # what was to be clicked has gone, is covered, or cannot be edited
                    message = f"{action.__name__}: not possible ({str(error).splitlines()[0][:100]})"
                note(f"{count} {time.monotonic() - began:.0f}s {page.url[len(server.address) :][:150]} | {message}")
                try:
                    if lacking:
                        raise lacking
                    clicker.settle()
                    clicker.check()
                except (Failure, Error) as failure:
                    kind = failure.kind if isinstance(failure, Failure) else f"the page does not answer: {str(failure)[:200]}"
                    failures[kind] += 1
                    note(f"FAILURE {count}: {kind}\n{getattr(failure, 'detail', '')}")
                    recover(page, server, clicker, folder / f"failure-{count}.png")
            seen = clicker.visited
            browser.close()
    finally:
        server.stop()
    return count, seen, failures


def recover(page: Any, server: Server, clicker: Clicker, picture: Path) -> None:
    """A picture of the failure, and a page and server that work again."""
    from playwright.sync_api import Error

    with contextlib.suppress(Error):
        page.screenshot(path=str(picture))
    assert server.process is not None
    if server.process.poll() is not None or not server.answers() or server.memory() > MEMORY:
        server.stop()
        server.start()
    try:
        page.goto(server.address, timeout=120_000)
    except Error as error:
        clicker.note(f"  ({error})")
    clicker.complaints.clear()


def main() -> int:
    """Returns the exit code."""
    p = argparse.ArgumentParser(prog="python -m tests.bench.random_clicks", description=(__doc__ or "").splitlines()[0])
    p.add_argument("--minutes", type=float, default=60.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--actions", type=int, default=10**9, help="stop after so many actions, if the time is not over before")
    p.add_argument("--folder", type=Path, help="of the log, the pictures and LAB_HOME (default: a new temporary folder)")
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server is stopped on the way out
    folder = options.folder or Path(tempfile.mkdtemp(prefix="random-clicks-"))
    (folder / "home").mkdir(parents=True, exist_ok=True)
    os.environ["LAB_HOME"] = str(folder / "home")
    print(f"Log and pictures: {folder}", flush=True)
    prepare(folder / "home", options.seed)
    with (folder / "trace.txt").open("w", encoding="utf-8", errors="backslashreplace") as log:

        def note(message: str) -> None:
            print(message, file=log, flush=True)
            if message.startswith("FAILURE"):
                print(message.splitlines()[0], flush=True)

        count, seen, failures = drive(options, folder, note)
    print(f"{count:,} actions with seed {options.seed}; pages: {', '.join(f'/{path} {n:,}' for path, n in seen.most_common())}")
    print(f"{failures.total()} failures" + "".join(f"\n  {n} x {kind}" for kind, n in failures.most_common()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
