"""Seconds from a cold interpreter until pairs and runs are opened, checked or listed; at most 1.5 on a quiet machine.

    python -m tests.bench.bench_cold_start [--rounds 5] [--pairs FILE]

A set of 1,000 pairs, or those of FILE, which the first interpreter stores; one run. Medians of all rounds, with the import of torch
beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from tests.test_cold_start import COMMANDS, make_run, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["LAB_HOME"] = place
        pairs = options.pairs or make_pairs(Path(place) / "pairs.jsonl")
        make_run(Path(place))
        print("| from a cold interpreter | seconds |\n|---|---:|")
        for name, command in {**COMMANDS, "import torch": ("-c", "import torch")}.items():
            arguments = [part.format(pairs=str(pairs)).replace("; assert len(store) == 2", "") for part in command]
            print(f"| {name} | {statistics.median(seconds(*arguments) for _ in range(options.rounds)):.2f} |", flush=True)


def make_pairs(path: Path) -> Path:
    rows = [{"prompt": f"How {i}?", "chosen": f"Mix it well, {i}.", "rejected": "No idea."} for i in range(1000)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
