"""How well flipped labels are found on the embedded world.    python -m tests.bench.bench_flips [--seeds 5] [--json FILE]

A share of the 3,000 pairs is flipped, among those whose label the oracle agrees with: 10 % and 20 %, on top of the 10 % of noisy
labels that the annotator gave. Precision is counted at the number planted, where it equals recall; beside it the share of those
pairs whose label the oracle calls wrong, planted or noisy before. The ceiling is the oracle's own order, by the true gap of the
rewards: an ideal detector cannot tell a planted flip from a noisy label with the same gap.

Against three simple detectors that use one ordinary run of one epoch on all pairs, or none: loss at the end (the margin of every
pair under the trained model), mean margin (over each pair's visits and the end), and disagreement with length (the chosen answer is
shorter than the rejected one, where longer ones are chosen on the whole, or the other way round).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import lab
from lab import home
from lab.intervals import mean_interval
from lab.pairs import Pair, answer_text, length_bias

SHARES = (0.1, 0.2)


@dataclass(frozen=True)
class FlippedSet:
    """pairs: with some labels flipped. flipped: bool [N]. gaps: true reward of the chosen minus the rejected answer, float [N]."""

    pairs: list[Pair]
    flipped: np.ndarray
    gaps: np.ndarray


def flipped_set(pairs: Sequence[Pair], share: float, seed: int) -> FlippedSet:
    """Flip a share of the labels, among pairs whose label was right."""
    right = [number for number, pair in enumerate(pairs) if not pair.meta["noisy"]]
    flipped = np.zeros(len(pairs), bool)
    flipped[np.random.default_rng(seed).choice(right, round(share * len(pairs)), replace=False)] = True
    made = [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen, meta={}) if flip else replace(pair, meta={})
        for pair, flip in zip(pairs, flipped)
    ]
    gaps = np.array([pair.meta["true_gap"] for pair in pairs]) * np.where(flipped, -1, 1)
    return FlippedSet(made, flipped, gaps)


def average_precision_at(scores: np.ndarray, hits: np.ndarray, count: int | None = None) -> float:
    """Share of `hits` among the `count` lowest scores (None: as many as there are hits)."""
    return float(hits[np.argsort(scores, kind="stable")[: count or int(hits.sum())]].mean())


def one_run(pairs: Sequence[Pair], seed: int, epochs: int, learning_rate: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Train the world's model on all pairs once.

    Returns:
        (pair number, step and margin before the step of every visit; margin of every pair at the end, [N]).
    """
    from lab.evidence.short_runs import _score, _train
    from lab.policy import ReferenceCache, choose_layout
    from lab.run.config import TrainConfig
    from lab.training.data.encoded_pairs import encode_known
    from lab.training.setup.prepare import load_configured
    from lab.world import ensure

    world = ensure(cache=home.cache())
    settings = {"batch_size": 16, "learning_rate": learning_rate, "seed": seed, "device": "cpu"}
    config = TrainConfig.parse(objective="dpo", steps=-(-len(pairs) * epochs // 16), **settings)
    policy = load_configured(config, str(world.model_dir))
    encoded = [encode_known(pair, policy.encoder(config.max_length), None, policy.vocabulary) for pair in pairs]
    choose_layout(policy, [c for pair in encoded[:2] for c in pair.completions()])
    reference = ReferenceCache(home.cache() / "reference", policy)
    reference.prepare(policy, [c for pair in encoded for c in pair.completions()])
    visits = _train(policy, config, encoded, np.arange(len(encoded)), reference.lookup, 0, lambda share: None)
    end = _score(policy, config, encoded, reference.lookup)
    reference.close()
    return pd.DataFrame(visits, columns=["pair", "step", "run", "margin"]).drop(columns="run"), end


def simple_scores(made: FlippedSet, seed: int) -> dict[str, np.ndarray]:
    """Scores of the simple detectors, low for suspicious pairs."""
    visits, end = one_run(made.pairs, 1000 + seed, epochs=1, learning_rate=1e-3)
    margins = pd.concat([visits[["pair", "margin"]], pd.DataFrame({"pair": np.arange(len(end)), "margin": end})])
    mean = margins.groupby("pair")["margin"].mean().to_numpy()
    lengths = np.array([len(answer_text(p.chosen).split()) - len(answer_text(p.rejected).split()) for p in made.pairs])
    sign = 1 if length_bias(made.pairs).accuracy >= 0.5 else -1
    return {"loss at the end": end, "mean margin": mean, "disagreement with length": sign * lengths}


def measure(pairs: Sequence[Pair], share: float, seed: int, folds: int, repeats: int) -> dict[str, dict[str, float]]:
    """Precision of every detector on one set."""
    made = flipped_set(pairs, share, seed)
    began = time.process_time()
    table = lab.suspects(made.pairs, folds=folds, repeats=repeats, seed=seed, device="cpu").set_index("pair_id")
    seconds = time.process_time() - began
    ids = [pair.id for pair in made.pairs]
    scores = {
        f"lab.suspects, {folds} folds": table["margin"].loc[ids].to_numpy(),
        "  its held-out margins alone": table["held_out_margin"].loc[ids].to_numpy(),
        "  its mean margins alone": table["mean_margin"].loc[ids].to_numpy(),
        "  its n-gram model alone": table["ngram_margin"].loc[ids].to_numpy(),
        **simple_scores(made, seed),
        "ceiling: the oracle": made.gaps,
    }
    count = int(made.flipped.sum())
    result = {
        name: {"planted": average_precision_at(score, made.flipped), "wrong": average_precision_at(score, made.gaps < 0, count)}
        for name, score in scores.items()
    }
    likely = (table["probability"] >= 0.5).loc[ids].to_numpy()
    wrong = made.gaps < 0
    result["findings"] = {
        "count": float(likely.sum()),
        "wrong": float(wrong[likely].mean()) if likely.any() else float("nan"),
        "planted": float(made.flipped[likely].mean()) if likely.any() else float("nan"),
        "found": float(likely[made.flipped].mean()),
        "noise": float(table.attrs["noise"]),
        "cpu_seconds": seconds,
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="append the result of every seed to this file")
    parser.add_argument("--only-table", action="store_true", help="print the table of what the file holds")
    options = parser.parse_args()
    results: dict[float, list[dict[str, dict[str, float]]]] = {share: [] for share in SHARES}
    if options.only_table:
        for line in options.json.read_text().splitlines():
            entry = json.loads(line)
            results[entry["share"]].append(entry["result"])
    else:
        pairs = lab.open_pairs("world").all(0)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for share in SHARES:
                result = measure(pairs, share, seed, options.folds, options.repeats)
                results[share].append(result)
                if options.json:
                    with options.json.open("a") as file:
                        file.write(json.dumps({"share": share, "seed": seed, "result": result}) + "\n")
    print_tables(results)


def print_tables(results: dict[float, list[dict[str, dict[str, float]]]]) -> None:
    for share, of_seeds in results.items():
        if not of_seeds:
            continue
        print(f"\n{share:.0%} planted, {len(of_seeds)} seeds: mean [95 % interval]\n")
        print("| detector | precision = recall at the number planted | label wrong by the oracle |\n|---|---|---|")
        for name in [name for name in of_seeds[0] if name != "findings"]:
            cells = [_cell([result[name][what] for result in of_seeds]) for what in ("planted", "wrong")]
            print(f"| {name.strip()} | {' | '.join(cells)} |")
        print("\nAt a probability of at least 0.5:")
        for what in of_seeds[0]["findings"]:
            print(f"  {what}: {_cell([result['findings'][what] for result in of_seeds])}")


def _cell(values: Sequence[float]) -> str:
    interval = mean_interval(values)
    form = ".0f" if abs(interval.mean) > 5 else ".3f"
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


if __name__ == "__main__":
    main()
