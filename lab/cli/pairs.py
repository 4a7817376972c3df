"""`python -m lab pairs`: list the pair sets; show, search, check and export one."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from lab.pairs import Finding, Pair, PairStore


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "pairs", help="show preference pairs", description="List pair sets; show, search, check and export one."
    )
    p.add_argument(
        "source",
        nargs="?",
        help="world, world-hard, a file, a hub id, or an imported set by its name or that of its file; without one, list the "
        "imported sets (with --search, --check, --suspects or --export: world)",
    )
    p.add_argument("--split", default="train", metavar="NAME", help="split of a data set (default: train)")
    p.add_argument("--configuration", default="", metavar="NAME", help="configuration (subset) of a data set of the hub")
    p.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help="column of prompt (several: a+b), chosen, rejected, system, tools, history, score_chosen, score_rejected, margin, "
        "winner (which of two answers is better), or ranked and rank_by (a list of answers, and their scores); "
        "kept for all sources with these column names",
    )
    p.add_argument("--forget-map", action="store_true", help="forget the mapping that was kept for these column names")
    p.add_argument("--skip-bad-rows", action="store_true", help="read the good rows and list the others")
    p.add_argument(
        "--no-update", action="store_true", help="of a file that has changed: make a set of its own, instead of updating its set"
    )
    p.add_argument("--search", default="", metavar="TEXT", help="only pairs that contain this text: shown, checked or exported")
    p.add_argument(
        "--limit", type=int, default=5, metavar="N", help="number of pairs, or of findings per check, to show (default: 5)"
    )
    p.add_argument("--check", action="store_true", help="list problems in the data, by check")
    p.add_argument("--held-out", metavar="SOURCE", help="with --check: pairs that must not be trained on")
    p.add_argument("--suspects", action="store_true", help="find labels that are probably flipped, by short runs")
    p.add_argument("--model", default="world", help="with --suspects: model to train (default: world)")
    p.add_argument("--folds", type=int, default=3, metavar="N", help="with --suspects: runs, each without one part (default: 3)")
    p.add_argument("--repeats", type=int, default=1, metavar="N", help="with --suspects: times all folds are trained (default: 1)")
    p.add_argument("--findings", type=Path, metavar="FILE", help="write what --check or --suspects finds, as .jsonl or .csv")
    p.add_argument("--json", action="store_true", help="print what --check or --suspects finds as JSON")
    p.add_argument("--export", type=Path, metavar="FILE", help="write the pairs, with their edits, as JSONL, CSV or Parquet")
    p.add_argument(
        "--pairs-version",
        metavar="VERSION",
        help="with --export: the pairs as they were at this version, a number (0 as imported) or the name of a snapshot",
    )
    p.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the sets, the first pairs of one, the problems found, or the number of exported pairs."""
    from lab.pairs import PairQuery, answer_text, prompt_text

    if options.pairs_version is not None and not options.export:
        raise ValueError("--pairs-version chooses the version to export; add --export FILE.")
    if options.source is None and not (options.search or options.check or options.suspects or options.export):
        return _list_sets(as_json=options.json)
    options.source = options.source or "world"
    store = _opened(options)
    if options.export:
        print(f"{_export(options, store)} pairs written to {options.export}")
        return 0
    if options.check or options.suspects:
        return _report(options, store)
    page, total = store.page(PairQuery(text=options.search), limit=options.limit)
    print(f"{store.name}: {len(store)} pairs, version {store.version}, {total} match; stored in {store.location}")
    for pair in page:
        print(f"\n[{pair.id}] {prompt_text(pair.prompt).strip()}")
        print(f"  chosen:   {answer_text(pair.chosen)}\n  rejected: {answer_text(pair.rejected)}")
    return 0


