"""Gradient flow by layer as a frame, from the series "<column> <layer>" in which the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .summaries import grouped, mean_of
from .writer import LAYER_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


def layer_frame(parts: Mapping[str, np.ndarray], points: int | None) -> pd.DataFrame:
    """One row a layer and probed step, or bucket of them where there are more than `points`; see `StoreReader.layers`.

    parts: summaries by the name of their series, in the order of the layers.
    """
    import pandas as pd

    layers = list(dict.fromkeys(name.split(" ", 1)[1] for name in parts))
    probes = max((int(part["count"].sum()) for part in parts.values()), default=0)
    few = _bucketed(parts, points) if points is not None else dict(parts)
    summed = any(part["count"].max(initial=1) > 1 for part in few.values())
    shown = [*LAYER_COLUMNS, *(column + end for end in ("_low", "_high") for column in LAYER_COLUMNS if summed)]
    tables: dict[str, list[np.ndarray]] = {name: [] for name in ("step", "place", *shown)}
    for place, layer in enumerate(layers):
        mine = {column: few[f"{column} {layer}"] for column in LAYER_COLUMNS if f"{column} {layer}" in few}
        first = next(iter(mine.values()))
        tables["step"].append((first["first_step"] + first["last_step"]) // 2)
        tables["place"].append(np.full(len(first), place))
        for column in LAYER_COLUMNS:
            part, unknown = mine.get(column, first[:0]), np.full(len(first), np.nan)
            there = len(part) == len(first)
            tables[column].append(mean_of(part) if there else unknown)
            for end in ("low", "high") if summed else ():
                tables[f"{column}_{end}"].append(part[end] if there else unknown)
    if not layers:
        return pd.DataFrame(columns=["step", "layer", *LAYER_COLUMNS])
    found = {name: np.concatenate(values) for name, values in tables.items()}
    order = np.lexsort((found["place"], found["step"]))
    names = np.array(layers, object)[found["place"][order]]
    frame = pd.DataFrame({"step": found["step"][order], "layer": names, **{name: found[name][order] for name in shown}})
    frame.attrs["stands_for"] = probes
    return frame


def _bucketed(parts: Mapping[str, np.ndarray], points: int) -> dict[str, np.ndarray]:
    """At most `points` buckets of each; those of the same probes at once."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, part in parts.items():
        ends = (int(part["first_step"][0]), int(part["last_step"][-1])) if len(part) else (0, 0)
        alike.setdefault((len(part), *ends), []).append(name)
    found: dict[str, np.ndarray] = {}
    for names in alike.values():
        found |= dict(zip(names, grouped(np.stack([parts[name] for name in names]), points)))
    return {name: found[name] for name in parts}
