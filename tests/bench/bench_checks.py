"""What the checks before a run cost, against the steps of the run.

    python -m tests.bench.bench_checks [--rounds 3] [--steps 10]

Two models: the world's own on its pairs, and a random Llama of 37 million parameters on random pairs of 64 to 128 tokens;
each with full fine-tuning and with LoRA. DPO, batches of 8 pairs, float32 on the CPU.

- loading: seconds of `check_model` and `load_policy` (names, shapes and numbers of the weights, a second load where random numbers
  are drawn, passes that switch dropout off, parts that no text enters, the hash) less those of transformers' own loading of model
  and tokenizer.
- layout: seconds of `choose_layout` (causality, randomness, leaks, logits, layouts, gradients).
- 50 steps: without reference, evaluation and records. All 50 with the world's model; of the larger model `--steps`, and 50 computed
  from them.

Medians of all rounds, which alternate between checks and steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lab import home
from lab.objectives import make_objective
from lab.pairs import Pair, pair_of
from lab.policy import Lora, choose_layout, load_policy
from lab.policy.loading import check_model
from lab.training.data.encoded_pairs import encode_pair
from lab.training.data.schedule import BatchSchedule
from lab.training.data.training_pairs import TrainingPairs
from lab.training.setup.prepare import COMPARED_PAIRS, _completions
from lab.training.step import pair_logps
from lab.world import ensure
from tests.bench.bench_engine import Size, make_model, make_rows

BATCH, STEPS = 8, 50


@dataclass(frozen=True)
class Seconds:
    """Of one round, or medians of several. steps: of 50."""

    loading: float
    layout: float
    steps: float


def of_the_world() -> tuple[str, list[Pair]]:
    """The world's model and pairs."""
    world = ensure(cache=home.cache())
    pairs = [pair_of({key: row[key] for key in ("prompt", "chosen", "rejected")}) for row in world.pairs()[: BATCH * STEPS]]
    return str(world.model_dir), pairs


def random_llama(folder: Path) -> tuple[str, list[Pair]]:
    """A random model and pairs of random tokens."""
    make_model(folder, Size(vocabulary=16_000, hidden=512, intermediate=1376, layers=9))
    return str(folder), [pair_of(row) for row in make_rows(BATCH * 4, 64, 128, 16_000, exact=False)]


def measure(source: str, pairs: list[Pair], lora: Lora | None, steps: int) -> tuple[Seconds, int]:
    """Seconds of one round, in which `steps` steps are timed; and the number of parameters."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    began = time.perf_counter()
    AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
    AutoTokenizer.from_pretrained(source)
    bare = time.perf_counter() - began

    began = time.perf_counter()
    check_model(source, lora=lora)
    policy = load_policy(source, lora=lora, device="cpu")
    loading = time.perf_counter() - began - bare

    encoder = policy.encoder(512)
    encoded = [encode_pair(pair, encoder) for pair in pairs]
    began = time.perf_counter()
    data = TrainingPairs({}, BatchSchedule.of(len(encoded), BATCH, 0), dict(enumerate(encoded)))
    check = choose_layout(policy, _completions(data, COMPARED_PAIRS))
    layout = time.perf_counter() - began
    assert check.layout == "shared", check.reason

    optimizer = torch.optim.AdamW(policy.parameters().values(), lr=1e-9, fused=True)
    objective = make_objective("dpo")
    began = time.perf_counter()
    for step in range(steps):
        logps = pair_logps(policy, objective, [encoded[(step * BATCH + n) % len(encoded)] for n in range(BATCH)], None)
        (logps.rejected.sum() - logps.chosen.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = Seconds(loading, layout, (time.perf_counter() - began) * STEPS / steps)
    return seconds, sum(p.numel() for p in policy.model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of the larger model in a round")
    parser.add_argument("--world-steps", type=int, default=STEPS, help="timed steps of the world's model in a round")
    options = parser.parse_args()
    print("| model | training | million parameters | loading (s) | layout (s) | steps timed | 50 steps (s) | checks / 50 steps |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        llama = lambda: random_llama(Path(folder))  # noqa: E731
        for name, make, timed in (("the world's", of_the_world, options.world_steps), ("random Llama", llama, options.steps)):
            source, pairs = make()
            load_policy(source, device="cpu")  # imports what the first load imports
            for training, lora in (("full", None), ("LoRA", Lora())):
                rounds, parameters = zip(*(measure(source, pairs, lora, timed) for _ in range(options.rounds)))
                loading, layout, steps = (
                    statistics.median(getattr(one, key) for one in rounds) for key in ("loading", "layout", "steps")
                )
                share = 100 * (loading + layout) / steps
                print(
                    f"| {name} | {training} | {parameters[0] / 1e6:.1f} | {loading:.2f} | {layout:.2f} | {timed} | {steps:.1f} "
                    f"| {share:.1f} % |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
