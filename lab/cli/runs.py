"""`python -m lab runs` lists the runs; its actions name, tag, archive, delete and restore them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser("runs", help="list the runs", description="The runs in LAB_HOME, newest first, or an action on some.")
    p.add_argument("--filter", default="", metavar="WORDS", help="words in name, tags, note, objective, pairs, model; #TAG")
    p.add_argument("--state", action="append", default=[], metavar="STATE", help="only runs in this state; can be repeated")
    p.add_argument("--since", default="", metavar="DAY", help="only runs made on this day (2026-01-31) or later")
    p.add_argument("--until", default="", metavar="DAY", help="only runs made on this day or earlier")
    p.add_argument("--sort", default="created", metavar="NAME", help="created, name, state, step, ... or a scalar: eval/kl")
    p.add_argument("--ascending", action="store_true", help="smallest or oldest first")
    p.add_argument("--archived", action="store_true", help="list archived runs too")
    p.add_argument("--json", action="store_true", help="print one JSON object per line")
    p.set_defaults(run=list_runs)
    actions = p.add_subparsers(title="actions", metavar="action")
    _action(actions, "archive", "leave runs out of lists; nothing is deleted", archive)
    _action(actions, "unarchive", "list archived runs again", unarchive)
    tag = _action(actions, "tag", "add tags to a run", add_tags, several=False)
    tag.add_argument("tags", nargs="+", metavar="TAG")
    tag = _action(actions, "untag", "remove tags from a run", remove_tags, several=False)
    tag.add_argument("tags", nargs="+", metavar="TAG")
    name = _action(actions, "rename", "give a run another name; its folder stays", rename, several=False)
    name.add_argument("name", metavar="NAME", help='"" returns to the name it was made with')
    note = _action(actions, "note", "write a run's note", write_note, several=False)
    note.add_argument("text", metavar="TEXT", help='"" removes it')
    delete = _action(actions, "delete", "move runs to the trash", delete_runs)
    delete.add_argument("--dry-run", action="store_true", help="say what would be freed, and delete nothing")
    delete.add_argument("--for-good", action="store_true", help="delete at once, past the trash")
    trash = actions.add_parser("trash", help="list the deleted runs", description="Deleted runs, which can be restored.")
    trash.add_argument("--empty", action="store_true", help="delete them for good")
    trash.add_argument("--json", action="store_true", help="print one JSON object per line")
    trash.set_defaults(run=show_trash)
    restore = actions.add_parser("restore", help="take a run out of the trash", description="Put a deleted run back.")
    restore.add_argument("run_name", metavar="RUN", help="its name from `runs trash`")
    restore.set_defaults(run=restore_run)


def _action(actions: Any, name: str, summary: str, act: Callable[[Any], int], *, several: bool = True) -> Any:
    """Declare an action on one run or several."""
    p = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    p.add_argument("run_name", metavar="RUN", nargs="+" if several else None, help="folder, name, or the beginning of a name")
    p.set_defaults(run=act)
    return p


def list_runs(options: argparse.Namespace) -> int:
    """Print one line per run; columns that are empty for all runs are left out."""
    from lab.run.listing.index import list_runs
    from lab.run.listing.query import SORTS, RunQuery, select

    listing = list_runs()
    query = RunQuery(
        options.filter,
        tuple(options.state),
        options.since,
        options.until,
        archived=None if options.archived else False,
        sort=options.sort,
        descending=not options.ascending,
    )
    runs = select(listing.runs, query)
    if options.json:
        for run in runs:
            numbers = {name: value if math.isfinite(value) else None for name, value in run.numbers.items()}
            more = {"created": run.created, "seconds": run.seconds, "note": run.labels.note, "archived": run.labels.archived}
            print(json.dumps(columns(run) | more | {"numbers": numbers}))
        return 0
    if older := sum(run.kind == "format" for run in listing.unreadable):
        print(f"Not listed: {older} of another format; open them with the version that trained them.", file=sys.stderr)
    for unreadable in (run for run in listing.unreadable if run.kind == "damaged"):
        print(f"Not listed: {' '.join(unreadable.reason.split())}", file=sys.stderr)
    if not runs:
        hidden = len(listing.runs)
        start = "There is no run yet; start one with: python -m lab train --objective sgdpo"
        print(f"None of the {hidden:,} runs matches; --archived lists archived ones too." if hidden else start)
        return 0
    rows = [columns(run) for run in runs]
    if options.sort not in SORTS:
        rows = [row | {options.sort: f"{run.numbers.get(options.sort, math.nan):.4g}"} for row, run in zip(rows, runs)]
    _print_table(rows)
    return 0


def _print_table(rows: list[dict[str, Any]]) -> None:
    head = {key: key for key in rows[0] if any(row[key] not in (None, "") for row in rows)}
    cells = [[str("" if row[key] is None else row[key]) for key in head] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def columns(run: Any) -> dict[str, Any]:
    """Return the columns of a run's summary in the list of runs."""
    from lab.run.queueing import place_of

    place = place_of(run.folder) if run.state == "queued" else None
    return {
        "run": run.folder.name,
        "name": run.name if run.name != run.folder.name else "",
        "state": run.state,
        "queue": place.message if place and place.place else "",
        "step": run.step,
        "steps": run.steps,
        "objective": run.objective["name"],
        "pairs": run.pairs,
        "model": run.model,
        "tags": ", ".join(run.labels.tags),
        "twins": " ".join(_twins(run)),
        "remaining": f"{run.remaining:.0f} s" if run.remaining and run.state in ("running", "paused") else "",
        "error": run.error or "",
    }


