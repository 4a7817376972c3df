"""Tables of runs in a notebook: state, step, objective, pairs and model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lab.store.folder import RunError

COLUMNS = ("run", "state", "step", "objective", "pairs", "model", "folder")


class _Listed(Protocol):
    """The attributes of a run handle that a table needs; see `lab.Run`."""

    dir: Path

    @property
    def manifest(self) -> dict[str, Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def step(self) -> int: ...
    @property
    def error(self) -> str | None: ...


R = TypeVar("R", bound=_Listed)


class RunList(list[R]):
    """A list of runs that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return table_html(self) if self else "<div>There are no runs yet.</div>"


def run_html(run: _Listed) -> str:
    """Return one run as an HTML table, with the error of a failed run."""
    try:
        error = run.error
    except (sqlite3.Error, OSError, RunError):
        error = None
    return table_html([run]) + (f"<div>{escape(error)}</div>" if error else "")


def table_html(runs: Iterable[_Listed]) -> str:
    """Return runs as an HTML table with all text escaped. A run that cannot be read keeps its row, with the reason."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(run)) + "</tr>" for run in runs)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(run: _Listed) -> list[str]:
    try:
        manifest = run.manifest
        config = manifest["config"]
        step = f"{run.step:,} of {config['steps']:,}"
        pairs = str(manifest.get("pairs_name", config["pairs"]))
        return [run.name, run.state, step, config["objective"]["name"], pairs, config["model"], run.dir.name]
    except (sqlite3.Error, OSError, RunError) as error:
        return [run.dir.name, f"cannot be read: {error}", "", "", "", "", run.dir.name]
