"""How well probabilities of flipped labels are calibrated.    python -m tests.bench.bench_calibration FOLDER [--seeds 3]

Pairs of the embedded world with a known share of wrong labels: the oracle's labels with 0, 10, 20 and 32 % exchanged at random,
and the annotator's labels (10 % of them wrong, most of them on close pairs) with further ones exchanged up to 15 and 32 %, as in
lesson 08. The margins of the short runs, which take the time, are kept in FOLDER, so that rules to combine them are compared in
seconds; what is there already is not run again. A probability is right if so many of the labels with it are wrong by the oracle.
The expected calibration error is the mean difference of the two over ten bins of the probability, weighted by their pairs.

Rules: `combine`; the one share and the weights of largest likelihood; the same without taking away that models favour the labels
that they were trained on, which is what the lab did at first; and a temperature, the probability that a logistic model fitted to
the held-out margins gives the opposite label.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import lab
from lab import home
from lab.evidence import combining, steps_for
from lab.evidence.ngram_model import ngram_margins
from lab.evidence.short_runs import fold_margins
from lab.intervals import mean_interval
from lab.pairs import Pair
from lab.run.config import TrainConfig

SETS = [
    (kind, share, count)
    for count in (900, 3000)
    for kind, shares in (("oracle", (0.0, 0.1, 0.2, 0.32)), ("annotator", (0.15, 0.32)))
    for share in shares
]
FOLDS, BATCH = 3, 16

Margins = Mapping[str, np.ndarray]
"""Margins by kind of evidence, [N] each."""


def labelled(pairs: list[Pair], kind: str, share: float, count: int, seed: int) -> tuple[list[Pair], np.ndarray]:
    """Return `count` pairs, a share of them labelled wrongly, and the true reward of the chosen minus the rejected answer, [N]."""
    rng = np.random.default_rng([seed, count, round(share * 100), kind == "annotator"])
    chosen = [pairs[number] for number in np.sort(rng.choice(len(pairs), count, replace=False))]
    wrong = np.array([pair.meta["noisy"] for pair in chosen])
    exchanged = wrong.copy() if kind == "oracle" else np.zeros(count, bool)
    right = np.flatnonzero(~(wrong ^ exchanged))
    exchanged[rng.choice(right, max(round(share * count) - count + len(right), 0), replace=False)] ^= True
    made = [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen, meta={}) if exchange else replace(pair, meta={})
        for pair, exchange in zip(chosen, exchanged)
    ]
    return made, np.array([pair.meta["true_gap"] for pair in chosen]) * np.where(exchanged, -1, 1)


def collect(file: Path, pairs: list[Pair], gaps: np.ndarray, seed: int) -> None:
    """Score pairs by short runs and the n-gram model, as `lab.suspects` does, and keep the margins."""
    from lab.world import ensure

    model = str(ensure(cache=home.cache()).model_dir)
    settings = {"batch_size": BATCH, "learning_rate": 1e-3, "seed": seed, "device": "cpu"}
    config = TrainConfig.parse(objective="dpo", model=model, steps=steps_for(len(pairs), FOLDS, BATCH, 1.0), **settings)
    cache = home.cache()
    runs = fold_margins(pairs, config, model=model, cache=cache, folds=FOLDS, repeats=1, progress=lambda stage, share: None)
    ngrams = ngram_margins(pairs, runs.folds[0])
    np.savez(
        file,
        gaps=gaps,
        runs_held_out=runs.held_out_mean(),
        runs_everywhere=runs.mean(),
        ngrams_held_out=ngrams.held_out,
        ngrams_everywhere=ngrams.everywhere,
    )


def averaged(held_out: Margins, everywhere: Margins) -> np.ndarray:
    """Average over the shares, as the lab does."""
    return combining.combine(held_out, everywhere).probability


def one_share(held_out: Margins, everywhere: Margins, centred: bool = True) -> np.ndarray:
    """Use the share and the weights of largest likelihood."""
    from scipy.optimize import minimize

    columns = _scaled(held_out)

    def loss(weights: np.ndarray, share: float) -> float:
        return -float(np.log(combining._likelihood(weights, share, columns)[0]).sum())

    starts = (np.ones(len(columns)), np.full(len(columns), 3.0))
    fits = [
        (minimize(loss, start, args=(share,), method="L-BFGS-B", bounds=[(0, 20)] * len(columns)), share)
        for share in combining.SHARES[:46:3]
        for start in starts
    ]
    best, share = min(fits, key=lambda fit: fit[0].fun)
    margin = combining._matched(best.x @ _scaled(everywhere), best.x @ columns)
    if not centred:
        values = best.x @ _scaled(everywhere)
        margin = values * (margin.std() / values.std() if values.std() > 0 else 1.0)
    return _flipped(share, margin)


def temperature(held_out: Margins, everywhere: Margins) -> np.ndarray:
    """Give the probability of the opposite label under a logistic model, as if no label were exchanged."""
    weights = combining._posterior(_scaled(held_out)).weights[0]
    return combining._sigmoid(-combining._matched(weights @ _scaled(everywhere), weights @ _scaled(held_out)))


def _flipped(share: float, margin: np.ndarray) -> np.ndarray:
    wrong, right = share * combining._sigmoid(-margin), (1 - share) * combining._sigmoid(margin)
    return wrong / (wrong + right)


def _scaled(margins: Margins) -> np.ndarray:
    return np.stack([combining._scaled(values) for values in margins.values()])


RULES: dict[str, Callable[[Margins, Margins], np.ndarray]] = {
    "`combine`": averaged,
    "one share": one_share,
    "one share, as at first": lambda held_out, everywhere: one_share(held_out, everywhere, centred=False),
    "temperature": temperature,
}


def bins_of(probability: np.ndarray) -> np.ndarray:
    return np.minimum((probability * 10).astype(int), 9)


def calibration_error(probability: np.ndarray, wrong: np.ndarray) -> float:
    """Return the expected calibration error over ten bins."""
    bins = bins_of(probability)
    return float(sum(abs(probability[bins == k].sum() - wrong[bins == k].sum()) for k in range(10)) / len(wrong))


def evidence(file: Path) -> tuple[Margins, Margins, np.ndarray]:
    """Return (held-out margins, margins of all models, whether the label is wrong) of one set."""
    kept = np.load(file)
    by_models = ({kind: kept[f"{kind}_{models}"] for kind in ("runs", "ngrams")} for models in ("held_out", "everywhere"))
    return next(by_models), next(by_models), kept["gaps"] < 0


def print_tables(folder: Path) -> None:
    files = {key: sorted(folder.glob("{}_{}_{}_*.npz".format(*key))) for key in SETS}
    files = {key: of_set for key, of_set in files.items() if of_set}
    scored = {key: [(*evidence(file),) for file in of_set] for key, of_set in files.items()}
    outcomes = {name: {key: [(rule(h, e), w) for h, e, w in sets] for key, sets in scored.items()} for name, rule in RULES.items()}
    print("| labels | pairs | seeds | wrong | " + " | ".join(RULES) + " |\n|" + "---|" * (4 + len(RULES)))
    for key in files:
        cells = [_cell([calibration_error(*result) for result in of_rule[key]]) for of_rule in outcomes.values()]
        print(f"| {key[0]} | {key[2]} | {len(files[key])} | {key[1]:.0%} | {' | '.join(cells)} |")
    for name, of_rule in outcomes.items():
        print(f"\n{name}: mean probability / share wrong (pairs), by tenths of the probability")
        for kind in ("oracle", "annotator"):
            results = [result for key, sets in of_rule.items() if key[0] == kind for result in sets]
            probability, wrong = (np.concatenate([result[part] for result in results]) for part in (0, 1))
            bins = bins_of(probability)
            cells = [
                (probability[bins == k].mean(), wrong[bins == k].mean(), (bins == k).sum()) for k in range(10) if (bins == k).any()
            ]
            print(f"  {kind}: " + "  ".join("{:.2f}/{:.2f} ({})".format(*cell) for cell in cells))
    print("\nshare of flipped labels by `combine`: mean, interval | really wrong | named at 0.5, right of them")
    for key, sets in scored.items():
        for held_out, everywhere, wrong in sets:
            combined = combining.combine(held_out, everywhere)
            named = combined.probability >= 0.5
            right = wrong[named].mean() if named.any() else float("nan")
            low, high = combined.interval
            print(f"  {key}: {combined.noise:.2f}, {low:.2f} to {high:.2f} | {wrong.mean():.2f} | {named.sum()}, {right:.2f}")


def _cell(values: list[float]) -> str:
    interval = mean_interval(values)
    return f"{interval.mean:.3f}" + (f" [{max(interval.low, 0):.3f}, {interval.high:.3f}]" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the margins are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only-tables", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pairs = lab.open_pairs("world").all(0)
    for seed in range(0 if options.only_tables else options.seeds):
        for kind, share, count in SETS:
            file = options.folder / f"{kind}_{share}_{count}_{seed}.npz"
            if not file.exists():
                collect(file, *labelled(pairs, kind, share, count, seed), seed)
                print(f"{file.name} done", flush=True)
    print_tables(options.folder)


if __name__ == "__main__":
    main()
