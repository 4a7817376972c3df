"""Summaries of series: minimum and maximum with their steps, first and last value, count and sum. Pure NumPy functions.

A summary represents consecutive values of a series. Merging summaries gives exactly the summary of all their values.
"""

from __future__ import annotations

import numpy as np

SUMMARY = np.dtype(
    [
        ("first_step", "<i8"),
        ("last_step", "<i8"),
        ("first", "<f8"),
        ("last", "<f8"),
        ("low_step", "<i8"),
        ("low", "<f8"),
        ("high_step", "<i8"),
        ("high", "<f8"),
        ("count", "<i8"),  # values, NaN among them
        ("finite", "<i8"),  # values that are neither NaN nor infinite
        ("sum", "<f8"),  # of these
    ]
)


def of_values(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a summary of each single value: steps int64 [n], values float64 [n] -> SUMMARY [n]."""
    summaries = np.empty(len(values), SUMMARY)
    for name in ("first_step", "last_step", "low_step", "high_step"):
        summaries[name] = steps
    for name in ("first", "last", "low", "high"):
        summaries[name] = values
    finite = np.isfinite(values)
    summaries["count"], summaries["finite"], summaries["sum"] = 1, finite, np.where(finite, values, 0.0)
    return summaries


def merged(parts: np.ndarray) -> np.ndarray:
    """Merge each row of consecutive summaries into one: SUMMARY [n, k] -> SUMMARY [n]."""
    summaries = np.empty(len(parts), SUMMARY)
    rows = np.arange(len(parts))
    for name, end in (("first", 0), ("last", -1)):
        summaries[name], summaries[f"{name}_step"] = parts[name][:, end], parts[f"{name}_step"][:, end]
    lowest = np.where(np.isnan(parts["low"]), np.inf, parts["low"]).argmin(1)
    highest = np.where(np.isnan(parts["high"]), -np.inf, parts["high"]).argmax(1)
    _skip_nan(parts["low"], rows, lowest)
    _skip_nan(parts["high"], rows, highest)
    for name, at in (("low", lowest), ("high", highest)):
        summaries[name], summaries[f"{name}_step"] = parts[name][rows, at], parts[f"{name}_step"][rows, at]
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("count", "finite", "sum"):
            summaries[name] = parts[name].sum(1)
    return summaries


def _skip_nan(table: np.ndarray, rows: np.ndarray, at: np.ndarray) -> None:
    """Replace, in place, the indices of NaN by that of the first other value of the row, if there is one."""
    wrong = np.isnan(table[rows, at])
    if wrong.any():
        at[wrong] = (~np.isnan(table[wrong])).argmax(1)


def points_of(parts: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of at most `most` points to draw: the extremes of even groups and both ends, in order."""
    if not len(parts):
        return np.empty(0, np.int64), np.empty(0)
    pairs = np.stack([parts["low_step"], parts["high_step"]], 1), np.stack([parts["low"], parts["high"]], 1)
    turned = pairs[0][:, 0] > pairs[0][:, 1]
    for table in pairs:
        table[turned] = table[turned, ::-1]
    steps = np.concatenate([parts["first_step"][:1], pairs[0].ravel(), parts["last_step"][-1:]])
    values = np.concatenate([parts["first"][:1], pairs[1].ravel(), parts["last"][-1:]])
    new = np.append(True, steps[1:] > steps[:-1])
    return thinned(steps[new], values[new], most)


def thinned(steps: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of at most `most` points that keep the extremes of plain values; see `spike_keeping`."""
    if len(steps) <= most:
        return steps, values
    keep = spike_keeping(values, most)
    return steps[keep], values[keep]


def grouped(parts: np.ndarray, most: int) -> np.ndarray:
    """Merge consecutive summaries in even groups, per series: SUMMARY [..., n] -> SUMMARY [..., at most `most`]."""
    length = parts.shape[-1]
    if length <= most:
        return parts
    each = -(-length // most)
    whole = length // each * each
    summaries = merged(parts[..., :whole].reshape(-1, each)).reshape(*parts.shape[:-1], -1)
    if whole < length:
        rest = merged(parts[..., whole:].reshape(-1, length - whole)).reshape(*parts.shape[:-1], 1)
        summaries = np.concatenate([summaries, rest], -1)
    return summaries


def mean_of(parts: np.ndarray) -> np.ndarray:
    """Return the means of the finite values of summaries, [n] -> [n]; the last value (NaN or infinite) if none is finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(parts["finite"] > 0, parts["sum"] / parts["finite"], parts["last"])


def trailing(parts: np.ndarray, width: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return trailing means over about `width` values, from summaries: at most `most` steps, and the mean at each."""
    return _trailing(parts["last_step"], parts["count"], parts["finite"], parts["sum"], width, most)


def trailing_values(steps: np.ndarray, values: np.ndarray, width: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return trailing means over `width` plain values: at most `most` steps, and the mean at each."""
    finite = np.isfinite(values)
    return _trailing(steps, np.ones(len(steps), np.int64), finite, np.where(finite, values, 0.0), width, most)


def _trailing(
    steps: np.ndarray, counts: np.ndarray, finites: np.ndarray, totals: np.ndarray, width: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    if not len(steps):
        return np.empty(0, np.int64), np.empty(0)
    at = np.unique(np.linspace(len(steps) - 1, 0, most).round().astype(int)) if len(steps) > most else np.arange(len(steps))
    values = np.concatenate([[0], np.cumsum(counts)])
    finite = np.concatenate([[0], np.cumsum(finites)])
    sums = np.concatenate([[0.0], np.cumsum(totals)])
    begin = np.minimum(np.searchsorted(values, values[at + 1] - width), at)
    count = finite[at + 1] - finite[begin]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(count > 0, (sums[at + 1] - sums[begin]) / count, np.nan)
    return steps[at], means


def spike_keeping(values: np.ndarray, points: int) -> np.ndarray:
    """Return indices of at most `points` values that keep the extremes of every bucket and both ends: [n] -> [at most `points`]."""
    if not len(values):
        return np.empty(0, np.int64)
    buckets = max((points - 2) // 2, 1)
    each = -(-len(values) // buckets)
    rows = -(-len(values) // each)
    table = np.full((rows, each), values[-1])  # padded with the last value; of equals the first is chosen
    table.ravel()[: len(values)] = values
    starts = np.arange(rows)
    if np.isnan(values).any():
        lowest = np.where(np.isnan(table), np.inf, table).argmin(1)
        highest = np.where(np.isnan(table), -np.inf, table).argmax(1)
        _skip_nan(table, starts, lowest)
        _skip_nan(table, starts, highest)
    else:
        lowest, highest = table.argmin(1), table.argmax(1)
    keep = np.concatenate([[0], np.sort(np.stack([lowest, highest], 1) + each * starts[:, None], 1).ravel(), [len(values) - 1]])
    distinct: np.ndarray = keep[np.append(True, keep[1:] > keep[:-1])]
    return distinct
