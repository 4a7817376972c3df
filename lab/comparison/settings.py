"""Compare the settings of runs: configuration, objective with all its parameters, pairs, start, and changes during the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lab.store import Change

ABSENT = "–"
"""Value of a setting that a run does not have, such as a parameter of another objective."""

OWN_ROWS = ("objective", "pairs", "name", "template_time")
"""Settings that are left out of the plain list, because they have rows of their own or none."""


def difference(settings: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return the settings of several runs or groups as a table, those that differ first.

    Args:
        settings: Results of `settings_of` or `merged`, by label.

    Returns:
        One row per setting (index: its path, such as "objective.base.beta"), one column per label with the value as text, and the
        column `same`.
    """
    paths = dict.fromkeys(path for own in settings.values() for path in own)
    table = pd.DataFrame({label: {path: own.get(path, ABSENT) for path in paths} for label, own in settings.items()})
    table = table.reindex(list(paths))
    table["same"] = [len(set(row)) == 1 for row in table.itertuples(index=False)]
    return table.sort_values("same", kind="stable")


def settings_of(manifest: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, str]:
    """Return the settings of a run as text by their paths.

    Args:
        manifest: The content of its `run.json`.
        changes: Changes made during the run.
    """
    return dict(_settings(manifest, changes))


def merged(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the settings of a group of runs; where they differ (in the seed), all values, separated by commas."""
    return {path: ", ".join(dict.fromkeys(own[path] for own in settings)) for path in settings[0]}


def _settings(manifest: Mapping[str, Any], changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    config = manifest["config"]
    yield from _flat("objective", config["objective"])
    yield "pairs", str(manifest.get("pairs_name", config["pairs"]))
    yield "pairs.store", str(manifest.get("pairs_store", ABSENT))
    yield "pairs.version", str(manifest.get("pairs_version", ABSENT))
    branch = manifest.get("branch")
    yield "starts from", f"{branch['name']} at step {branch['step']:,}" if branch else "the model as loaded"
    yield "changed during the run", "; ".join(map(describe_change, changes)) or "nothing"
    for name, value in config.items():
        if name not in OWN_ROWS:
            yield name, format_value(value)
    # A chat template that prints the date prints the day only; the second at which a run began always differs.
    yield "template_time, day", format_value(str(config.get("template_time") or "")[:10])
    for library, version in manifest.get("versions", {}).items():
        yield f"version of {library}", str(version)


def _flat(path: str, spec: Any) -> Iterator[tuple[str, str]]:
    """Yield the name of an objective and, under paths of their own, its parameters, those of a wrapped objective included."""
    if not isinstance(spec, Mapping):
        yield path, format_value(spec)
        return
    yield path, str(spec.get("name", ""))
    for name, value in spec.items():
        if name != "name":
            yield from _flat(f"{path}.{name}", value)


def describe_change(change: Change) -> str:
    """Describe a change: "after step 40: beta 0.2, pairs of version 3"."""
    parts = [f"{name} {format_value(value)}" for name, value in change.settings.items()]
    if change.pairs_version is not None:
        parts.append(f"pairs of version {change.pairs_version}")
    return f"after step {change.after:,}: {', '.join(parts)}"


def format_value(value: Any) -> str:
    """Format the value of a setting for a table."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
