"""What a refresh of the Live page costs: the server on a big store, from a step to its picture, and the run beside an open tab.

    python -m tests.bench.bench_refresh [--steps 1000000] [--pairs 100000] [--refreshes 50] [--keep FOLDER]
                                        [--replay 60] [--rate 20] [--tab 20] [--rounds 3] [--only server,browser,tab]

server:  a store of --steps steps and --pairs pairs is written (or found in --keep), then a step is added and the figures of a tab
         are built as the page builds them, --refreshes times: median and 95th percentile by tab.
browser: a run goes on at --rate steps a second for --replay seconds before an open page (chromium). For every step the time from
         its writing to the first picture that has it; the heap after a collection, at every quarter.
tab:     the demo run is trained in the server's own process (thread), then one in a process of its own, for --rounds times --tab
         seconds without and with a page open; pairs per second, medians. First with everything on the cores there are; then (two
         cores or more, Linux) the training with one thread on a core of its own, the browser on another: what the page takes from a
         run where it does not take its cores.
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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
TABS = {
    "Curves": ["loss", "margins", "accuracy", "rewards", "logps", "log_ratios", "pilots", "weights"],
    "Pairs": ["plane", *(f"distribution:{t}" for t in ("pilot_chosen", "pilot_rejected", "weight_chosen", "weight_rejected"))],
    "Gradient": ["layers", "grad_norm", "learning_rate", "throughput", "probe_cost"],
}
TERMS = ("loss", "logps_chosen", "logps_rejected", "reward_chosen", "reward_rejected", "pilot_chosen", "pilot_rejected", "logit")
MORE_TERMS = ("log_ratio_chosen", "log_ratio_rejected", "weight_chosen", "weight_rejected")
Row = tuple[str, str, str]


def write_steps(store: Any, first: int, last: int, pairs: int, batch: int, probe_every: int) -> None:
    """Steps as SGDPO would leave them: every scalar and term of the default figures, of random numbers around a trend."""
    from lab.store import LayerRow
    from lab.training.metrics import batch_scalars

    rng = np.random.default_rng(first)
    ids = [f"pair-{i:06d}" for i in range(pairs)]
    names = [*TERMS, *MORE_TERMS]
    for step in range(first, last + 1):
        table = rng.normal(step / 1e6, 1.0, (len(names), batch)).astype(np.float32)
        terms = dict(zip(names, table))
        rates = {"learning_rate": 1e-4, "grad_norm": float(rng.random()), "pairs_per_second": 80.0, "probe_cost": 0.04}
        store.scalars(step, batch_scalars(terms) | rates)
        start = step * batch % pairs
        store.pair_terms(step, [ids[(start + i) % pairs] for i in range(batch)], [0] * batch, terms)
        if step % probe_every == 0:
            store.layers(step, [LayerRow(f"layers.{i}", *rng.random(3).tolist()) for i in range(12)])
        if step % (200 * probe_every) == 0:
            store.event(step, "checkpoint", folder=f"step-{step:06d}")
        store.status(step=step)
        if step % 2000 == 0:
            store.flush(600)


def make_run(name: str, steps: int) -> tuple[Any, Any]:
    """An empty run that looks alive, and its writer. The lock is kept by the run object, as `lock`."""
    from lab import home
    from lab.run import RunLock
    from lab.run.config import TrainConfig
    from lab.run.handle import Run
    from lab.store import StoreWriter
    from lab.training.run_folder import create_run

    folder = home.runs_dir() / name
    if not (folder / "run.json").exists():
        config = TrainConfig.parse(objective="sgdpo", steps=steps)
        store_path = str(home.home() / "pairs" / "world.sqlite")
        create_run(folder, config, pairs_store=store_path, pairs_version=0, pairs_name="world")
    lock, store = RunLock(folder), StoreWriter(folder)
    store.status(state="running", stage="training", seconds=1.0, remaining=1.0)
    store.event(0, "state", state="running")
    store.flush()
    run = Run(folder)
    run.lock = lock  # type: ignore[attr-defined]
    return run, store


def server_cost(options: argparse.Namespace) -> list[Row]:
    """Milliseconds of a refresh by tab."""
    from app.widgets import figure
    from lab.objectives import make_objective
    from lab.plots import Record, as_dicts, plane, plane_ranges, run_parts
    from lab.plots.landscapes.computed import field_over

    run, store = make_run("big", options.steps + 10_000)
    done = run.step
    if done < options.steps:
        write_steps(store, done + 1, options.steps, options.pairs, 8, max(options.steps // 5000, 1))
    store.flush(600)
    objective = make_objective("sgdpo")
    rows: list[Row] = []

    def build(record: Record, names: list[str]) -> None:
        record.refresh()
        for name in names:
            if name == "plane":
                frame = record.pairs()
                field = field_over(objective, *plane_ranges(frame), tokens=(20, 20), ref=(-2.0, -2.0))
                with as_dicts():
                    parts: Any = plane(frame, field, batch=record.step)
            else:
                parts = run_parts(record, name)
            figure.payload(parts, "/plotly.min.js")

    for tab, names in TABS.items():
        record, times = Record(run.reader), []
        build(record, names)
        for _ in range(options.refreshes):
            step = run.step + 1
            write_steps(store, step, step, options.pairs, 8, 10)
            store.flush()
            began = time.perf_counter()
            build(record, names)
            times.append(time.perf_counter() - began)
        rows.append(("server", f"{tab}: {len(names)} figures", spread(times)))
    store.close()
    run.lock.release()
    return rows


def spread(seconds: list[float]) -> str:
    """Median and 95th percentile in words."""
    return f"{1e3 * statistics.median(seconds):.0f} ms median, {1e3 * float(np.quantile(seconds, 0.95)):.0f} ms p95"


@contextmanager
def dashboard() -> Iterator[str]:
    """A server of its own for the time; its address."""
    from tests.helpers import free_port

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)], stdout=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


@contextmanager
def browser_page(address: str) -> Iterator[Any]:
    """A page of chromium at an address, once its figures are drawn."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*QUIET, "--enable-precise-memory-info"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        deadline = time.monotonic() + 300
        while True:  # until the server listens
            try:
                page.goto(address, wait_until="commit", timeout=120_000)
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        page.wait_for_function("document.querySelectorAll('.lab-figure .main-svg').length >= 6", timeout=300_000)
        yield page
        browser.close()


