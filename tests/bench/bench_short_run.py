"""Seconds of the processors of a short run from the command line, with and without Python's garbage collector while libraries load.

    OMP_NUM_THREADS=1 python -m tests.bench.bench_short_run [--rounds 5] [--steps 24]

DPO on the embedded world, 8 pairs a step, no evaluation; a new process for every run, the two ways alternating. Medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

WAYS = {
    "the collector as Python starts it": "from lab import process_settings; process_settings.postpone_collector = lambda: None; ",
    "postponed until the model is loaded": "",
}


def run_once(before: str, steps: int) -> tuple[float, float]:
    """Train in a new process; return its seconds of the processors and its largest memory in bytes."""
    with tempfile.TemporaryDirectory() as place:
        arguments = ["train", "--objective", "dpo", "--run-dir", str(Path(place) / "run"), "--steps", str(steps),
                     "--batch-size", "8", "--evaluate", "false", "--device", "cpu", "--no-queue"]  # fmt: skip
        script = f"import sys; {before}sys.argv[1:] = {arguments}; from lab.__main__ import main; main()"
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the run ended with {process.returncode}")
        return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    run_once("", 1)  # the world is built, and the reference's log-probs are cached
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, before in WAYS.items():
            results[way].append(run_once(before, options.steps))
    print("| garbage collector | seconds of the processors | peak of the process |\n|---|---:|---:|")
    for way, made in results.items():
        print(f"| {way} | {median(s for s, _ in made):.2f} | {median(b for _, b in made) / 2**20:.0f} MiB |")


if __name__ == "__main__":
    main()
