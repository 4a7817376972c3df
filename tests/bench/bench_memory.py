"""Peak memory of a training step against TRL's, where the vocabulary is large.

    python -m tests.bench.bench_memory [--rounds 3] [--vocabulary 128000]

Vocabulary 128,000, hidden size 256, 2 layers, batches of 8 pairs, prompt and answer of 128 tokens each; float32 on the CPU, full
fine-tuning with DPO, 2 steps; the lab without looks at held-out pairs and answers (evaluate=False). Each engine runs in a process
of its own, the engines alternate, medians of all rounds; its peak resident memory is compared, and the same less what the process
held before it loaded a model (Python and libraries, alike for both).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.bench.bench_engine import Size, make_model, make_rows, run_lab, run_trl

SIZE = Size(vocabulary=128_000, hidden=256, intermediate=688, layers=2)
ENGINES = ("TRL", "TRL, reference ahead", "lab")


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(engine: str, model: Path, vocabulary: int) -> None:
    """Train in this process and print what it took."""
    import datasets  # noqa: F401 - both engines load it; it belongs to what is there before
    import transformers  # noqa: F401

    rows = make_rows(16, 128, 128, vocabulary, exact=True)
    before = peak()
    if engine == "lab":
        run_lab(model, rows, evaluate=False)
    else:
        run_trl(model, rows, ahead="ahead" in engine)
    print(json.dumps({"before": before, "peak": peak()}))


def measured(engine: str, folder: str, vocabulary: int) -> dict[str, float]:
    """MiB before the model was there and at most, of an engine in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_memory", "--vocabulary", str(vocabulary), "--engine", engine, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--vocabulary", type=int, default=SIZE.vocabulary)
    options.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options.add_argument("model", nargs="?", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.engine:
        measure(given.engine, Path(given.model), given.vocabulary)
        return
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), replace(SIZE, vocabulary=given.vocabulary))
        for _ in range(given.rounds):
            for engine in ENGINES:
                rounds[engine].append(measured(engine, folder, given.vocabulary))
    found = {
        engine: {what: statistics.median(one[what] for one in measurements) for what in ("before", "peak")}
        for engine, measurements in rounds.items()
    }
    best = min((found[e] for e in ENGINES[:2]), key=lambda f: f["peak"])
    print("| engine | peak MiB | of TRL's best | less libraries | of TRL's best |\n|---|---|---|---|---|")
    for engine, numbers in found.items():
        own, theirs = numbers["peak"] - numbers["before"], best["peak"] - best["before"]
        print(f"| {engine} | {numbers['peak']:.0f} | {numbers['peak'] / best['peak']:.2f} | {own:.0f} | {own / theirs:.2f} |")


if __name__ == "__main__":
    main()
