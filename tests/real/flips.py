"""Flipped labels among real pairs, found with SmolLM2, by hand.    python -m tests.real.flips --pairs transcripts.jsonl.gz

Flips 10 % of up to 2,000 pairs of HH-RLHF's layout and looks for them with `lab.suspects` (a LoRA adapter on
SmolLM2-135M-Instruct). Precision is counted at the number planted, where it equals recall; chance is the share planted. AUC is the
probability that a flipped pair is more suspicious than another one; chance is 0.5. Intervals are of 1,000 bootstrap samples of the
pairs, and leave out that other folds or flips would give other scores. Real labels disagree with one another too: a detector that
is right about such a label is counted as wrong. All pairs take hours on two cores: about 2.4 s a pair and epoch, and 0.8 s to score
one. `--longest 70 --folds 2` takes 10 minutes of one core for 528 pairs; `--count 60` shows the way; `--ngrams-only` leaves the
runs out, and takes seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lab
from lab.evidence import plant
from lab.evidence.ngram_model import ngram_margins
from lab.evidence.short_runs import draw_folds
from lab.pairs import Pair, answer_text, length_bias, prompt_text
from tests.bench.bench_flips import average_precision_at
from tests.bench.bench_pair_checks import real_pairs

SETTINGS = {"batch_size": 8, "lora_rank": 8, "lora_alpha": 16.0, "max_length": 256, "micro_batch_size": 8}
SAMPLES = 1000


@dataclass(frozen=True)
class Detected:
    """Scores [N] by detector, low for suspicious pairs, and whether each pair was flipped, bool [N]."""

    scores: dict[str, np.ndarray]
    flipped: np.ndarray


def words(pair: Pair) -> int:
    """Return the number of words of a pair's prompt and answers."""
    return sum(len(text.split()) for text in (prompt_text(pair.prompt), answer_text(pair.chosen), answer_text(pair.rejected)))


def detect(pairs: Sequence[Pair], options: argparse.Namespace, seed: int) -> Detected:
    """Flip some labels and score all pairs by every detector."""
    planted = plant(pairs, {"flipped": round(options.share * len(pairs))}, seed=seed)
    flipped = np.array([pair.id in planted.ids("flipped") for pair in planted.pairs])
    lengths = np.array([len(answer_text(p.chosen).split()) - len(answer_text(p.rejected).split()) for p in planted.pairs])
    sign = 1 if length_bias(planted.pairs).accuracy >= 0.5 else -1
    scores = {"disagreement with length": sign * lengths.astype(float)}
    if options.ngrams_only:
        scores["n-gram model"] = ngram_margins(planted.pairs, draw_folds(len(pairs), options.folds, seed)).held_out
        return Detected(scores, flipped)
    from lab.teaching.lessons import smollm2

    settings = {**SETTINGS, "learning_rate": options.learning_rate, "folds": options.folds, "seed": seed}
    table = lab.suspects(planted.pairs, options.model or smollm2(), progress=show, **settings).set_index("pair_id")
    print(
        f"\nestimated share {table.attrs['noise']:.2f}, interval {table.attrs['noise_interval']}, weights {table.attrs['weights']}"
    )
    table = table.loc[[pair.id for pair in planted.pairs]]
    for probability in (0.5, 0.8):
        named = (table["probability"] >= probability).to_numpy()
        print(f"probability of at least {probability}: {named.sum()} pairs, {flipped[named].sum()} of them flipped")
    names = {
        "margin": "lab.suspects",
        "held_out_margin": "its held-out margins alone",
        "mean_margin": "its mean margins alone",
        "ngram_margin": "its n-gram model alone",
    }
    return Detected(scores | {title: table[name].to_numpy() for name, title in names.items()}, flipped)


def auc(scores: np.ndarray, flipped: np.ndarray) -> float:
    """Return the probability that a flipped pair has a lower score than another one; ties count one half."""
    from scipy.stats import rankdata

    ranks, count = rankdata(-scores), int(flipped.sum())
    return float((ranks[flipped].sum() - count * (count + 1) / 2) / (count * (len(flipped) - count)))


def print_table(detected: Detected) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, len(detected.flipped), (SAMPLES, len(detected.flipped)))
    print("| detector | precision at the number planted | AUC |\n|---|---|---|")
    for name, scores in detected.scores.items():
        cells = []
        for measure in (average_precision_at, auc):
            values = [measure(scores[sample], detected.flipped[sample]) for sample in samples]
            low, high = np.quantile(values, (0.025, 0.975))
            cells.append(f"{measure(scores, detected.flipped):.2f} [{low:.2f}, {high:.2f}]")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def show(stage: str, share: float) -> None:
    print(f"\r{share:4.0%} {stage:40}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="transcripts in the layout of HH-RLHF, JSON Lines, packed or not")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--longest", type=int, help="take only pairs with at most so many words in prompt and answers together")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--model", default="", help="another model than SmolLM2-135M-Instruct")
    parser.add_argument("--ngrams-only", action="store_true")
    options = parser.parse_args()
    pairs = [pair for pair in real_pairs(options.pairs) if options.longest is None or words(pair) <= options.longest][
        : options.count
    ]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        began = time.process_time()
        detected = detect(pairs, options, seed)
        seconds = time.process_time() - began
        print(f"seed {seed}: {len(pairs)} pairs, {detected.flipped.sum()} flipped, {seconds:.0f} s of CPU time")
        print_table(detected)


if __name__ == "__main__":
    main()