PICTURES = """() => {
  window.pictures = [];
  const figure = document.querySelector(".lab-figure");
  figure.on("plotly_afterplot", () => {
    const x = figure._fullData[0].x;
    window.pictures.push([Date.now() / 1000, x[x.length - 1]]);
  });
}"""


def browser_cost(options: argparse.Namespace) -> list[Row]:
    """From a step to its picture, and the heap."""
    steps = int(options.replay * options.rate)
    run, store = make_run(f"replay-{os.getpid()}", steps + 1000)
    write_steps(store, 1, 200, 1000, 8, 10)
    store.flush()
    written: dict[int, float] = {}

    def train() -> None:
        began = time.monotonic()
        for number in range(steps):
            time.sleep(max(0.0, began + number / options.rate - time.monotonic()))
            step = 201 + number
            write_steps(store, step, step, 1000, 8, 10)
            written[step] = time.time()

    heaps = []
    with dashboard() as address, browser_page(f"{address}/?run={run.dir.name}") as page:
        page.evaluate(PICTURES)
        devtools = page.context.new_cdp_session(page)

        def heap() -> float:
            devtools.send("HeapProfiler.collectGarbage")
            return float(page.evaluate("performance.memory.usedJSHeapSize")) / 1e6

        thread = threading.Thread(target=train)
        thread.start()
        while thread.is_alive():
            page.wait_for_timeout(1000 * options.replay / 4)
            heaps.append(heap())
        page.wait_for_timeout(3000)
        pictures = page.evaluate("window.pictures")
    store.close()
    run.lock.release()
    late = []
    for step, when in written.items():
        shown = next((at for at, last in pictures if last >= step), None)
        if shown is not None:
            late.append(shown - when)
    missing = len(written) - len(late)
    return [
        ("browser", f"{steps} steps at {options.rate} a second: step to picture", spread(late)),
        ("browser", "steps without a picture of their own or a later one", f"{missing}"),
        ("browser", "heap after a collection, by quarter", ", ".join(f"{size:.0f} MB" for size in heaps)),
    ]


