"""Time of listing, filtering and sorting runs of `LAB_HOME`, in this process and in new ones.

    python -m tests.bench.bench_runs [--runs 1000] [--json FILE]

Makes real run folders (a few are recorded step by step, the others are copies with a manifest of their own), then measures
`lab.run.listing.index.list_runs` without an index, in a new process that reads the index, and again in the same process; a list
that is filtered and sorted by a scalar; and `lab.runs()`. Medians and the slowest of several repetitions, in milliseconds, and
processor time, which depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 200
RECORDED = 8
"""Runs that are recorded; the others are copies of them."""
REPEATS = 7

MEASURE = """
import json, time
import lab
from lab.run.listing.index import list_runs
from lab.run.listing.query import RunQuery, select

def milliseconds(call):
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)

began = time.process_time()
first = milliseconds(list_runs)
cpu_first = 1000 * (time.process_time() - began)
began = time.process_time()
again = [milliseconds(list_runs) for _ in range(5)]
cpu_again = 1000 * (time.process_time() - began) / 5
query = RunQuery("run dpo", states=("finished",), sort="eval/kl")
selected = [milliseconds(lambda: select(list_runs().runs, query)) for _ in range(5)]
handles = [milliseconds(lab.runs) for _ in range(5)]
times = {"first": first, "cpu_first": cpu_first, "again": again, "cpu_again": cpu_again, "selected": selected, "handles": handles}
print(json.dumps(times))
"""


def make_runs(count: int) -> None:
    """Make finished runs in `LAB_HOME`."""
    from lab import home
    from lab.run.config import TrainConfig
    from lab.store import StoreWriter
    from lab.training.run_folder import create_run
    from tests.app.conftest import evaluate, fill

    stored = {"pairs_store": "nowhere", "pairs_version": 0, "pairs_name": "world"}
    objectives = ("sgdpo", "dpo", "alpha_dpo", "spo")
    recorded = []
    for number in range(min(RECORDED, count)):
        folder = home.runs_dir() / f"run-{number:05d}"
        objective = objectives[number % len(objectives)]
        create_run(folder, TrainConfig.parse(objective=objective, steps=STEPS, seed=number), **stored)
        writer = StoreWriter(folder, interval=5)
        fill(writer, objective, range(1, STEPS + 1), STEPS)
        evaluate(writer, STEPS)
        writer.status(state="finished", stage="finished", step=STEPS, seconds=20.0, remaining=0)
        writer.close()
        recorded.append(folder)
    rng = random.Random(0)
    for number in range(len(recorded), count):
        folder = home.runs_dir() / f"run-{number:05d}"
        shutil.copytree(rng.choice(recorded), folder)
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        manifest["config"]["seed"] = number
        (folder / "run.json").write_text(json.dumps(manifest), encoding="utf-8")


def measured() -> dict[str, float]:
    """Measure in a new process."""
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True)
    values = json.loads(done.stdout)
    return {name: statistics.median(value) if isinstance(value, list) else value for name, value in values.items()}


def main() -> None:
    """Run the measurement and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LAB_HOME"], os.environ["LAB_CACHE"] = f"{folder}/home", f"{folder}/cache"
        make_runs(options.runs)
        without = measured()["first"]
        rounds = [measured() for _ in range(REPEATS)]
    result = {"runs": options.runs, "without an index": round(without)}
    labels = {"first": "new process", "again": "again", "selected": "filtered and sorted", "handles": "lab.runs()"}
    labels |= {"cpu_first": "new process, processor", "cpu_again": "again, processor"}
    for name, label in labels.items():
        values = [each[name] for each in rounds]
        result |= {label: round(statistics.median(values)), f"{label}, slowest": round(max(values))}
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
