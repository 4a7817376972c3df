"""What a step costs with micro-batches, where an objective needs one forward pass of each, and where it needs two.

    OMP_NUM_THREADS=1 python -m tests.bench.bench_micro_batches [--rounds 5] [--steps 12]

Micro-batches of 4 of 8 pairs, a LoRA adapter, the model of `bench_engine`, 64 + 64 tokens; seconds of the processors a step, with
the objective and without the optimizer; alternating, medians. "draws after the log-probs" is SGDPO as if its pilots could only
be drawn when the log-probs are known, so that every micro-batch is computed twice.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from lab.objectives import Objective, make_objective
from lab.pairs import pair_of
from lab.policy import Encoder, Lora, Policy, ReferenceCache, load_policy
from lab.training.data.encoded_pairs import EncodedPair, encode_pair
from lab.training.data.random_streams import generator
from lab.training.step import Reference, accumulate
from tests.bench.bench_engine import Size, make_model, make_rows

BATCH, MICRO = 8, 4


class DrawsAfter(type(make_objective("sgdpo"))):  # type: ignore[misc]
    """SGDPO without the promise that its draws need no log-probs."""

    draws_from_masks = False


def step_seconds(policy: Policy, objective: Objective, pairs: Sequence[EncodedPair], reference: Reference, steps: int) -> float:
    """Return the seconds of the processors of one step, mean over some steps."""
    began = time.process_time()
    state = objective.initial_state()
    for number in range(steps):
        batch = pairs[BATCH * number : BATCH * (number + 1)]
        accumulate(policy, objective, batch, state, generator(0, number, 2), reference=reference, micro_batch_size=MICRO)
        policy.model.zero_grad(set_to_none=True)
    return (time.process_time() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    ways = {
        "DPO": make_objective("dpo"),
        "SGDPO": make_objective("sgdpo"),
        "SGDPO, draws after the log-probs": DrawsAfter(),
        "AlphaDPO (statistics of the batch)": make_objective("alpha_dpo"),
    }
    with tempfile.TemporaryDirectory() as place:
        make_model(Path(place), Size())
        policy = load_policy(place, lora=Lora(rank=16), device="cpu")
        encoder = Encoder(policy.tokenizer)
        pairs = [encode_pair(pair_of(row), encoder) for row in make_rows(options.steps * BATCH, 64, 64)]
        cache = ReferenceCache(Path(place) / "reference", policy)
        cache.prepare(policy, [completion for pair in pairs for completion in pair.completions()])
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(options.rounds + 1):
            for way, objective in ways.items():
                took = step_seconds(policy, objective, pairs, cache.lookup, options.steps)
                if number:  # the first round warms up
                    seconds[way].append(took)
    first = median(seconds["DPO"])
    print("| objective | ms a step | times DPO |\n|---|---:|---:|")
    for way, times in seconds.items():
        print(f"| {way} | {1000 * median(times):.0f} | {median(times) / first:.2f} |")


if __name__ == "__main__":
    main()
