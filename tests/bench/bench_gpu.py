"""The engine against TRL's DPOTrainer on a GPU: a Qwen2 shape of 0.5 B parameters, bf16, LoRA and full fine-tuning.

    python -m tests.bench.bench_gpu [--small] [--rounds 3] [--modes lora full] [--checkpointing off on] ...

Random weights (hidden 896, 24 layers, 14 heads, 2 of keys and values, intermediate 4,864, vocabulary 151,936, tied) and
random letters, all made here; nothing is fetched. Both engines train on the same pairs with DPO, AdamW and the same batch;
they alternate in one run; medians. The first steps of a run, which compile, are not timed. `--small`, and always where there is no
GPU: the same code with a tiny model in float32 on the CPU, which says nothing about a GPU.

Measured on one H100 (two rounds; README.md): the lab 2.8 times TRL's best with LoRA and 1.9 times in full, with 0.40 and 0.63 of
the memory, at 25 % and 29 % of the matrix rate. That host is slow (about 10 us to start a kernel), and engines that start thousands
a step wait for it; on a faster one TRL is nearer.

TRL runs with its best settings: bf16 autocast, under LoRA a base held in bf16 (as the lab holds it), Liger's kernels and
FlashAttention 2 where they can be imported, padding-free rows where the installed TRL has them (1.16 switches them off and
says so); the reference in every step, and ahead of all steps. The lab is `lab.train` with all that it records and
its gradient probes, without looks at held-out pairs and answers (evaluate=False) and without checkpoints on the way (save_every=0).

pairs/s   1 / (seconds of a step / its pairs + seconds of the reference ahead / its pairs), the first steps left out;
          loading the model, tokenising and writing checkpoints are in neither. Of TRL's reference ahead only the model's
          passes count, of the lab's everything.
peak      `torch.cuda.max_memory_reserved` of the whole run, loading and reference included: what is taken from the card. Tensors
          held less of it (in brackets); of recorded passes, which keep their memory, that number knows nothing.
share     useful operations of a pair times pairs/s, over the rate of a large matrix product measured between the runs.

Useful operations of a pair, p tokens of prompt and a of each answer, n = p + sum a, 2 operations per weight and token:
  body      2 n layers (2 hidden^2 + 2 hidden kv + 3 hidden intermediate),  kv = hidden kv_heads / heads
  attention 4 hidden layers (p^2/2 + sum(a p + a^2/2)): one token sees another, scores and sums
  head      2 hidden vocabulary sum a
A prompt is counted once, the vocabulary at answer tokens only, recomputation never. One forward pass is the reference's.
Training: full 3 (body + attention + head); LoRA 2 (body + head) + 3 attention + 3 adapter, as frozen weights need no
gradient; adapter 2 n rank times the sum over the linear maps of in + out.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench.engines import RANK, SKIPPED, Measured, Row, Setting, Shape, make_model, make_rows, run_lab, run_trl, synchronize

import torch  # isort: skip

SMALL = Shape(vocabulary=1024, hidden=64, intermediate=192, layers=2, heads=4, kv_heads=2)


def useful_operations(rows: list[Row], shape: Shape, mode: str) -> float:
    """Operations that training on a pair needs, reference included, mean over the pairs; see the top of this file."""
    hidden, kv, wide = shape.hidden, shape.kv, shape.intermediate
    weights = shape.layers * (2 * hidden**2 + 2 * hidden * kv + 3 * hidden * wide)
    low_rank = RANK * shape.layers * (2 * 2 * hidden + 2 * (hidden + kv) + 3 * (hidden + wide))
    total = 0.0
    for row in rows:
        p, answers = len(row["prompt"]), [len(row[side]) + 1 for side in ("chosen", "rejected")]
        tokens = p + sum(answers)
        body, adapter, head = 2 * weights * tokens, 2 * low_rank * tokens, 2 * hidden * shape.vocabulary * sum(answers)
        attention = 4 * hidden * shape.layers * (p * p / 2 + sum(a * p + a * a / 2 for a in answers))
        reference = body + attention + head
        training = 3 * reference if mode == "full" else 2 * (body + head) + 3 * (attention + adapter)
        total += reference + training
    return total / len(rows)


def matrix_rate(device: str) -> float:
    """Operations per second of a large matrix product: bf16 on a GPU, float32 on a CPU; median of ten after three."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(13):
        synchronize(device)
        began = time.perf_counter()
        torch.mm(a, b)
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds[3:])


def clean(device: str) -> int:
    """Forget the peak of the run before, and give its memory back; bytes that are still held (a peak contains them)."""
    gc.collect()
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_reserved()


Engine = Callable[[Path, list[Row], Setting], Measured]


def trl_engine(ahead: bool, liger: bool) -> Engine:
    return lambda model, rows, setting: run_trl(model, rows, setting, ahead=ahead, liger=liger)


