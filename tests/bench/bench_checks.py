"""What the checks before a run cost, against the steps of the run.

    python -m tests.bench.bench_checks [--rounds 3]

Two models: the world's own on its pairs, and a random Llama of about 45 million parameters on random pairs of 64 to 128 tokens.
Full fine-tuning with DPO, batches of 8 pairs, float32 on the CPU. Seconds of `choose_layout` (causality, randomness, leaks, logits,
layouts, gradients) and of 50 steps without reference, evaluation and records; medians of all rounds, which alternate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from lab import home
from lab.objectives import make_objective
from lab.pairs import pair_of
from lab.policy import Policy, choose_layout, load_policy
from lab.training.batches import EncodedPair, encode_pair
from lab.training.prepare import _completions
from lab.training.step import pair_logps
from lab.world import ensure
from tests.bench.bench_engine import Size, make_model, make_rows

BATCH, STEPS = 8, 50
TIMED = 4
"""Steps that are timed; the others would take as long."""


def of_the_world() -> tuple[Policy, list[EncodedPair]]:
    """The world's model and pairs."""
    world = ensure(cache=home.cache())
    policy = load_policy(str(world.model_dir), device="cpu")
    encoder = policy.encoder(512)
    pairs = [pair_of({key: row[key] for key in ("prompt", "chosen", "rejected")}) for row in world.pairs()[: BATCH * TIMED]]
    return policy, [encode_pair(pair, encoder) for pair in pairs]


def random_llama(folder: Path) -> tuple[Policy, list[EncodedPair]]:
    """A random model and pairs of random tokens."""
    make_model(folder, Size(vocabulary=16_000, hidden=512, intermediate=1376, layers=9))
    policy = load_policy(str(folder), device="cpu")
    encoder = policy.encoder(256)
    rows = make_rows(BATCH * TIMED, 64, 128, 16_000, exact=False)
    return policy, [encode_pair(pair_of(row), encoder) for row in rows]


def measure(policy: Policy, pairs: list[EncodedPair], rounds: int) -> tuple[float, float]:
    """Seconds of the checks and of 50 steps."""
    optimizer = torch.optim.AdamW(policy.parameters().values(), lr=1e-9, fused=True)
    objective = make_objective("dpo")
    numbered = dict(enumerate(pairs))
    checks, steps = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        policy.share_prompts()
        check = choose_layout(policy, _completions(numbered, 2))
        checks.append(time.perf_counter() - began)
        assert check.layout == "shared", check.reason
        began = time.perf_counter()
        for step in range(TIMED):
            logps = pair_logps(policy, objective, pairs[step * BATCH : (step + 1) * BATCH], None)
            (logps.rejected.sum() - logps.chosen.sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        steps.append((time.perf_counter() - began) * STEPS / TIMED)
    return statistics.median(checks), statistics.median(steps)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    rounds = options.parse_args().rounds
    print("| model | million parameters | checks (s) | 50 steps (s) | share |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("the world's", of_the_world), ("random Llama", lambda: random_llama(Path(folder)))):
            policy, pairs = make()
            checks, steps = measure(policy, pairs, rounds)
            millions = sum(p.numel() for p in policy.model.parameters()) / 1e6
            print(f"| {name} | {millions:.1f} | {checks:.2f} | {steps:.1f} | {100 * checks / steps:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
