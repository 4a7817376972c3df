"""Tables of runs in a notebook: state, step, objective, pairs and model; and all of a list as a data frame."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .index import summarize
from .summary import RunSummary, UnreadableRun

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("run", "state", "step", "objective", "pairs", "model", "folder")


class _Listed(Protocol):
    """The attribute of a run handle that a table needs; see `lab.Run`."""

    dir: Path


R = TypeVar("R", bound=_Listed)


class RunList(list[R]):
    """A list of runs that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return table_html(run.dir for run in self) if self else "<div>There are no runs yet.</div>"

    def frame(self) -> pd.DataFrame:
        """Return one row per run as it is now: name, state, settings, tags, note and the latest value of every scalar."""
        import pandas as pd

        summaries = [summarize(run.dir) for run in self]
        rows = [as_row(run) | dict(run.numbers) for run in summaries if isinstance(run, RunSummary)]
        return pd.DataFrame(rows, columns=None if rows else [*ROW])


ROW = (
    "run", "name", "state", "step", "steps", "objective", "pairs", "model", "seed", "learning_rate", "created", "seconds", "tags",
    "note", "archived", "error",
)  # fmt: skip
"""Columns of `RunList.frame` before the scalars."""


def as_row(run: RunSummary) -> dict[str, Any]:
    """Return the columns of a run without its scalars; times in ISO 8601."""
    values = (
        run.folder.name, run.name, run.state, run.step, run.steps, str(run.objective["name"]), run.pairs, run.model, run.seed,
        run.learning_rate, datetime.fromtimestamp(run.created).astimezone().isoformat(), run.seconds, " ".join(run.labels.tags),
        run.labels.note, run.labels.archived, run.error,
    )  # fmt: skip
    return dict(zip(ROW, values))


def run_html(folder: Path) -> str:
    """Return one run as an HTML table, with the error of a failed run."""
    run = summarize(folder)
    error = run.error if isinstance(run, RunSummary) else None
    return table_html([folder]) + (f"<div>{escape(error)}</div>" if error else "")


def table_html(folders: Iterable[Path]) -> str:
    """Return runs as an HTML table with all text escaped. A run that cannot be read keeps its row, with the reason."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(summarize(folder))) + "</tr>" for folder in folders
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(run: RunSummary | UnreadableRun) -> list[str]:
    if isinstance(run, UnreadableRun):
        return [run.folder.name, f"cannot be read: {run.reason}", "", "", "", "", run.folder.name]
    step = f"{run.step:,} of {run.steps:,}"
    return [run.name, run.state, step, str(run.objective["name"]), run.pairs, run.model, run.folder.name]
