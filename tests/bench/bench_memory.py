"""Peak memory of a training step against TRL's, where the vocabulary is large.    python -m tests.bench.bench_memory

Vocabulary 128,000, hidden size 256, 2 layers, batches of 8 pairs, prompt and answer of 128 tokens each; float32 on the CPU, full
fine-tuning with DPO, 2 steps. Each engine runs in a process of its own; its peak resident memory is compared, and the same less
what the process held before it loaded a model (Python and libraries, alike for both).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.bench_engine import Size, make_model, make_rows, run_lab, run_trl

SIZE = Size(vocabulary=128_000, hidden=256, intermediate=688, layers=2)
ENGINES = ("TRL", "TRL, reference ahead", "lab")


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(engine: str, model: Path) -> None:
    """Train in this process and print what it took."""
    import datasets  # noqa: F401 - both engines load it; it belongs to what is there before
    import transformers  # noqa: F401

    rows = make_rows(16, 128, 128, SIZE.vocabulary, exact=True)
    before = peak()
    if engine == "lab":
        run_lab(model, rows, evaluate=False)
    else:
        run_trl(model, rows, ahead="ahead" in engine)
    print(json.dumps({"before": before, "peak": peak()}))


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]))
        return
    print("| engine | peak MiB | of TRL's best | less libraries | of TRL's best |\n|---|---|---|---|---|")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), SIZE)
        for engine in ENGINES:
            done = subprocess.run(
                [sys.executable, "-m", "tests.bench.bench_memory", engine, folder], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{engine} failed:\n{done.stderr[-2000:]}")
            found[engine] = json.loads(done.stdout.strip().splitlines()[-1])
    best = min((found[e] for e in ENGINES[:2]), key=lambda f: f["peak"])
    for engine, numbers in found.items():
        own, theirs = numbers["peak"] - numbers["before"], best["peak"] - best["before"]
        print(f"| {engine} | {numbers['peak']:.0f} | {numbers['peak'] / best['peak']:.2f} | {own:.0f} | {own / theirs:.2f} |")


if __name__ == "__main__":
    main()