def _twins(run: Any) -> list[str]:
    """Return the folder names of a run's twins, or the error of a damaged list."""
    from lab.store import RunError, read_twins

    try:
        return [twin.name for twin in read_twins(run.folder)]
    except RunError as error:
        return [str(error)]


def archive(options: argparse.Namespace) -> int:
    """Archive runs."""
    return _each(options, lambda run: run.archive(), "is archived; `runs --archived` lists it")


def unarchive(options: argparse.Namespace) -> int:
    """Take runs out of the archive."""
    return _each(options, lambda run: run.unarchive(), "is listed again")


def add_tags(options: argparse.Namespace) -> int:
    """Add tags to a run."""
    return _each(options, lambda run: run.tag(*options.tags), f"is tagged {', '.join(options.tags)}")


def remove_tags(options: argparse.Namespace) -> int:
    """Remove tags from a run."""
    return _each(options, lambda run: run.untag(*options.tags), f"is without {', '.join(options.tags)}")


def rename(options: argparse.Namespace) -> int:
    """Rename a run."""
    return _each(
        options, lambda run: run.rename(options.name), f"is called {options.name}" if options.name else "has its first name"
    )


def write_note(options: argparse.Namespace) -> int:
    """Write a run's note."""
    return _each(options, lambda run: run.note(options.text), "has the note" if options.text else "has no note")


def _each(options: argparse.Namespace, act: Callable[[Any], None], done: str) -> int:
    """Open all named runs, then do something to each and print it."""
    for run in _opened(options):
        act(run)
        print(f"{run.dir.name} {done}.")
    return 0


def _opened(options: argparse.Namespace) -> list[Any]:
    import lab

    names = [options.run_name] if isinstance(options.run_name, str) else options.run_name
    runs = [lab.open_run(name) for name in names]
    return list({run.dir.resolve(): run for run in runs}.values())  # one that is named twice is one


def delete_runs(options: argparse.Namespace) -> int:
    """Say what deleting runs frees, and delete them."""
    from lab.experiments import effects_of_deletion
    from lab.run.listing.index import list_runs
    from lab.run.listing.trash import freed_by
    from lab.run.preflight_report import size

    runs = _opened(options)
    freed = freed_by([run.dir for run in runs], list_runs().runs)
    for warning in [*freed.warnings, *effects_of_deletion(run.dir for run in runs)]:
        print(warning, file=sys.stderr)
    what = f"{size(freed.bytes)}, {freed.checkpoints:,} checkpoint{'s' if freed.checkpoints != 1 else ''}"
    if options.dry_run:
        print(f"Deleting {len(runs):,} run{'s' if len(runs) != 1 else ''} would free {what}.")
        return 0
    for run in runs:
        run.delete(for_good=options.for_good)
        kept = "deleted for good" if options.for_good else f"in the trash; `runs restore {run.dir.name}` puts it back"
        print(f"{run.dir.name} is {kept}.")
    print(f"Freed {what}." if options.for_good else f"`runs trash --empty` frees {what}.")
    return 0


def show_trash(options: argparse.Namespace) -> int:
    """List the runs in the trash, or delete them for good."""
    from lab.run.listing.trash import disk_bytes, empty_trash, trashed_runs
    from lab.run.preflight_report import size

    runs = trashed_runs()
    if options.empty:
        print(f"Freed {size(empty_trash(runs))}: {len(runs):,} run{'s' if len(runs) != 1 else ''} deleted for good.")
        return 0
    if not runs and not options.json:
        print("The trash is empty.")
    rows: list[dict[str, Any]] = [
        {"run": run.name, "deleted": run.time, "author": run.author, "from": str(run.place), "bytes": disk_bytes([run.folder])}
        for run in runs
    ]
    if options.json:
        for row in rows:
            print(json.dumps(row))
    elif rows:
        _print_table([row | {"bytes": size(row["bytes"])} for row in rows])
    return 0


def restore_run(options: argparse.Namespace) -> int:
    """Take a run out of the trash."""
    from lab.run.listing.trash import find_trashed

    print(f"Restored to {find_trashed(options.run_name).restore()}.")
    return 0
