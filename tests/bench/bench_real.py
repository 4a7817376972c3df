"""A real model and real pairs, full fine-tuning on the CPU: pairs per second end to end and peak memory against TRL's.

    python -m tests.bench.bench_real --model FOLDER --pairs FILE.jsonl [--count 64] [--rounds 3]

FOLDER is a causal language model, for example SmolLM2-135M-Instruct as `make real` converts it. FILE has a prompt, a chosen and a
rejected text in every line; the first `--count` pairs are used whose texts fit 1,024 tokens, so that neither engine truncates.
One epoch of batches of 8 with DPO and AdamW in float32. Each engine runs in a process of its own and the engines alternate;
medians of all rounds. Timed: for TRL making the trainer and `train()`, for the lab the whole of `lab.train` with all checks,
records and gradient probes, without held-out evaluation (evaluate=False, held_out=0). The time of importing libraries is left out
for both; the peak is the resident memory of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from lab import process_settings
from tests.bench.bench_engine import BATCH, run_apart, run_lab, run_trl
from tests.bench.bench_memory import peak

ENGINES = ("TRL", "TRL, reference ahead", "lab")
LONGEST = 1024


def fitting_rows(model: Path, pairs: Path, count: int) -> list[dict[str, str]]:
    """Return the first `count` pairs whose prompt and longer answer fit LONGEST tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows: list[dict[str, str]] = []
    for line in pairs.read_text(encoding="utf-8").splitlines():
        row = {name: json.loads(line)[name] for name in ("prompt", "chosen", "rejected")}
        longest = max(len(tokenizer(row["prompt"] + row[side])["input_ids"]) for side in ("chosen", "rejected"))
        if longest < LONGEST:
            rows.append(row)
        if len(rows) == count:
            return rows
    raise SystemExit(f"{pairs} has only {len(rows)} pairs that fit {LONGEST} tokens; {count} are needed.")


def measure(engine: str, model: Path, pairs: Path, count: int) -> None:
    """Train in this process and print seconds and peak memory (MiB) as one line of JSON."""
    import datasets  # noqa: F401 - loaded before the clock starts, for both engines
    import transformers  # noqa: F401

    if engine != "lab":
        import trl  # noqa: F401

    process_settings.resume_collector()  # postponed by bench_engine until the libraries are there; for both engines
    rows = fitting_rows(model, pairs, count)
    if engine == "lab":
        seconds = run_lab(model, rows, evaluate=False, held_out=0.0)
    else:
        seconds = run_trl(model, rows, ahead="ahead" in engine)
    print(json.dumps({"seconds": seconds, "peak": peak()}))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", type=Path)
    options.add_argument("--pairs", type=Path)
    options.add_argument("--count", type=int, default=64)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    options.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.engine:
        measure(given.engine, given.model, given.pairs, given.count)
        return
    if given.model is None or given.pairs is None:
        print("Skipped: give --model and --pairs.")
        return
    arguments = ["--model", str(given.model), "--pairs", str(given.pairs), "--count", str(given.count)]
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in given.engines}
    for number in range(1, given.rounds + 1):
        for engine in given.engines:
            rounds[engine].append(run_apart("tests.bench.bench_real", ["--engine", engine, *arguments]))
            print(f"round {number}, {engine}: {rounds[engine][-1]}", file=sys.stderr, flush=True)
    print(f"| {given.count} pairs, batches of {BATCH} | pairs/s end to end | peak GiB |\n|---|---|---|")
    for engine, results in rounds.items():
        seconds = statistics.median(one["seconds"] for one in results)
        print(f"| {engine} | {given.count / seconds:.3f} | {statistics.median(one['peak'] for one in results) / 1024:.1f} |")


if __name__ == "__main__":
    main()
