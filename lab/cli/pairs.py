"""`python -m lab pairs`: show, search, check and export a pair set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser("pairs", help="show preference pairs", description="Show, search, check and export preference pairs.")
    p.add_argument("source", nargs="?", default="world", help="world, a file, a hub id or a pair store (default: world)")
    p.add_argument("--search", default="", metavar="TEXT", help="only pairs that contain this text")
    p.add_argument("--limit", type=int, default=5, metavar="N", help="number of pairs to show (default: 5)")
    p.add_argument("--check", action="store_true", help="list problems in the data")
    p.add_argument("--export", type=Path, metavar="FILE", help="write the pairs, with their edits, as JSONL or Parquet")
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the first pairs, the problems found, or the number of exported pairs."""
    from lab.opening import open_pairs
    from lab.pairs import check, findings, prompt_text

    store = open_pairs(options.source)
    if options.export:
        print(f"{store.export(options.export)} pairs written to {options.export}")
        return 0
    if options.check:
        pairs = store.all()
        if findings(pairs):
            print(check(pairs).to_string(index=False))
        else:
            print(f"No problems were found in the {len(store)} pairs of {store.name}.")
        return 0
    page, total = store.page(0, options.limit, search=options.search)
    print(f"{store.name}: {len(store)} pairs, version {store.version}, {total} match; stored in {store.path}")
    for pair in page:
        print(f"\n[{pair.id}] {prompt_text(pair.prompt).strip()}\n  chosen:   {pair.chosen}\n  rejected: {pair.rejected}")
    return 0
