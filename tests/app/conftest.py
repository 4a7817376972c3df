"""Runs filled by hand, so that a page can be tested without training; a dashboard, and a page of a real browser to look at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import home
from lab.run import RunLock
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.store import ENDED, LayerRow, StoreWriter
from lab.training.metrics import batch_scalars
from lab.training.run_folder import create_run
from tests.app.pages import MAIN
from tests.helpers import free_port, until

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]

TERMS = {
    "sgdpo": ("pilot_chosen", "pilot_rejected", "logit", "logit_chosen", "logit_rejected"),
    "alpha_dpo": ("logit", "target_margin", "gap", "z"),
    "dpo": ("logit",),
    "spo": ("logit", "degree"),
}
"""Terms that an objective adds to those every objective has."""

HOSTILE_MARKUP = "**bold** :red[x] ![](http://example.invalid/x.png)"
SAMPLE_PROMPT = "# <b>A prompt</b> with $x$ and ![](http://example.invalid/x.png)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser and a server that share two cores with other tests may be late: what fails in a browser is tried again."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=2))


@dataclass
class StoreRun:
    """Makes runs; keeps the locks of the living ones until the test is over."""

    locks: list[RunLock] = field(default_factory=list)

    def __call__(
        self,
        name: str = "demo",
        *,
        state: str = "finished",
        objective: str = "sgdpo",
        steps: int = 100,
        done: int | None = None,
        batch_size: int = 8,
        seed: int = 0,
        evaluations: bool = True,
        layers: bool = True,
        warnings: tuple[str, ...] = (),
        error: str | None = None,
        pairs: str = "world",
        **status: Any,
    ) -> Run:
        """A run in `LAB_HOME/runs/<name>` that looks as if it had trained `done` steps.

        state: what its store says; in a living state the run's lock is held. "crashed" writes "running" and holds no lock.
        pairs: name of the set of pairs that it says it trained on; nothing makes that set.
        status: further facts for the store, such as stage and stage_share.
        """
        done = (steps if state == "finished" else steps // 2) if done is None else done
        folder = home.runs_dir() / name
        config = TrainConfig.parse(objective=objective, steps=steps, batch_size=batch_size, seed=seed)
        pairs_store = str(home.home() / "pairs" / f"{pairs}.sqlite")
        create_run(folder, config, pairs_store=pairs_store, pairs_version=0, pairs_name=pairs)
        if state not in ENDED:
            self.locks.append(RunLock(folder))
        store = StoreWriter(folder)
        fill(store, objective, range(1, done + 1), steps, batch_size, layers=layers, seed=seed)
        for message in warnings:
            store.event(done, "warning", message=message)
        if evaluations and done:
            evaluate(store, done, seed)
        told: dict[str, Any] = {"step": done, "seconds": 0.1 * done, "remaining": 0.1 * (steps - done), "stage": "training"}
        store.status(**told | status, state="running" if state == "crashed" else state, error=error)
        store.close()
        return Run(folder)


def fill(
    store: StoreWriter, objective: str, trained: range, steps: int, batch_size: int = 8, *, layers: bool = True, seed: int = 0
) -> None:
    """Numbers of the right names and shapes for some steps: rewards that part, log-probs that fall, spikes in the loss."""
    for step in trained:
        share, rng = step / steps, np.random.default_rng(step + 10**6 * seed)

        def around(mean: float, spread: float = 0.2, rng: np.random.Generator = rng) -> np.ndarray:
            return rng.normal(mean, spread, batch_size).astype(np.float32)

        terms = {
            "loss": around(0.69 - 0.3 * share, 0.05) + (2.0 if step % 97 == 50 else 0.0),
            "logps_chosen": around(-40 - 5 * share, 4),
            "logps_rejected": around(-45 - 20 * share, 4),
            "reward_chosen": around(0.5 * share),
            "reward_rejected": around(-1.5 * share),
            "log_ratio_chosen": around(5 * share, 2),
            "log_ratio_rejected": around(-15 * share, 2),
            **{term: around(share, 0.5) for term in TERMS[objective]},
            "weight_chosen": around(0.05 - 0.03 * share, 0.005),
            "weight_rejected": around(0.05 - 0.02 * share, 0.005),
        }
        rates = {"learning_rate": 1e-4 * (1 - share), "grad_norm": 1 + share, "epoch": share, "num_tokens": 300.0 * step}
        store.scalars(step, batch_scalars(terms) | rates | {"pairs_per_second": 80 + 5 * rng.normal(), "probe_cost": 0.04})
        pairs = [f"pair-{(step * batch_size + i) % 40:03d}" for i in range(batch_size)]
        store.pair_terms(step, pairs, [0] * batch_size, terms)
        if layers and step % 10 == 1:
            names = ["embed_tokens", "layers.0", "layers.1", "norm"]
            store.layers(step, [LayerRow(n, 0.2 + share, 0.3 + share, -0.9 + share) for n in names])
        if step % 50 == 0:
            store.event(step, "checkpoint", folder=f"step-{step:06d}")


def evaluate(store: StoreWriter, done: int, seed: int = 0) -> None:
    """What the world's oracle said before and after; every seed is better by 0.1 than the one before."""
    for step, reward in ((0, 0.31 + 0.1 * seed), (done, 0.62 + 0.1 * seed)):
        scalars = {"eval/oracle_reward": reward, "eval/valid": 0.8, "eval/kl": 0.01 * step, "eval/completions/mean_length": 21.0}
        scalars |= {"eval/win_rate": 0.5 + 0.001 * step, "eval/rewards/margins": 0.02 * step, "eval/rewards/accuracies": 0.7}
        answers = {"answer": f"An answer after {step} steps. **bold** :red[x]", "reference_answer": f"Reference {HOSTILE_MARKUP}"}
        samples = [{"prompt": SAMPLE_PROMPT, **answers, "reward": reward, "reference_reward": 0.25}]
        store.scalars(step, scalars)
        store.event(step, "evaluation", **scalars, reward_low=reward - 0.05, reward_high=reward + 0.05, samples=samples)


@pytest.fixture(scope="session", autouse=True)
def streamlit_options() -> None:
    """The options of app/.streamlit/config.toml, which `AppTest` does not read by itself."""
    from streamlit import config

    config._main_script_path = MAIN
    config.get_config_options(force_reparse=True)


@pytest.fixture
def store_run() -> Iterator[Callable[..., Run]]:
    """Makes runs that were filled by hand; see `StoreRun`."""
    make = StoreRun()
    yield make
    for lock in make.locks:
        lock.release()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


@pytest.fixture
def dashboard(lab_home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard without a demo run, on a free port of this machine."""
    port, log = free_port(), tmp_path / "dashboard.txt"
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=ROOT, env=os.environ.copy(), stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: _answers(port), 240, log.read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # on a machine that is busy otherwise it may still be starting
            server.kill()
            server.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a fresh browser. An error in it, or a request that leaves this machine, fails the test.

    Ask for it behind the dashboard, so that it is closed before.
    """
    if CHROMIUM is None:
        pytest.skip("No chromium is installed; `apt-get install chromium` (or chrome on the PATH) lets this test run.")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed.")
    complaints: list[str] = []

    def heard(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # those are heard below, with their address
            complaints.append(message.text)

    def answered(response: Any) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status} {response.url}")

    def asked(request: Any) -> None:
        if not re.match(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:", request.url):
            complaints.append(f"asked for {request.url}")

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page(viewport={"width": 1280, "height": 800})
        opened.set_default_timeout(120_000)
        opened.on("console", heard)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("response", answered)
        opened.on("request", asked)
        yield opened
        browser.close()
    assert complaints == []
