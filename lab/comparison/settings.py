"""What the settings of some runs differ in: configuration, objective with all its parameters, pairs, start, changes in mid-run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lab.store import Change

ABSENT = "–"
"""In a run that has no such setting, as another objective's parameter."""

SAID_OTHERWISE = ("objective", "pairs", "name", "template_time")


def difference(abouts: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Sequence[Change]]) -> pd.DataFrame:
    """One row a setting (index: its path, as "objective.base.beta"), one column a run with the value as text, and `same`.

    abouts: what `run.json` holds, by the runs' labels.   changes: what was changed in mid-run.
    What differs comes first.
    """
    facts = {label: dict(_facts(manifest, changes[label])) for label, manifest in abouts.items()}
    paths = dict.fromkeys(path for found in facts.values() for path in found)
    table = pd.DataFrame({label: {path: found.get(path, ABSENT) for path in paths} for label, found in facts.items()})
    table = table.reindex(list(paths))
    table["same"] = [len(set(row)) == 1 for row in table.itertuples(index=False)]
    return table.sort_values("same", kind="stable")


def _facts(manifest: Mapping[str, Any], changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    config = manifest["config"]
    yield from _flat("objective", config["objective"])
    yield "pairs", str(manifest.get("pairs_name", config["pairs"]))
    yield "pairs.store", str(manifest.get("pairs_store", ABSENT))
    yield "pairs.version", str(manifest.get("pairs_version", ABSENT))
    told = manifest.get("branch")
    yield "begins from", f"{told['name']} at step {told['step']:,}" if told else "the model as loaded"
    yield "changed in mid-run", "; ".join(map(message, changes)) or "nothing"
    for name, value in config.items():
        if name not in SAID_OTHERWISE:
            yield name, text(value)
    # Chat templates that print the moment print its day, and two runs never begin in the same second.
    yield "template_time, day", text(str(config.get("template_time") or "")[:10])
    for library, version in manifest.get("versions", {}).items():
        yield f"version of {library}", str(version)


def _flat(path: str, spec: Any) -> Iterator[tuple[str, str]]:
    """An objective's name under its path, and its parameters, and those of one inside it, under paths of their own."""
    if not isinstance(spec, Mapping):
        yield path, text(spec)
        return
    yield path, str(spec.get("name", ""))
    for name, value in spec.items():
        if name != "name":
            yield from _flat(f"{path}.{name}", value)


def message(change: Change) -> str:
    """A change in words: "after step 40: beta 0.2, pairs of version 3"."""
    parts = [f"{name} {text(value)}" for name, value in change.settings.items()]
    if change.pairs_version is not None:
        parts.append(f"pairs of version {change.pairs_version}")
    return f"after step {change.after:,}: {', '.join(parts)}"


def text(value: Any) -> str:
    """A setting's value for people."""
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
