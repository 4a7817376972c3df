"""Curves of groups of runs: the mean over a group's runs with its interval, and the difference of two runs or groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lab.glossary import entry
from lab.store import SCREEN_POINTS

from . import bands, matching, uncertainty
from .axes import by, interpolated
from .compared_run import ComparedRun
from .reading import with_attrs


def group_curve(members: Sequence[ComparedRun], name: str, axis: str, *, whole: bool = False) -> pd.DataFrame:
    """Return a scalar of a single run or of a group by an axis.

    Args:
        members: The run, or the runs of the group.
        name: Name of the scalar.
        axis: Name of an axis in `lab.comparison.AXES`.
        whole: Use every recorded value; otherwise at most 1,000 places.

    Returns:
        Of a single run: see `ComparedRun.curve`. Of a group, columns mean and value (mean over the runs of their moving means),
        step, low and high (95 % t interval of the mean over the runs, cut where no mean can be: a log-prob is at most 0, a share
        between 0 and 1) and runs (number of runs behind each value: fewer where a run
        has ended or has not come so far); `attrs["runs"]` is the number of all runs of the group.
    """
    if len(members) == 1:
        return members[0].curve(name, axis, whole=whole)
    places, values, steps = _aligned([members], name, axis, whole)
    frame = bands.as_curve(uncertainty.over_runs(values[0]), places, steps[0], axis)
    frame[["low", "high"]] = frame[["low", "high"]].clip(*possible_range(name))
    return with_attrs(frame, _attrs(members, name, axis, whole, len(members)))


def possible_range(name: str) -> tuple[float, float]:
    """Return the lowest and the highest possible value of a scalar."""
    if name.removeprefix("eval/").startswith("logps/"):
        return -np.inf, 0.0
    return (0.0, 1.0) if entry(name).unit == "share" else (-np.inf, np.inf)


def difference(
    one: Sequence[ComparedRun], other: Sequence[ComparedRun], name: str, axis: str, *, whole: bool = False
) -> pd.DataFrame:
    """Return a scalar of a run or group minus that of another: index and attrs as in `group_curve`, columns value, mean, step.

    Of two runs, up to 1,000 recorded steps (or with `whole`) every step that both recorded is compared; in longer runs the moving
    means at 1,000 steps. By KL: at 200 distances that both runs have reached, each at the step where it first reached them. With a
    group on either side also low, high and runs: the 95 % t interval over the seeds, within pairs of the same seed if the groups
    share at least two, otherwise by Welch; `attrs["paired"]` holds the shared seeds if they are used, else it is empty.
    """
    if len(one) == len(other) == 1:
        return _difference_of_runs(one[0], other[0], name, axis, whole)
    seeds = shared_seeds(one, other)
    sides = [ordered(side, seeds) for side in (one, other)] if seeds else [one, other]
    places, values, steps = _aligned(sides, name, axis, whole)
    estimates = uncertainty.between(values[0], values[1], paired=bool(seeds))
    frame = bands.as_curve(estimates, places, steps[0], axis)
    attrs = _attrs([member for side in sides for member in side], name, axis, whole, min(len(side) for side in sides))
    return with_attrs(frame, attrs | {"paired": seeds})


def curve_data(
    runs: Sequence[tuple[str, ComparedRun]],
    groups: Sequence[tuple[str, Sequence[ComparedRun]]],
    names: Sequence[str],
    axis: str,
    *,
    whole: bool,
) -> pd.DataFrame:
    """Return the points of the curves of runs and groups in long form; see `Comparison.data`.

    Args:
        runs: Label of each run, and the run.
        groups: Label of each group, and its runs.
        names: Names of the scalars.
        axis: Name of an axis in `lab.comparison.AXES`.
        whole: Return every recorded value instead of at most 1,000 per curve.
    """
    parts = []
    for name in names:
        for label, member in runs:
            frame = member.curve(name, axis, whole=whole)
            parts.append(frame.assign(run=member.run.dir.name, label=label, seed=member.seed, runs=1, scalar=name))
        for label, members in groups:
            parts.append(group_curve(members, name, axis, whole=whole).assign(run="", label=label, scalar=name))
    order = ["run", "label", "seed", "scalar", "axis", "x", "step", "value", "mean", "low", "high", "runs"]
    if not parts:
        return pd.DataFrame(columns=order)
    every = pd.concat([part.rename_axis("x").reset_index() for part in parts], ignore_index=True)
    return every.assign(axis=axis).reindex(columns=order).astype({"seed": "Int64"})


def shared_seeds(one: Sequence[ComparedRun], other: Sequence[ComparedRun]) -> list[int]:
    """Return the seeds that two groups share, ascending, if there are at least two: then their runs are compared in pairs."""
    shared = sorted({member.seed for member in one} & {member.seed for member in other})
    return shared if len(shared) > 1 else []


def ordered(members: Sequence[ComparedRun], seeds: Sequence[int]) -> list[ComparedRun]:
    """Return the runs of a group with some seeds, in their order."""
    by_seed = {member.seed: member for member in members}
    return [by_seed[seed] for seed in seeds]


def _difference_of_runs(one: ComparedRun, other: ComparedRun, name: str, axis: str, whole: bool) -> pd.DataFrame:
    sides = [member.means(name, whole=whole) for member in (one, other)]
    if sides[0].empty or sides[1].empty:
        return _nothing()
    if axis == "kl":
        return _difference_by_kl(one, other, name)
    counts = [frame.attrs["stands_for"] for frame in sides]
    window = min(frame.attrs["window"] for frame in sides)
    if whole or max(counts) <= SCREEN_POINTS:
        steps = sides[0].index[sides[0]["value"].notna()].intersection(sides[1].index[sides[1]["value"].notna()])
        counts = [len(steps)]
    else:
        low, high = max(side.index[0] for side in sides), min(side.index[-1] for side in sides)
        steps = pd.Index(np.unique(np.linspace(low, high, SCREEN_POINTS).astype(np.int64))) if high >= low else sides[0].index[:0]
        sides = [frame.assign(value=frame["mean"]) for frame in sides]
    first, second = (interpolated(frame, steps.to_numpy()) for frame in sides)
    less = by(first - second, axis, one.places(first, axis, whole))
    return with_attrs(less, {"stands_for": min(counts), "window": window})


def _difference_by_kl(one: ComparedRun, other: ComparedRun, name: str) -> pd.DataFrame:
    distances = [member.scalar("eval/kl") for member in (one, other)]
    top = matching.common_reach(dict(zip("AB", distances)))
    if not top > 0:
        return _nothing()
    targets = np.linspace(0, top, bands.DISTANCES)
    values, steps = bands.aligned_by_kl([member.means(name) for member in (one, other)], distances, targets)
    frame = pd.DataFrame({"mean": values[0] - values[1], "step": steps[0]}, index=pd.Index(targets, name="kl"))
    frame = frame.dropna(subset="mean")
    return with_attrs(frame.assign(value=frame["mean"]), {"stands_for": len(frame), "of": ("distance", "distances")})


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({"value": [], "mean": [], "step": []}, dtype=np.float64)


def _aligned(
    sides: Sequence[Sequence[ComparedRun]], name: str, axis: str, whole: bool
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return common positions of some groups of runs, [n], and by group their values and steps there, [k, n] each."""
    if axis == "kl":
        distances = [[member.scalar("eval/kl") for member in members] for members in sides]
        places = bands.kl_targets([kl for group in distances for kl in group])
        parts = [
            bands.aligned_by_kl([member.means(name, whole=whole) for member in members], group, places)
            for members, group in zip(sides, distances)
        ]
    else:
        curves = [[member.curve(name, axis, whole=whole) for member in members] for members in sides]
        places = bands.common_places([curve for group in curves for curve in group], whole=whole)
        parts = [bands.aligned(group, places) for group in curves]
    return places, [values for values, _ in parts], [steps for _, steps in parts]


def _attrs(members: Sequence[ComparedRun], name: str, axis: str, whole: bool, runs: int) -> dict[str, Any]:
    """Return the attrs of a curve over several runs: those of the longest of them, and the number of runs."""
    known: list[dict[Any, Any]] = [curve.attrs for member in members if len(curve := member.curve(name, axis, whole=whole))]
    return max(known, key=lambda attrs: attrs["stands_for"], default={"stands_for": 0, "window": 1}) | {"runs": runs}


def marked(members: Sequence[ComparedRun], axis: str) -> pd.DataFrame:
    """Return the events of a run or group that figures mark, see `ComparedRun.marked`; of a group without checkpoints."""
    parts = [member.marked(axis) for member in members]
    if len(parts) == 1:
        return parts[0]
    named = [part.assign(message=f"seed {member.seed}: " + part["message"]) for member, part in zip(members, parts) if len(part)]
    every = pd.concat(named) if named else parts[0]
    return every[every["kind"] != "checkpoint"].sort_values("x", kind="stable")