def engines(gpu: bool, only: Sequence[str] = ()) -> dict[str, Engine]:
    """By name: the lab, and TRL with and without what it can be given here; those of `only` where it names some."""
    found: dict[str, Engine] = {"lab": run_lab}
    kernels = (False, True) if gpu and importlib.util.find_spec("liger_kernel") is not None else (False,)
    for liger in kernels:
        for ahead in (False, True):
            name = "TRL" + (", Liger" if liger else "") + (", reference ahead" if ahead else "")
            found[name] = trl_engine(ahead, liger)
    return {name: run for name, run in found.items() if not only or name in only}


def compare(model: Path, rows: list[Row], shape: Shape, setting: Setting, rounds: int, candidates: dict[str, Engine]) -> list[str]:
    """The rows of the table for one setting."""
    measured: dict[str, list[Measured]] = {name: [] for name in candidates}
    short: set[str] = set()
    left: dict[str, int] = {}
    rates = []
    for number in range(rounds):
        for name, run in candidates.items():
            if name in short:
                continue
            rates.append(matrix_rate(setting.device))
            held = clean(setting.device)
            try:
                found = run(model, rows, setting)
            except torch.OutOfMemoryError:
                short.add(name)
                continue
            print(f"<!-- {setting} {name}: round {number + 1}, {found} -->", file=sys.stderr, flush=True)
            measured[name].append(found)
            left[name] = max(left.get(name, 0), held)
    rate, useful = statistics.median(rates), useful_operations(rows, shape, setting.mode)
    seconds = {name: statistics.median(m.seconds for m in found) for name, found in measured.items() if found}
    peaks = {name: statistics.median(m.peak for m in found) for name, found in measured.items() if found}
    fastest = min((value for name, value in seconds.items() if name != "lab"), default=float("nan"))
    smallest = min((value for name, value in peaks.items() if name != "lab"), default=float("nan"))
    lines = []
    for name, found in measured.items():
        head = f"| {setting.mode} | {'on' if setting.checkpointing else 'off'} | {name} |"
        if name in short:
            lines.append(f"{head} out of memory | | | | | |")
            continue
        note = found[-1].note + (f"; {left[name] >> 20} MiB of earlier runs in the peak" if left[name] >> 26 else "")
        held = statistics.median(m.held for m in found)
        memory = f"{peaks[name] / 2**30:.1f} ({held / 2**30:.1f}) GiB | {peaks[name] / smallest:.2f}" if setting.gpu else "- | -"
        lines.append(
            f"{head} {1 / seconds[name]:.1f} | {fastest / seconds[name]:.2f} | {memory} | "
            f"{useful / seconds[name] / rate:.0%} of {rate / 1e12:.3g} TFLOP/s | {note} |"
        )
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--small", action="store_true", help="a tiny model on the CPU; the choice where there is no GPU")
    options.add_argument(
        "--rounds", type=int, nargs="+", help="measured rounds (3; small: 1), or a number for each of --checkpointing"
    )
    options.add_argument("--steps", type=int, help=f"steps a run, the first {SKIPPED} are not timed (16; small: 5)")
    options.add_argument("--batch", type=int, help="pairs a step (8; small: 4)")
    options.add_argument("--prompt", type=int, help="longest prompt in tokens (512; small: 32)")
    options.add_argument("--answer", type=int, help="longest answer in tokens (256; small: 16)")
    options.add_argument("--modes", nargs="+", choices=("lora", "full"), default=["lora", "full"])
    options.add_argument("--checkpointing", nargs="+", choices=("off", "on"), default=["off", "on"])
    options.add_argument("--engines", nargs="+", default=[], help="only these, by the names in the table")
    given = options.parse_args()
    small = given.small or not torch.cuda.is_available()
    shape, device = (SMALL, "cpu") if small else (Shape(), "cuda")
    usual = {"rounds": ([3], [1]), "steps": (16, 5), "batch": (8, 4), "prompt": (512, 32), "answer": (256, 16)}
    rounds, steps, batch, prompt, answer = (
        value if (value := getattr(given, name)) is not None else usual[name][small] for name in usual
    )
    if steps <= SKIPPED or min(rounds) < 1:
        options.error(f"--steps must be more than {SKIPPED}, --rounds at least 1")
    import datasets
    import transformers
    import trl

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.simplefilter("ignore", FutureWarning)  # TRL uses names that transformers will drop
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{where}, torch {torch.__version__}, TRL {trl.__version__}; {steps} steps of {batch} pairs, {prompt} + {answer} tokens\n"
    )
    print(
        "| training | checkpointing | engine | pairs/s | times TRL's best | peak | of TRL's lowest | share of matrix rate | how |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = make_rows(steps * batch, prompt, answer)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        make_model(model, shape, device)
        for number, checkpointing in enumerate(given.checkpointing):
            for mode in given.modes:
                setting = Setting(mode, checkpointing == "on", batch, steps, device)
                candidates = engines(setting.gpu, given.engines)
                print("\n".join(compare(model, rows, shape, setting, rounds[min(number, len(rounds) - 1)], candidates)), flush=True)


if __name__ == "__main__":
    main()
