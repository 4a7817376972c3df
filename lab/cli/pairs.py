"""`python -m lab pairs`: show, search, check and export a pair set."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.pairs import Finding, Pair, PairStore


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser("pairs", help="show preference pairs", description="Show, search, check and export preference pairs.")
    p.add_argument("source", nargs="?", default="world", help="world, a file, a hub id or a pair store (default: world)")
    p.add_argument("--search", default="", metavar="TEXT", help="only pairs that contain this text")
    p.add_argument(
        "--limit", type=int, default=5, metavar="N", help="number of pairs, or of findings per check, to show (default: 5)"
    )
    p.add_argument("--check", action="store_true", help="list problems in the data, by check")
    p.add_argument("--held-out", metavar="SOURCE", help="with --check: pairs that must not be trained on")
    p.add_argument("--findings", type=Path, metavar="FILE", help="write what --check or --suspects finds, as .jsonl or .csv")
    p.add_argument("--json", action="store_true", help="print what --check or --suspects finds as JSON")
    p.add_argument("--export", type=Path, metavar="FILE", help="write the pairs, with their edits, as JSONL or Parquet")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the first pairs, the problems found, or the number of exported pairs."""
    from lab.opening import open_pairs
    from lab.pairs import PairQuery, prompt_text

    store = open_pairs(options.source)
    if options.export:
        print(f"{store.export(options.export)} pairs written to {options.export}")
        return 0
    if options.check:
        return _check(options, store)
    page, total = store.page(PairQuery(text=options.search), limit=options.limit)
    print(f"{store.name}: {len(store)} pairs, version {store.version}, {total} match; stored in {store.location}")
    for pair in page:
        print(f"\n[{pair.id}] {prompt_text(pair.prompt).strip()}\n  chosen:   {pair.chosen}\n  rejected: {pair.rejected}")
    return 0


def _check(options: argparse.Namespace, store: PairStore) -> int:
    from lab.opening import open_pairs
    from lab.pairs import findings

    pairs = store.all()
    found = findings(pairs, open_pairs(options.held_out).all() if options.held_out else ())
    _report(options, found, store.name, pairs)
    return 0


def _report(options: argparse.Namespace, found: list[Finding], name: str, pairs: list[Pair]) -> None:
    """Print findings, as text by check or as JSON, and write them to the file that is asked for."""
    from lab.pairs import CHECKS, length_bias, write_findings

    if options.findings:
        write_findings(options.findings, found)
    if options.json:
        print(json.dumps([finding.as_row() for finding in found]))
        return
    counts = Counter(finding.check for finding in found)
    if not found:
        print(f"No problems were found in the {len(pairs)} pairs of {name}.")
    for check, count in counts.most_common():
        print(f"{CHECKS[check].title}: {count}. {CHECKS[check].explanation}")
        for finding in [finding for finding in found if finding.check == check][: options.limit]:
            remedy = "" if finding.remedy == "none" else f" [{finding.remedy}]"
            print(f"  {finding.pair_id}  {finding.sentence}{remedy}")
        if count > options.limit:
            print(f"  ... and {count - options.limit} more (--limit shows more, --findings FILE writes all)")
    if pairs:
        print(length_bias(pairs).sentence)
    if options.findings:
        print(f"{len(found)} findings written to {options.findings}")
