"""What `tests.bench.random_clicks` does at random, and what it checks behind every action."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.nonsense import CLICKABLE, FIELDS, KEYS, LONE_HALF, NONSENSE

ROOT = Path(__file__).parents[2]
PAGES = {
    "": "Live",
    "inspect": "Inspect",
    "new-run": "New run",
    "runs": "Runs",
    "compare": "Compare",
    "pairs": "Pairs",
    "learn": "Learn",
}
LONGEST_RUN = 40.0
"""Seconds; a run that trains longer is stopped."""
PATIENCE = 30.0
"""Seconds until a page must have drawn something."""
MEMORY = 8 * 2**30
"""Bytes of resident memory; above it the server counts as failed and is started anew."""


@dataclass
class Failure(Exception):
    """Something that must not be. kind: a line that is the same for the same fault."""

    kind: str
    detail: str = ""


def must(what: str, do: Callable[[], Any]) -> Any:
    """Do what every page must allow; Playwright's error becomes a Failure that says what the page lacks."""
    from playwright.sync_api import Error

    try:
        return do()
    except Error as error:
        raise Failure(f"the page lacks {what}", str(error)[:2000]) from None


@dataclass
class Server:
    """The dashboard in a process of its own."""

    home: Path
    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    read: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        from tests.helpers import free_port

        self.port = free_port()
        command = [sys.executable, "-m", "app", "--no-demo", "--port", str(self.port), "--home", str(self.home)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 300
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"error: The dashboard did not start; its output is in {self.log}.")
            time.sleep(0.5)

    def answers(self, seconds: float = 5.0) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=seconds) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def memory(self) -> int:
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Raises Failure where the server has ended, hangs, or wrote a traceback since the last look."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise Failure("the server has ended", f"exit code {self.process.returncode}")
        if not self.answers(30):
            raise Failure("the server does not answer")
        if self.memory() > MEMORY:
            raise Failure("the server has outgrown its memory", f"{self.memory():,} bytes")
        text = self.log.read_text(errors="replace")
        new, self.read = text[self.read :], len(text)
        if "Traceback" in new:
            last = [line for line in new.splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
            raise Failure(f"traceback in the server's output: {last[-1][:200] if last else ''}", new[-4000:])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Clicker:
    """What is done at random, and what is checked behind it."""

    rng: random.Random
    server: Server
    page: Any
    files: list[Path]
    note: Callable[[str], None]
    complaints: list[str] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    began: dict[str, float] = field(default_factory=dict)
    visited: Counter[str] = field(default_factory=Counter)

    def actions(self) -> dict[Callable[[], str], int]:
        """Every action with how often it is taken; each returns what it did in words."""
        return {
            self.click: 40,
            self.type: 20,
            self.choose: 12,
            self.press: 8,
            self.menu: 8,
            self.deep_link: 4,
            self.history: 6,
            self.point: 6,
            self.upload: 3,
            self.start_small_run: 3,
            self.resize: 1,
        }

    def _visible(self, selector: str) -> list[Any]:
        """What can be reached: all that is visible, or while a dialog is open what stands in it."""
        dialog = self.page.query_selector("[role=dialog]")
        if dialog is not None and self.rng.random() < 0.3:
            self.page.keyboard.press("Escape")
            dialog = None
        return [one for one in (dialog or self.page).query_selector_all(selector) if one.is_visible()]

    def _words(self, element: Any) -> str:
        message = element.get_attribute("aria-label") or element.inner_text() or element.get_attribute("data-testid") or "?"
        return repr(" ".join(message.split())[:60])

    def click(self) -> str:
        """Anything that can be clicked."""
        there = self._visible(CLICKABLE)
        if not there:
            return "nothing to click"
        number = self.rng.randrange(len(there))
        message = self._words(there[number])
        there[number].click(timeout=3000, no_wait_after=True)
        return f"click {number} of {len(there)}: {message}"

    def type(self) -> str:
        """Nonsense into a field."""
        there = self._visible(FIELDS)
        if not there:
            return "no field"
        one = self.rng.choice(there)
        text = self.rng.choice((*NONSENSE, LONE_HALF))
        message = self._words(one)
        one.click(timeout=3000)
        self.page.keyboard.press("Control+a")
        if text == LONE_HALF:
            one.evaluate(
                """(field) => {
                  const kind = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
                  Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, "half \\ud800 of it");
                  field.dispatchEvent(new Event("input", {bubbles: true}));}"""
            )
        elif text:
            self.page.keyboard.insert_text(text)
        else:
            self.page.keyboard.press("Delete")
        end = self.rng.choice(("Enter", "Tab", "Control+Enter"))
        self.page.keyboard.press(end)
        return f"type {text[:60]!r} ({len(text)}) into {message}, {end}"

    def choose(self) -> str:
        """An option of a list."""
        there = self._visible("[role=combobox]")
        if not there:
            return "no list"
        one = self.rng.choice(there)
        message = self._words(one)
        one.click(timeout=3000)
        self.page.wait_for_timeout(200)
        options = self._visible("[role=option]")
        if not options or self.rng.random() < 0.3:
            text = self.rng.choice(("dpo", "aot", "sgdpo", "one", "zzz", "loss", "w", *NONSENSE[:12]))
            self.page.keyboard.press("Control+a")
            self.page.keyboard.insert_text(text)
            self.page.keyboard.press("Enter")
            return f"type {text!r} and Enter into the list {message}"
        option = self.rng.choice(options)
        label = self._words(option)
        option.click(timeout=3000)
        return f"choose {label} in {message}"

    def press(self) -> str:
        keys = [self.rng.choice(KEYS) for _ in range(self.rng.randint(1, 4))]
        for key in keys:
            self.page.keyboard.press(key)
        return f"keys {' '.join(keys)}"

    def menu(self) -> str:
        name = self.rng.choice(list(PAGES.values()))
        for _ in range(3):  # a dialog covers the menu, and may itself hold an open list
            self.page.keyboard.press("Escape")
        link = self.page.get_by_role("link", name=name, exact=False).first
        must(f"the menu's link to {name}", lambda: link.click(timeout=1000 * PATIENCE))
        return f"menu {name}"

    def deep_link(self) -> str:
        """An address with parameters that may mean nothing."""
        names = (
            "run",
            "runs",
            "pair",
            "pairs",
            "step",
            "sheet",
            "search",
            "show",
            "A",
            "B",
            "C",
            "log_x1",
            "tokens",
            "point",
            "batch",
            "view",
            "story",
            "seed",
        )
        values = (*sorted(self.runs), *NONSENSE[:-1])
        given = {name: self.rng.choice(values)[:500] for name in self.rng.sample(names, self.rng.randint(0, 4))}
        path = self.rng.choice((*PAGES, "live"))
        address = f"{self.server.address}/{path}"
        query = urllib.parse.urlencode(given, errors="replace")
        target = f"{address}?{query}" if query else address
        must(f"an answer at /{path}", lambda: self.page.goto(target, wait_until="commit", timeout=60_000))
        menu = self.page.get_by_role("link", name="Learn").first
        must(f"a menu at /{path}", lambda: menu.wait_for(timeout=60_000))
        return f"open /{path} with {json.dumps(given)[:300]}"

    def history(self) -> str:
        move = self.rng.choice(("back", "back", "forward", "reload"))
        if move == "back" and self.page.evaluate("history.length") < 3:
            move = "reload"
        {"back": self.page.go_back, "forward": self.page.go_forward, "reload": self.page.reload}[move](wait_until="commit")
        if not self.page.url.startswith(self.server.address):  # before the first page
            self.page.goto(self.server.address, wait_until="commit")
        return move

    def point(self) -> str:
        """A click, a double click or a drag anywhere."""
        size = self.page.viewport_size
        at = [(self.rng.randrange(size["width"]), self.rng.randrange(60, size["height"])) for _ in range(2)]
        kind = self.rng.choice(("click", "dblclick", "drag", "scroll"))
        if kind == "scroll":
            self.page.mouse.wheel(0, self.rng.randint(-1500, 1500))
        elif kind == "drag":
            self.page.mouse.move(*at[0])
            self.page.mouse.down()
            self.page.mouse.move(*at[1], steps=5)
            self.page.mouse.up()
        else:
            getattr(self.page.mouse, kind)(*at[0])
        return f"{kind} at {at}"

    def upload(self) -> str:
        there = self.page.query_selector_all("input[type=file]")
        if not there:
            return self.menu()
        file = self.rng.choice(self.files)
        self.rng.choice(there).set_input_files(str(file))
        return f"upload {file.name}"

    def start_small_run(self) -> str:
        must("an answer at /new-run", lambda: self.page.goto(f"{self.server.address}/new-run", wait_until="commit", timeout=60_000))
        steps = self.page.get_by_role("spinbutton", name="steps").first
        must("the steps of New run", lambda: steps.wait_for(timeout=60_000))
        number = self.rng.choice(("2", "5", "20"))
        steps.fill(number)
        steps.press("Enter")
        self.settle()
        start = self.page.get_by_role("button", name=re.compile("^Start the (run|twins)")).last
        must("a Start button on New run", lambda: start.wait_for(timeout=1000 * PATIENCE))
        if not start.is_enabled():  # nonsense that was entered before is kept, and refused with a sentence
            must("the sentence why New run cannot start", lambda: self.page.locator("[data-testid=stAlert]").first.wait_for())
            return "start a run: refused"
        must("a Start button that can be clicked", lambda: start.click(timeout=1000 * PATIENCE))
        return f"start a run of {number} steps"

    def resize(self) -> str:
        width = self.rng.choice((900, 1280, 1920))
        self.page.set_viewport_size({"width": width, "height": 800})
        return f"width {width}"

    def settle(self) -> None:
        """Wait until the page is drawn, but no longer than a person would."""
        deadline = time.monotonic() + 5
        self.page.wait_for_timeout(150)
        while time.monotonic() < deadline:
            if self.page.evaluate("document.querySelector('[data-testid=stApp]')?.dataset.testScriptState") == "notRunning":
                return
            self.page.wait_for_timeout(100)

    def check(self) -> None:
        """Raises Failure where something is wrong."""
        self.server.check()
        deadline = time.monotonic() + PATIENCE
        while not (main := self.page.evaluate("document.querySelector('[data-testid=stMain]')?.innerText ?? ''")).strip():
            if time.monotonic() > deadline:
                raise Failure("the page is blank", self.page.url)
            self.page.wait_for_timeout(200)
        self.visited[re.sub(r"^\w+://[^/]+/|\?.*", "", self.page.url)] += 1
        for broken in self.page.query_selector_all("[data-testid=stException]"):
            raise Failure(f"exception on the page: {broken.inner_text()[:200]}", main[-2000:])
        if "Traceback" in main:
            raise Failure("traceback on the page", main[-2000:])
        for dialog in self.page.query_selector_all("[role=dialog]"):
            if re.search(r"Connection error|Page not found|went wrong", message := dialog.inner_text()):
                raise Failure(f"dialog: {message[:200]}")
        if self.complaints:
            message = "; ".join(self.complaints)
            self.complaints.clear()
            raise Failure(f"the browser's console: {message[:300]}", message[:4000])
        self._check_runs()

    def _check_runs(self) -> None:
        import lab
        from lab.store import ENDED, RunError

        runs = {run.dir.name: run for run in lab.runs()}
        if lost := self.runs - runs.keys():
            self.runs -= lost
            raise Failure(f"lost runs: {sorted(lost)}")
        self.runs |= runs.keys()
        for name, run in runs.items():
            if run.state in ENDED:
                continue
            began = self.began.setdefault(name, time.monotonic())
            if time.monotonic() - began > LONGEST_RUN:
                self.began[name] = time.monotonic() + LONGEST_RUN  # asked once; again if it goes on for long
                try:
                    run.stop()
                    self.note(f"  (asked {name} to stop)")
                except RunError:  # it has ended
                    pass
