"""What an objective with its token credit costs beside a training step.    python -m tests.bench.bench_objectives [threads]

64 pairs of 512 + 512 tokens, every registered objective, its draw and its credit included, against forward, backward
and optimizer of a 100M-parameter model. The model's part is timed on one pair and scaled to 64, which is fair to within
a few percent: it is all matrix products. Exits with 1 where an objective takes more than 2 % of the step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lab.objectives import OBJECTIVES, Degraded, Objective, PairLogps, make_objective, with_credit

PAIRS, TOKENS, LIMIT = 64, 512, 0.02


def best(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def batch(objective: Objective) -> PairLogps:
    """Random log-probs of 64 pairs with lengths between half and all of 512 tokens."""
    rng = torch.Generator().manual_seed(0)
    values = {}
    for side in ("chosen", "rejected"):
        lengths = torch.randint(TOKENS // 2, TOKENS + 1, (PAIRS, 1), generator=rng)
        mask = torch.arange(TOKENS) < lengths
        values[f"{side}_mask"] = mask
        for name in (side, f"ref_{side}", f"align_{side}"):
            values[name] = -3 * torch.rand(PAIRS, TOKENS, generator=rng) * mask
    wanted = objective.degraded_spec()
    degraded = None
    if wanted is not None:
        N = wanted.degrees
        present = torch.ones(PAIRS, N, dtype=torch.bool)
        degraded = Degraded(
            torch.randn(PAIRS, N, N, generator=rng), torch.arange(N).expand(PAIRS, N), present, torch.randn(PAIRS, N)
        )
    return PairLogps(**values, degraded=degraded)


def objective_seconds(objective: Objective) -> float:
    p = batch(objective)
    state, rng = objective.initial_state(), torch.Generator().manual_seed(0)
    return best(lambda: with_credit(objective, p, state, objective.draw(p, rng), training=True), repeats=10)


def step_seconds() -> tuple[int, float]:
    """Parameters of the model, and the seconds of its training step on all pairs."""
    config = GPT2Config(n_layer=14, n_embd=640, n_head=10, n_positions=TOKENS, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(config.vocab_size, (2, TOKENS))

    def forward_and_backward() -> None:
        model(tokens, labels=tokens).loss.backward()

    one_pair = best(forward_and_backward, repeats=2)
    return sum(p.numel() for p in model.parameters()), PAIRS * one_pair + best(optimizer.step, repeats=2)


def main() -> int:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    parameters, step = step_seconds()
    print(f"training step, {parameters / 1e6:.0f}M parameters, {PAIRS} x 2 x {TOKENS} tokens: {step:.1f} s (scaled from one pair)")
    print(f"{'objective':14} {'ms':>8} {'of the step':>12}")
    worst = 0.0
    for name in sorted(OBJECTIVES):
        seconds = objective_seconds(make_objective(name))
        worst = max(worst, seconds / step)
        print(f"{name:14} {1e3 * seconds:8.2f} {seconds / step:12.4%}")
    print(f"worst {worst:.4%}, limit {LIMIT:.0%}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