def tab_cost(options: argparse.Namespace) -> list[Row]:
    """Pairs per second of a thread run and of a process run, without and with an open tab."""
    can_pin = hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1
    ways = (False, True) if can_pin else (False,)
    return [_tab(options, executor, apart) for apart in ways for executor in ("thread", "process")]


def _tab(options: argparse.Namespace, executor: str, apart: bool) -> Row:
    """apart: what trains has a core of its own, with one thread; the browser, and the server where it does not train, another."""
    import psutil

    import lab
    from tests.helpers import free_port

    port, endless = free_port(), 1_000_000
    before = dict(os.environ)
    if apart:
        os.environ["OMP_NUM_THREADS"] = "1"
    extra = ["--steps", str(endless)] if executor == "thread" else ["--no-demo"]
    server = subprocess.Popen([sys.executable, "-m", "app", "--port", str(port), *extra], stdout=subprocess.DEVNULL)
    if apart:
        os.sched_setaffinity(server.pid, {0 if executor == "thread" else 1})
    try:
        if executor == "process":
            run = lab.train("sgdpo", steps=endless, eval_every=0, executor="process", queue=False)
        else:
            run = _wait(lambda: next((r for r in lab.runs() if r.state == "running"), None))
        _wait(lambda run=run: run.step > 20)
        if apart and executor == "process":
            for process in psutil.Process().children():
                if run.dir.name in " ".join(process.cmdline()):
                    _pin(process, 0)
        without, beside = [], []
        for _ in range(options.rounds):
            without.append(pace(run, options.tab))
            with browser_page(f"http://127.0.0.1:{port}/?run={run.dir.name}"):
                if apart:
                    for process in psutil.process_iter(["name"]):
                        if "chrom" in (process.info["name"] or ""):
                            _pin(process, 1)
                time.sleep(8)  # the page's first drawings are no refresh, and its pace has to settle
                beside.append(pace(run, options.tab))
        run.stop()
        run.wait(120)
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    one, other = statistics.median(without), statistics.median(beside)
    where = "the browser on a core of its own" if apart else "everything on the same cores"
    return ("tab", f"{executor} run, {where}: pairs/s alone, beside a tab", f"{one:.1f}, {other:.1f}: {1 - other / one:.1%} lost")


def _pin(process: Any, core: int) -> None:
    """Keep a process, with all its threads, on one core."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, {core})


def pace(run: Any, seconds: float) -> float:
    """Pairs per second of the steps in so long; the demo's evaluations between them do not count."""
    before = run.status
    time.sleep(seconds)
    after = run.status
    steps, spent = after["step"] - before["step"], after["seconds"] - before["seconds"]
    return float(steps * run.manifest["config"]["batch_size"] / max(spent, 1e-9))


def _wait(find: Callable[[], Any], seconds: float = 600) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:.0f} s in vain.")
        time.sleep(0.5)
    return found


PARTS = {"server": server_cost, "browser": browser_cost, "tab": tab_cost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--refreshes", type=int, default=50)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--replay", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--tab", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-refresh-") as scratch:
        os.environ["LAB_HOME"] = str((options.keep or Path(scratch)).resolve())
        rows = [row for part in options.only.split(",") for row in PARTS[part](options)]
    print(f"\n{options.steps:,} steps, {options.pairs:,} pairs; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| part | what | value |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