def _list_sets(*, as_json: bool) -> int:
    """Print the imported sets, the latest change first."""
    from lab import home
    from lab.pairs import known_sets

    sets = known_sets(home.home() / "pairs")
    if as_json:
        fields = ("name", "pairs", "changed", "source", "location")
        print(json.dumps([{name: getattr(known, name) for name in fields} for known in sets]))
        return 0
    if not sets:
        print("No pairs are imported yet. Import a file: python -m lab pairs FILE. The pairs of the embedded world: pairs world.")
        return 0
    rows = [("name", "pairs", "changed", "file", "source")]
    rows += [
        (
            known.name,
            "" if known.pairs is None else f"{known.pairs:,}",
            f"{datetime.fromtimestamp(known.changed):%Y-%m-%d %H:%M}",
            known.file.name,
            known.source,
        )
        for known in sets
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(
                cell.rjust(width) if at == 1 else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
        )
    print("\nOpen one by its name, or by its file where two have one name: python -m lab pairs NAME")
    return 0


def _export(options: argparse.Namespace, store: PairStore) -> int:
    """Write the pairs that contain the searched text, or those of a version; return their number."""
    from lab.pairs import PairQuery

    query = PairQuery(text=options.search) if options.search else None
    version = options.pairs_version
    named = version is not None and not version.isdecimal()
    return store.export(options.export, query=query, version=version if named or version is None else int(version))


def _opened(options: argparse.Namespace) -> PairStore:
    """Open the source; on standard error, list every refused row and what else the import has to say."""
    from lab import home
    from lab.opening import import_pairs
    from lab.pairs import PairsError, RefusedRows, remember_mapping
    from lab.world import is_world_name

    mapping = dict(_assigned(text) for text in options.map)
    if options.forget_map:
        _forget_mapping(options)
    try:
        store, report = import_pairs(
            options.source,
            split=options.split,
            configuration=options.configuration,
            mapping=mapping or None,
            on_error="skip" if options.skip_bad_rows else "refuse",
            update=not options.no_update,
        )
    except RefusedRows as error:
        refused, read = error.report.refused_count, error.report.read
        print("\n".join(error.report.refusals()), file=sys.stderr)
        offer = f" --skip-bad-rows leaves them out and imports the other {read:,}." if read else ""
        raise PairsError(
            f"{options.source}: {refused:,} {error.report.units(refused)} (listed above) cannot be read as pairs, so nothing was "
            f"imported; correct the file.{offer}"
        ) from None
    lines = [*report.lines(), *report.refusals()]
    if mapping:
        remember_mapping(home.home(), report.columns, report.mapping)
        lines.append("This mapping is kept for files with these columns; another --map replaces it, --forget-map forgets it.")
    if report.columns and not is_world_name(options.source):
        print("\n".join(lines), file=sys.stderr)
    return store


def _forget_mapping(options: argparse.Namespace) -> None:
    """Forget the mapping that was kept for the columns of the source; say on standard error whether there was one."""
    from lab import home
    from lab.pairs import forget_mapping
    from lab.pairs.importing import PairReader, open_table

    reader = PairReader(open_table(options.source, options.split, options.configuration))
    forgotten = forget_mapping(home.home(), reader.mapping(reader.sample())[1])
    known = "The mapping kept for these columns is forgotten." if forgotten else "No mapping was kept for these columns."
    print(known, file=sys.stderr)


def _assigned(text: str) -> tuple[str, str]:
    name, sign, column = text.partition("=")
    if not sign:
        raise ValueError(f"--map {text!r} is not FIELD=COLUMN; write for example --map prompt=question.")
    return name.strip(), column.strip()


def _report(options: argparse.Namespace, store: PairStore) -> int:
    """Print what the checks and the short runs find, as text by check or as JSON, and write it to the file that is asked for."""
    from lab.opening import open_pairs
    from lab.pairs import PairQuery, findings, write_findings

    pairs = store.all()
    reported: list[Finding] = []
    if options.check:
        held_out = open_pairs(options.held_out).all() if options.held_out else ()
        reported += findings(pairs, held_out, imports=store.later_imports())
    if options.suspects:
        from lab.evidence import flip_findings, share_sentence

        table = _suspects(options, store)
        print(share_sentence(table), file=sys.stderr)
        reported += flip_findings(table)
    if options.search:  # the whole set is checked, since a finding can concern two pairs
        matching = set(store.matching(PairQuery(text=options.search)))
        reported = [finding for finding in reported if finding.pair_id in matching]
        pairs = [pair for pair in pairs if pair.id in matching]
    if options.findings:
        write_findings(options.findings, reported)
    if options.json:
        print(json.dumps([finding.as_row() for finding in reported]))
        return 0
    _print_findings(reported, store.name, pairs, options.limit)
    if options.findings:
        print(f"{len(reported)} findings written to {options.findings}")
    return 0


def _suspects(options: argparse.Namespace, store: PairStore) -> pd.DataFrame:
    """Look for flipped labels, with the progress on standard error."""
    import lab

    def progress(stage: str, share: float) -> None:
        print(f"\r{share:4.0%} {stage:40}", end="", file=sys.stderr, flush=True)

    try:
        return lab.suspects(store, options.model, folds=options.folds, repeats=options.repeats, progress=progress)
    finally:
        print(file=sys.stderr)


def _print_findings(reported: list[Finding], name: str, pairs: list[Pair], limit: int) -> None:
    from lab.evidence.names import EVIDENCE
    from lab.pairs import CHECKS, length_bias

    if not reported:
        print(f"No problems were found in the {len(pairs)} pairs of {name}.")
    about = EVIDENCE | {check.name: (check.title, check.description) for check in CHECKS.values()}
    for check, count in Counter(finding.check for finding in reported).most_common():
        title, explanation = about[check]
        print(f"{title}: {count}. {explanation}")
        for finding in [finding for finding in reported if finding.check == check][:limit]:
            remedy = "" if finding.remedy == "none" else f" [{finding.remedy}]"
            print(f"  {finding.pair_id}  {finding.sentence}{remedy}")
        if count > limit:
            print(f"  ... and {count - limit} more (--limit shows more, --findings FILE writes all)")
    if pairs:
        print(length_bias(pairs).sentence)
