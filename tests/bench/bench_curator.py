"""A curator's hour in a real browser: 20 planted defects among 3,000 pairs, found and repaired by the keyboard.

    python -m tests.bench.bench_curator [--seed 1] [--json FILE]

Runs the checks on the embedded world with planted defects, opens the review of every pair with a finding, and judges each pair by
one key, as the finding proposes: `f` applies its remedy, `n` passes a pair whose finding is no planted defect (a curator sees that
from the texts; the script, from the truth). Every keystroke counts one second, as of a person, beside the time the page takes.
Printed: defects found and repaired, keystrokes per repair, the page's time per keystroke, and the simulated time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.clicking import Server

KINDS = ("duplicate", "contradiction", "truncated_answer", "prompt_leak", "role_marker", "control_characters", "identical_sides")
"""Kinds of defects that the script plants, as many as there are."""
MOST = 2000
"""Keystrokes after which the trial ends as failed."""
SECOND = 1.0
"""Seconds that a person takes for a keystroke."""


def prepare(seed: int, count: int) -> tuple[str, dict[str, str]]:
    """Make the set with defects and run the checks on it; return the store's file name and the defect of each pair."""
    import lab
    from lab import home
    from lab.evidence import DEFECTS, plant
    from lab.pairs import CHECKS, PairStore, findings

    kinds = [kind for kind in KINDS if kind in DEFECTS]
    numbers = {kind: count // len(kinds) + (number < count % len(kinds)) for number, kind in enumerate(kinds)}
    planted = plant(lab.open_pairs("world").all(), numbers, seed=seed)
    path = home.home() / "pairs" / "curated.sqlite"
    with PairStore.create(path, planted.pairs, name="curated", source="planted defects") as store:
        store.put_findings(findings(store.all()), checks=CHECKS)
    return path.name, {defect.pair_id: defect.kind for defect in planted.defects}


def review(page: Any, address: str, defects: dict[str, str]) -> list[float]:
    """Judge every pair with a finding by one key; return the seconds that the page took for each."""
    page.goto(f"{address}&view=review&finding=any")
    page.get_by_text("judged").first.wait_for(timeout=60_000)
    shown = "document.body.innerText.match(/Pair ([0-9a-f-]+), version/)?.[1] ?? ''"
    times: list[float] = []
    while id := page.evaluate(shown):
        began = time.perf_counter()
        page.keyboard.press("f" if id in defects else "n")
        page.wait_for_function(f"(id) => ({shown}) !== id", arg=id)
        times.append(time.perf_counter() - began)
        if len(times) > MOST:
            raise SystemExit(f"The review did not end within {MOST} keystrokes.")
    return times


def main() -> None:
    """Run the trial and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--defects", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_HOME"] = folder
        name, defects = prepare(options.seed, options.defects)
        server = Server(Path(folder), Path(folder) / "dashboard.txt")
        server.start()
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                times = review(page, f"{server.address}/pairs?pairs={name}", defects)
                browser.close()
        finally:
            server.stop()
        result = figures(name, defects, times)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def figures(name: str, defects: dict[str, str], times: list[float]) -> dict[str, Any]:
    """Return what was found, repaired, and how long it took."""
    from lab import home
    from lab.pairs import PairStore

    with PairStore(home.home() / "pairs" / name) as store:
        repaired = {entry.pair_id for entry in store.log() if entry.reason.startswith("check ")}
    hit = [id for id in defects if id in repaired]
    missed: dict[str, int] = {}
    for id, kind in defects.items():
        if id not in repaired:
            missed[kind] = missed.get(kind, 0) + 1
    return {
        "defects": len(defects),
        "repaired": len(hit),
        "missed by kind": missed,
        "keystrokes": len(times),
        "keystrokes per repair": round(len(times) / max(1, len(hit)), 2),
        "page seconds per keystroke, median": round(statistics.median(times), 3),
        "page seconds per keystroke, worst": round(max(times), 3),
        "simulated minutes": round((len(times) * SECOND + sum(times)) / 60, 2),
    }


if __name__ == "__main__":
    main()
