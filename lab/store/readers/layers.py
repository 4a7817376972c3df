"""Read gradient norms by layer, stored as one series "<column> <layer>" per column and layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lab.store.series import LAYER
from lab.store.summaries import grouped, mean_of, of_values
from lab.store.writer import LAYER_COLUMNS

from .connection import StoreConnection
from .series import end_of

if TYPE_CHECKING:
    import pandas as pd


class LayerReader:
    """Gradient norms by layer at the probed steps."""

    def __init__(self, connection: StoreConnection) -> None:
        self._store = connection

    def span(self) -> tuple[int, int] | None:
        """Return the first and the last probed step, or None if there is none."""
        return self._store.series_span(LAYER)

    def read(self, *, first: int = 0, last: int | None = None, points: int | None = None) -> pd.DataFrame:
        """Return gradient norms by layer, the layers in the model's order.

        Args:
            first: First step.
            last: Last step, included; None reads to the end.
            points: At most this many steps. If more were probed, each row represents a bucket of consecutive probes: `step` is its
                middle, the columns are means, and <column>_low and <column>_high are the extremes.

        Returns:
            One row per layer and step: step, layer, norm_chosen, norm_rejected, cosine (between the gradients of the two sides),
            update_ratio (norm of the update over norm of the weights; NaN where it was not measured).
            `frame.attrs["stands_for"]` is the number of probed steps.
        """
        with self._store.transaction():
            known = self._store.series(LAYER)
            values_between = self._store.series_range(LAYER, first, end_of(last))
            if points is None:
                parts = {name: of_values(*values_between.values(series)) for name, series in known.items()}
            else:
                parts = {name: values_between.summaries(series, 2 * points) for name, series in known.items()}
        return _layer_frame(parts, points)


def _layer_frame(parts: Mapping[str, np.ndarray], points: int | None) -> pd.DataFrame:
    """Build the frame of `LayerReader.read` from summaries by the name of their series, in the order of the layers."""
    import pandas as pd

    layers = list(dict.fromkeys(name.split(" ", 1)[1] for name in parts))
    probes = max((int(part["count"].sum()) for part in parts.values()), default=0)
    few = _bucketed(parts, points) if points is not None else dict(parts)
    bucketed = any(part["count"].max(initial=1) > 1 for part in few.values())
    shown = [*LAYER_COLUMNS, *(column + end for end in ("_low", "_high") for column in LAYER_COLUMNS if bucketed)]
    tables: dict[str, list[np.ndarray]] = {name: [] for name in ("step", "place", *shown)}
    for place, layer in enumerate(layers):
        series = {column: few[f"{column} {layer}"] for column in LAYER_COLUMNS if f"{column} {layer}" in few}
        first = next(iter(series.values()))
        tables["step"].append((first["first_step"] + first["last_step"]) // 2)
        tables["place"].append(np.full(len(first), place))
        for column in LAYER_COLUMNS:
            part, unknown = series.get(column, first[:0]), np.full(len(first), np.nan)
            measured = len(part) == len(first)
            tables[column].append(mean_of(part) if measured else unknown)
            for end in ("low", "high") if bucketed else ():
                tables[f"{column}_{end}"].append(part[end] if measured else unknown)
    if not layers:
        return pd.DataFrame(columns=["step", "layer", *LAYER_COLUMNS])
    arrays = {name: np.concatenate(values) for name, values in tables.items()}
    order = np.lexsort((arrays["place"], arrays["step"]))
    names = np.array(layers, object)[arrays["place"][order]]
    frame = pd.DataFrame({"step": arrays["step"][order], "layer": names, **{name: arrays[name][order] for name in shown}})
    frame.attrs["stands_for"] = probes
    return frame


def _bucketed(parts: Mapping[str, np.ndarray], points: int) -> dict[str, np.ndarray]:
    """Reduce each series to at most `points` buckets; series with the same probes are reduced together, for speed."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, part in parts.items():
        ends = (int(part["first_step"][0]), int(part["last_step"][-1])) if len(part) else (0, 0)
        alike.setdefault((len(part), *ends), []).append(name)
    buckets: dict[str, np.ndarray] = {}
    for names in alike.values():
        buckets |= dict(zip(names, grouped(np.stack([parts[name] for name in names]), points)))
    return {name: buckets[name] for name in parts}
