"""How often "never learned" and "forgotten" mean a wrong label.    python -m tests.bench.bench_states [--seeds 3] [--json FILE]

Ordinary DPO runs on the 3,000 pairs of the embedded world, where 10 % of the labels are wrong, as they are and with 10 % more
flipped; 5 % of the pairs get two nearly identical answers and a label by chance, which no model can learn from other pairs. Of the
pairs in each state: the share whose label the oracle calls wrong, the share with nearly identical answers, and how many of all such
pairs are in it.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import lab
from lab.evidence import trajectory_numbers
from lab.evidence.planting import small_change
from lab.evidence.run_evidence import _state
from lab.intervals import share_interval
from lab.pairs import Pair, answer_text
from tests.bench.bench_flips import one_run

SETTINGS = ((2, 1e-3), (4, 5e-4))
"""Epochs and learning rate of each run."""
FLIPPED = (0.0, 0.1)
ALIKE = 0.05


@dataclass(frozen=True)
class KnownSet:
    """N pairs; whether the oracle calls the label wrong, bool [N]; and whether the answers are nearly identical, bool [N]."""

    pairs: list[Pair]
    wrong: np.ndarray
    alike: np.ndarray


def known_set(pairs: Sequence[Pair], flipped: float, seed: int) -> KnownSet:
    """Give some pairs nearly identical answers with a label by chance, and flip right labels of others."""
    rng, words = np.random.default_rng(seed), random.Random(seed)
    wrong = np.array([pair.meta["noisy"] for pair in pairs])
    alike, exchanged = np.zeros(len(pairs), bool), np.zeros(len(pairs), bool)
    alike[rng.choice(len(pairs), round(ALIKE * len(pairs)), replace=False)] = True
    exchanged[rng.choice(np.flatnonzero(~wrong & ~alike), round(flipped * len(pairs)), replace=False)] = True
    exchanged |= alike & (rng.random(len(pairs)) < 0.5)
    made = []
    for pair, same, exchange in zip(pairs, alike, exchanged):
        rejected = small_change(answer_text(pair.chosen), words) if same else pair.rejected
        sides = {"chosen": rejected, "rejected": pair.chosen} if exchange else {"chosen": pair.chosen, "rejected": rejected}
        made.append(replace(pair, **sides, meta={}))
    return KnownSet(made, (wrong ^ exchanged) & ~alike, alike)


def states_of(visits: pd.DataFrame) -> pd.Series:
    """Return the state of every pair that was visited, by its number."""
    numbers = trajectory_numbers(visits)
    rows = numbers[["visits", "forgotten", "last_margin"]].itertuples(index=False, name=None)
    return pd.Series([_state(False, *row) for row in rows], index=numbers.index).sort_index()


def counts(known: KnownSet, states: pd.Series) -> dict[str, dict[str, int]]:
    """Return, by state, the number of its pairs, of those labelled wrongly, and of those with nearly identical answers."""
    result = {}
    for state, of_state in states.groupby(states):
        numbers = of_state.index
        result[str(state)] = {
            "pairs": len(numbers),
            "wrong": int(known.wrong[numbers].sum()),
            "alike": int(known.alike[numbers].sum()),
        }
    return result


def print_table(entries: Sequence[dict[str, object]]) -> None:
    table = pd.DataFrame(entries)
    print("| epochs, rate | flipped | seeds | state | pairs | label wrong | nearly identical | of all wrong | of all identical |")
    print("|" + "---|" * 9)
    for (epochs, rate, flipped), group in table.groupby(["epochs", "rate", "flipped"]):
        whole = group[["wrong", "alike"]].sum()
        for state, rows in group.groupby("state"):
            pairs, wrong, alike = (int(rows[name].sum()) for name in ("pairs", "wrong", "alike"))
            shares = [share_interval([1.0] * hits + [0.0] * (pairs - hits)) for hits in (wrong, alike)]
            cells = " | ".join(f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]" for share in shares)
            found = f"{wrong / whole['wrong']:.2f} | {alike / whole['alike']:.2f}"
            print(f"| {epochs}, {rate:g} | {flipped:.0%} | {rows['seed'].nunique()} | {state} | {pairs} | {cells} | {found} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="append the result of every run to this file")
    parser.add_argument("--only-table", action="store_true", help="print the table of what the file holds")
    options = parser.parse_args()
    entries: list[dict[str, object]] = []
    if options.only_table:
        entries = [json.loads(line) for line in options.json.read_text().splitlines()]
    else:
        pairs = lab.open_pairs("world").all(0)
        for seed in range(options.seeds):
            for (epochs, rate), flipped in ((setting, share) for setting in SETTINGS for share in FLIPPED):
                known = known_set(pairs, flipped, seed)
                visits, _ = one_run(known.pairs, seed, epochs, rate)
                of_run = {"epochs": epochs, "rate": rate, "flipped": flipped, "seed": seed}
                new = [{**of_run, "state": state, **count} for state, count in counts(known, states_of(visits)).items()]
                entries += new
                if options.json:
                    with options.json.open("a") as file:
                        file.writelines(json.dumps(entry) + "\n" for entry in new)
    print_table(entries)


if __name__ == "__main__":
    main()
