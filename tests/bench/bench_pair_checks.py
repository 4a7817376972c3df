"""How often the checks of pair sets are right, on planted defects, and how fast.    python -m tests.bench.bench_pair_checks

Plants 25 of every defect, each in a pair of its own, and 25 of every look-alike among the 3,000 pairs of the embedded world, five
times with other seeds, and among real pairs where a file of HH-RLHF's layout is given (--hh). Recall is the share of the planted
defects that their check finds; precision the share of its findings that were planted. Findings that the set without planted defects
has too are left out of the precision and counted as "there before": they may be right. The sentences that are planted were written
together with the checks, so recall on defects of other wording is lower.

Then the time of all checks on 100,000 generated pairs.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import lab
from lab.evidence import DEFECTS, Planted, plant
from lab.intervals import share_interval
from lab.pairs import CHECKS, Finding, Pair, PairsError, findings, pair_of
from lab.pairs.checks.registry import Corpus
from lab.pairs.checks.texts import PairTexts
from tests.real.transcripts import as_pairs, read_transcripts

Outcome = tuple[list[float], list[float]]
"""(1 for every planted defect that was found, 0 for every other; 1 for every finding that was planted, 0 for every other)."""


def by_check(found: Sequence[Finding]) -> dict[str, set[str]]:
    ids: dict[str, set[str]] = defaultdict(set)
    for finding in found:
        ids[finding.check].add(finding.pair_id)
    return ids


def measure(pairs: list[Pair], seeds: int, count: int) -> tuple[dict[str, Outcome], dict[str, int]]:
    """Outcomes of every check over all seeds, and the number of its findings that were there before."""
    outcomes: dict[str, Outcome] = {name: ([], []) for name in CHECKS}
    before = by_check(findings(pairs))
    for seed in range(seeds):
        planted = plant(pairs, count, seed=seed, look_alikes=count)
        found = by_check(findings(planted.pairs, planted.held_out))
        for name in CHECKS:
            truth, known = planted.ids(name), there_before(planted, before[name])
            outcomes[name][0].extend(float(id in found[name]) for id in truth)
            outcomes[name][1].extend(float(id in truth) for id in found[name] - (known - truth))
    return outcomes, {name: len(before[name]) for name in CHECKS}


def there_before(planted: Planted, ids: set[str]) -> set[str]:
    """Return the ids under which pairs that a check finds without planted defects are in the set with them."""
    changed = {
        defect.pair_id for defect in (*planted.defects, *planted.look_alikes) if defect.original and defect.original.id in ids
    }
    known = ids | changed
    return known | {defect.pair_id for defect in planted.defects if defect.other_id in known}


def print_table(title: str, pairs: list[Pair], seeds: int, count: int) -> None:
    outcomes, before = measure(pairs, seeds, count)
    print(f"\n{title}: {len(pairs):,} pairs, {count} of each defect, {seeds} seeds; mean [95 % interval]\n")
    print("| check | recall | precision | there before |\n|---|---|---|---|")
    for name, (recall, precision) in outcomes.items():
        cells = []
        for values in (recall, precision):
            interval = share_interval(values)
            cells.append(f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
        print(f"| `{name}` | {' | '.join(cells)} | {before[name]} |", flush=True)


def generated(count: int) -> list[Pair]:
    """Random pairs of 35 words an answer, a hundredth of them repeated with one other word."""
    rng = random.Random(0)
    known = ["".join(rng.choices("etaoinshrdlucm", k=rng.randint(2, 9))) for _ in range(5000)]
    pairs: list[Pair] = []
    for number in range(count):
        if number % 100 == 99:
            earlier = rng.choice(pairs)
            pairs.append(Pair(f"{number:012x}", earlier.prompt, f"{earlier.chosen} again", str(earlier.rejected)))
            continue
        prompt, chosen, rejected = (" ".join(["the", *rng.choices(known, k=k)]) for k in (8, 35, 35))
        pairs.append(Pair(f"{number:012x}", f"{prompt} {number}?", f"{chosen}.", f"{rejected}."))
    return pairs


def print_times(count: int) -> None:
    pairs = generated(count)
    began = time.process_time()
    corpus = Corpus([PairTexts.of(pair) for pair in pairs])
    parts = {"reading the texts": time.process_time() - began}
    for name, check in CHECKS.items():
        start = time.process_time()
        hits = sum(1 for _ in check.run(corpus))
        parts[f"{name} ({hits:,})"] = time.process_time() - start
    print(f"\n{count:,} generated pairs: {time.process_time() - began:.0f} s of one core")
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1])[:5]:
        print(f"  {name}: {seconds:.1f} s")


def real_pairs(path: Path) -> list[Pair]:
    """Pairs of a file in HH-RLHF's layout; those that are no pairs are left out."""
    pairs = []
    for row in as_pairs(read_transcripts(path)):
        try:
            pairs.append(pair_of(row))
        except PairsError:
            continue
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--count", type=int, default=25, help="planted defects of each kind")
    parser.add_argument("--hh", type=Path, help="transcripts of HH-RLHF's layout, as JSON Lines, packed or not")
    parser.add_argument("--generated", type=int, default=100_000, help="pairs of the timed set; 0 skips it")
    options = parser.parse_args()
    assert set(CHECKS) <= set(DEFECTS)
    print_table("Embedded world", lab.open_pairs("world").all(version=0), options.seeds, options.count)
    if options.hh:
        print_table("Real pairs", real_pairs(options.hh), options.seeds, options.count)
    if options.generated:
        print_times(options.generated)


if __name__ == "__main__":
    main()
