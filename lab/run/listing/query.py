"""Filter and order of a list of runs: words, state, time and archive; the same for library, command line and dashboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from lab.errors import did_you_mean
from lab.store.folder import ENDED, RunError

from .summary import RunSummary

STATES = ("queued", "running", "paused", *ENDED)
"""States of a run, in the order in which a list sorts them."""

SORTS: Mapping[str, Callable[[RunSummary], Any]] = {
    "created": lambda run: run.created,
    "name": lambda run: run.name.lower(),
    "state": lambda run: STATES.index(run.state),
    "objective": lambda run: str(run.objective["name"]),
    "pairs": lambda run: run.pairs.lower(),
    "model": lambda run: run.model.lower(),
    "step": lambda run: run.step,
    "seconds": lambda run: run.seconds,
    "seed": lambda run: run.seed,
    "learning_rate": lambda run: run.learning_rate,
    "tags": lambda run: run.labels.tags or None,
}
"""Orders of a list of runs, besides that by a scalar."""


@dataclass(frozen=True)
class RunQuery:
    """Filter and order of a list of runs.

    Attributes:
        text: Words that all have to occur in name, folder, tags, note, objective, pairs or model, in upper or lower case. A word
            that begins with # has to be a tag.
        states: States to list; empty for all.
        since: The first day on which a listed run was made, ISO 8601; "" for no limit.
        until: The last such day.
        archived: True lists archived runs only, False leaves them out, None lists both.
        sort: A key of `SORTS`, or the name of a scalar, by its latest value.
        descending: List the largest first. Runs without a value come last in either order.
    """

    text: str = ""
    states: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    archived: bool | None = False
    sort: str = "created"
    descending: bool = True


def select(runs: Iterable[RunSummary], query: RunQuery) -> list[RunSummary]:
    """Return the runs that match a query, in its order.

    Raises:
        RunError: A state, a day or the name to sort by does not exist; the message says which there are.
    """
    runs = list(runs)
    for state in query.states:
        if state not in STATES:
            raise RunError(f"There is no state {state!r}; choose from {', '.join(STATES)}.{did_you_mean(state, STATES)}")
    since, until = _midnight(query.since, time.min, -math.inf), _midnight(query.until, time.max, math.inf)
    words = query.text.lower().split()
    value = sort_value(runs, query.sort)
    matches = [
        run
        for run in runs
        if (query.archived is None or run.labels.archived == query.archived)
        and (not query.states or run.state in query.states)
        and since <= run.created <= until
        and _has(run, words)
    ]
    valued = [(value(run), run) for run in matches]
    missing = [run for key, run in valued if _is_missing(key)]
    present = [(key, run) for key, run in valued if not _is_missing(key)]
    present.sort(key=lambda each: each[0], reverse=query.descending)
    return [run for _, run in present] + missing


def sort_value(runs: Iterable[RunSummary], name: str) -> Callable[[RunSummary], Any]:
    """Return the function from a run to what it is sorted by. Raises RunError if no run has such a number."""
    if name in SORTS:
        return SORTS[name]
    scalars = number_names(runs)
    if name not in scalars and scalars:
        known = [*SORTS, *scalars]
        raise RunError(f"No run has {name!r} to be sorted by; choose {', '.join(SORTS)} or a scalar.{did_you_mean(name, known)}")
    return lambda run: run.numbers.get(name)


def number_names(runs: Iterable[RunSummary]) -> list[str]:
    """Return the names of all scalars that some of the runs recorded, sorted."""
    return sorted({name for run in runs for name in run.numbers})


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _has(run: RunSummary, words: list[str]) -> bool:
    if not words:
        return True
    tags = [tag.lower() for tag in run.labels.tags]
    text = "\n".join([run.name, run.folder.name, str(run.objective["name"]), run.pairs, run.model, run.labels.note, *tags]).lower()
    return all(word[1:] in tags if word.startswith("#") and len(word) > 1 else word in text for word in words)


def _midnight(day: str, moment: time, default: float) -> float:
    """Return the time, seconds since 1970, at which a day begins or ends here; `default` for no day."""
    if not day:
        return default
    try:
        return datetime.combine(date.fromisoformat(day), moment).timestamp()
    except ValueError:
        raise RunError(f"{day!r} is no day; write it as 2026-01-31.") from None
