# ruff: noqa: E402 - how idle threads wait is settled before torch is loaded
"""The engine against TRL's DPOTrainer on the CPU: pairs per second, end to end with the reference.

    python -m tests.bench.bench_engine [--rounds 3] [--steps 24] [--engines "TRL, reference ahead" lab]

The same model of 4.2 M parameters (vocabulary 4,096), the same pairs, batch 8, float32, AdamW; DPO. The engines alternate in
one run, each in a process of its own; medians. What is timed, after an untimed training of two batches: for TRL making the trainer
(tokenisation) and `train()`; for the lab the whole of `lab.train`, from loading the model over the checks, the reference, all
records and gradient probes to the last checkpoint, without looks at held-out pairs and answers (evaluate=False). TRL runs with the
reference computed in every step, and with it computed before, and the faster of the two is compared with. Beside elapsed seconds
stand those of the processors: with OMP_NUM_THREADS=1 they say more on a machine that others use too.

One process for all of them would measure something else: OpenMP keeps threads for every thread that has computed in parallel, and
where they are more than the cores, idle ones no longer spin. The lab's training took 1.37 times as long after a matrix product in
the main thread (2 cores).

Useful operations: 2 per weight and token in a forward pass, twice that in a backward pass, a prompt counted once, the vocabulary
at answer tokens only; attention counted where one token sees another; one forward pass more for the reference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lab
from lab import process_settings

SPINS = process_settings.spin_where_idle()  # as a process that only trains does, before torch is loaded; for both engines
process_settings.postpone_collector()  # until both engines' first, untimed training

import torch  # isort: skip

SHAPES = ((64, 64), (256, 64))
BATCH = 8
RATE = 1e-4


@dataclass(frozen=True)
class Size:
    """A Llama shape."""

    vocabulary: int = 4096
    hidden: int = 256
    intermediate: int = 688
    layers: int = 4
    heads: int = 4
    tied: bool = True


def make_model(folder: Path, size: Size) -> None:
    """A random model with a tokenizer that knows the words w0, w1, ... and writes no BOS (TRL and the lab then agree on tokens)."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    message = {"</s>": 0, "<unk>": 1} | {f"w{i}": i for i in range(2, size.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(message, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=2048,
        tie_word_embeddings=size.tied,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def make_rows(count: int, prompt: int, answer: int, vocabulary: int = 4096, *, exact: bool = False) -> list[dict[str, str]]:
    """Pairs of random words, each part between half and all of its longest length in tokens (an answer's end included), or
    exactly that long."""
    rng = torch.Generator().manual_seed(1)

    def text(most: int) -> str:
        length = most if exact else int(torch.randint(most // 2, most + 1, (), generator=rng))
        return " ".join(f"w{i}" for i in torch.randint(2, vocabulary, (length,), generator=rng).tolist())

    return [{"prompt": text(prompt), "chosen": " " + text(answer - 1), "rejected": " " + text(answer - 1)} for _ in range(count)]


def useful_operations(rows: list[dict[str, str]], size: Size) -> float:
    """Floating-point operations that one pass over the pairs needs, with policy and reference."""
    body = size.layers * (4 * size.hidden**2 + 3 * size.hidden * size.intermediate)
    forward = 0.0
    for row in rows:
        p, answers = len(row["prompt"].split()), [len(row[side].split()) + 1 for side in ("chosen", "rejected")]
        seen = p * p / 2 + sum(a * p + a * a / 2 for a in answers)
        forward += 2 * body * (p + sum(answers)) + 2 * size.hidden * size.vocabulary * sum(answers)
        forward += 4 * size.hidden * size.layers * seen
    return 4 * forward


def matrix_rate(side: int = 1024, repeats: int = 12) -> float:
    """This machine's float32 matrix products, operations per second (median)."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(seconds)


def run_trl(model: Path, rows: list[dict[str, str]], *, ahead: bool, batch: int = BATCH) -> float:
    """Seconds of a whole training with TRL, the reference computed in every step or ahead of them."""
    import datasets
    import transformers
    import trl

    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        config = trl.DPOConfig(
            output_dir=out,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=RATE,
            beta=0.1,
            max_length=None,
            precompute_ref_log_probs=ahead,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer: Any = trl.DPOTrainer(
            model=transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            ref_model=None if ahead else transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=config,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=transformers.AutoTokenizer.from_pretrained(model),
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)  # it would write into the table
        trainer.train()
        return time.perf_counter() - began


def run_lab(model: Path, rows: list[dict[str, str]], *, batch: int = BATCH, **settings: Any) -> float:
    """Seconds of a whole `lab.train`, in this thread."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAB_HOME"] = os.environ["LAB_CACHE"] = home  # nothing is cached from the round before
        began = time.perf_counter()
        run = lab.train(
            objective="dpo",
            pairs=rows,
            model=model,
            steps=len(rows) // batch,
            batch_size=batch,
            learning_rate=RATE,
            background=False,
            executor="thread",  # a large model would train in a process of its own, whose memory is not this one's
            **settings,
        )
        seconds = time.perf_counter() - began
        if run.state != "finished":
            raise RuntimeError(run.error)
        return seconds


ENGINES: dict[str, Callable[[Path, list[dict[str, str]]], float]] = {
    "TRL": lambda model, rows: run_trl(model, rows, ahead=False),
    "TRL, reference ahead": lambda model, rows: run_trl(model, rows, ahead=True),
    "lab": lambda model, rows: run_lab(model, rows, evaluate=False),
}


def measure(engine: str, model: Path, rows: list[dict[str, str]]) -> None:
    """Train in this process; print elapsed seconds, those of the processors and the machine's matrix rate as one line of JSON."""
    train = ENGINES[engine]
    train(model, rows[: 2 * BATCH])
    process_settings.resume_collector()  # the lab has done so itself
    began = time.process_time()
    seconds = train(model, rows)
    processors = time.process_time() - began
    rate = matrix_rate()  # last: it starts threads
    print(json.dumps({"seconds": seconds, "processors": processors, "rate": rate, "spins": SPINS}))


def run_apart(module: str, arguments: list[str]) -> dict[str, float]:
    """Run a benchmark's module in a process of its own; return the numbers that it prints in its last line."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=24)
    options.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    options.add_argument("--measure", nargs=4, metavar=("ENGINE", "MODEL", "PROMPT", "ANSWER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        engine, model, prompt, answer = given.measure
        measure(engine, Path(model), make_rows(given.steps * BATCH, int(prompt), int(answer)))
        return
    size = Size()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| longest prompt + answers | engine | pairs/s | times TRL | processors, s | times TRL | share of the matrix rate |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), size)
        for prompt, answer in SHAPES:
            rows = make_rows(given.steps * BATCH, prompt, answer)
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in given.engines}
            for _ in range(given.rounds):
                for name, found in rounds.items():
                    arguments = ["--steps", str(given.steps), "--measure", name, folder, str(prompt), str(answer)]
                    found.append(run_apart("tests.bench.bench_engine", arguments))
                    print(name, found[-1], file=sys.stderr, flush=True)
            elapsed, used, rates = (_medians(rounds, key) for key in ("seconds", "processors", "rate"))
            rate = statistics.median(rates.values())
            if len({one["spins"] for found in rounds.values() for one in found}) > 1:
                print(
                    "Not comparable: other work began or ended, so idle threads spun in some of the processes only.",
                    file=sys.stderr,
                )
            best, least = (min(values[name] for name in values if name != "lab") for values in (elapsed, used))
            for name, seconds in elapsed.items():
                share = useful_operations(rows, size) / seconds / rate
                print(
                    f"| {prompt} + {answer} | {name} | {len(rows) / seconds:.1f} | {best / seconds:.2f} | {used[name]:.1f} | "
                    f"{least / used[name]:.2f} | {share:.0%} of {rate / 1e9:.0f} GFLOP/s |",
                    flush=True,
                )


def _medians(rounds: dict[str, list[dict[str, float]]], key: str) -> dict[str, float]:
    return {name: statistics.median(one[key] for one in found) for name, found in rounds.items()}


if __name__ == "__main__":
    main()
