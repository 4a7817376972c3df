"""Flipped labels among real pairs, found with SmolLM2, by hand.    python -m tests.real.flips --pairs transcripts.jsonl.gz

Flips 10 % of up to 2,000 pairs of HH-RLHF's layout and looks for them with `lab.suspects` (a LoRA adapter on SmolLM2-135M-Instruct,
3 folds). Precision is counted at the number planted, where it equals recall; chance is the share planted. Real labels disagree with
one another too: a detector that is right about such a label is counted as wrong. All pairs take hours on two cores: about 2.4 s a
pair and epoch, and 0.8 s to score one. `--count 60` shows the way; `--ngrams-only` leaves the runs out, and takes seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import lab
from lab.evidence import plant
from lab.evidence.ngram_model import ngram_margins
from lab.evidence.short_runs import draw_folds
from lab.pairs import Pair, answer_text, length_bias
from tests.bench.bench_flips import average_precision_at
from tests.bench.bench_pair_checks import real_pairs

SETTINGS = {"batch_size": 8, "learning_rate": 2e-4, "lora_rank": 8, "lora_alpha": 16.0, "max_length": 256, "micro_batch_size": 4}


def measure(pairs: Sequence[Pair], share: float, seed: int, ngrams_only: bool, folds: int, model: str) -> dict[str, float]:
    """Precision at the number planted, by detector."""
    planted = plant(pairs, {"flipped": round(share * len(pairs))}, seed=seed)
    flipped = np.array([pair.id in planted.ids("flipped") for pair in planted.pairs])
    lengths = np.array([len(answer_text(p.chosen).split()) - len(answer_text(p.rejected).split()) for p in planted.pairs])
    sign = 1 if length_bias(planted.pairs).accuracy >= 0.5 else -1
    scores = {"disagreement with length": sign * lengths.astype(float)}
    if ngrams_only:
        scores["n-gram model"] = ngram_margins(planted.pairs, draw_folds(len(pairs), folds, seed)).held_out
    else:
        from lab.teaching.lessons import smollm2

        table = lab.suspects(planted.pairs, model or smollm2(), folds=folds, seed=seed, progress=show, **SETTINGS).set_index(
            "pair_id"
        )
        table = table.loc[[pair.id for pair in planted.pairs]]
        names = {
            "margin": "lab.suspects",
            "held_out_margin": "its held-out margins alone",
            "ngram_margin": "its n-gram model alone",
        }
        scores |= {title: table[name].to_numpy() for name, title in names.items()}
        print("\nestimated noise", table.attrs.get("noise"), "weights", table.attrs.get("weights"))
    return {name: average_precision_at(score, flipped) for name, score in scores.items()}


def show(stage: str, share: float) -> None:
    print(f"\r{share:4.0%} {stage:40}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="transcripts in the layout of HH-RLHF, JSON Lines, packed or not")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default="", help="another model than SmolLM2-135M-Instruct")
    parser.add_argument("--ngrams-only", action="store_true")
    options = parser.parse_args()
    pairs = real_pairs(options.pairs)[: options.count]
    for seed in range(options.seeds):
        began = time.monotonic()
        result = measure(pairs, options.share, seed, options.ngrams_only, options.folds, options.model)
        print(f"seed {seed}, {len(pairs)} pairs, {options.share:.0%} flipped, {time.monotonic() - began:.0f} s:")
        for name, precision in result.items():
            print(f"  {name}: {precision:.3f}")


if __name__ == "__main__":
    main()
