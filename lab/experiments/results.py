"""Results of an experiment as data frames: one row per run, per evaluation, or per evaluation and prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.store.folder import score

from .metrics import higher_is_better
from .plan import PlannedRun
from .progress import ExperimentState, RunState

if TYPE_CHECKING:
    import pandas as pd

PRIMARY = ("eval/oracle_reward", "eval/reward", "eval/rewards/accuracies")
"""The measures by which the best evaluation of a run is chosen, the first that was recorded."""

SUMMARY = (
    "eval/oracle_reward", "eval/reward", "eval/win_rate", "eval/rewards/accuracies", "eval/rewards/margins", "eval/kl",
    "eval/completions/mean_length",
)  # fmt: skip
"""Measures in a table of results, those of them that were recorded."""
DISTANCE = "eval/kl"
"""Scalar of the distance from the reference."""
EVALUATIONS = ("evaluation", "evaluations")

Records = Mapping[str, Mapping[str, Any]]
"""Record of each finished run, by its key; see `records.record_of`."""


def run_table(runs: Sequence[PlannedRun], state: ExperimentState, records: Records) -> pd.DataFrame:
    """Return one row per run, in the order in which they are trained.

    Returns:
        The columns `variant`, `seed`, every setting that varies, `run` (its folder's name), `state`, `step`, `seconds` (from start
        to end), `error`, `changed` (whether settings or pairs were changed during the run), the scalars of the last evaluation
        under their names, `best_step` and `best/<measure>` by the first of PRIMARY.
    """
    import pandas as pd

    measures = {name: None for key in records for each in records[key]["evaluations"] for name in each["scalars"]}
    best_by = next((name for name in PRIMARY if name in measures), None)
    rows = []
    for run in runs:
        now = state.runs.get(run.key, RunState())
        row: dict[str, Any] = {"variant": run.variant, "seed": run.seed, **run.varied}
        row |= {"run": now.run, "state": now.state, "step": now.step, "seconds": now.seconds, "error": now.error or ""}
        record = records.get(run.key)
        if record is not None:
            row |= {"changed": bool(record["changes"])}
            evaluations = record["evaluations"]
            row |= evaluations[-1]["scalars"] if evaluations else {}
            row |= _best(evaluations, best_by) if best_by else {}
        rows.append(row)
    varied = dict.fromkeys(name for run in runs for name in run.varied)
    order = ["variant", "seed", *varied, "run", "state", "step", "seconds", "error", "changed", *measures]
    order += ["best_step", f"best/{best_by.removeprefix('eval/')}"] if best_by else []
    frame = pd.DataFrame(rows, columns=order, index=pd.Index([run.key for run in runs], name="key"))
    return frame.assign(changed=frame["changed"].eq(True), seconds=frame["seconds"].astype(float))


def _best(evaluations: Sequence[Mapping[str, Any]], measure: str) -> dict[str, Any]:
    named = measure if higher_is_better(measure) is not False else f"{measure}:min"
    after = [each for each in evaluations if each["step"] > 0]
    scores = [(score(each["scalars"], named), each) for each in after]
    known = [(value, each) for value, each in scores if value is not None]
    if not known:
        return {}
    best = max(known, key=lambda item: item[0])[1]
    return {"best_step": best["step"], f"best/{measure.removeprefix('eval/')}": best["scalars"][measure]}


def evaluation_table(runs: Sequence[PlannedRun], records: Records) -> pd.DataFrame:
    """Return one row per run and evaluation: key, variant, seed, the varied settings, step, and one column per scalar."""
    import pandas as pd

    rows = [
        {"key": run.key, "variant": run.variant, "seed": run.seed, **run.varied, "step": each["step"], **each["scalars"]}
        for run in runs
        if run.key in records
        for each in records[run.key]["evaluations"]
    ]
    return pd.DataFrame(rows, columns=None if rows else ["key", "variant", "seed", "step"])


def prompt_table(runs: Sequence[PlannedRun], records: Records) -> pd.DataFrame:
    """Return one row per run, evaluation and prompt: key, variant, seed, step, prompt, and one column per scalar.

    `prompt` is a hash of the prompt, the same in every run. Empty where no answers were sampled.
    """
    import pandas as pd

    frames = [
        pd.DataFrame({"key": run.key, "variant": run.variant, "seed": run.seed, "step": each["step"], **each["by_prompt"]})
        for run in runs
        if run.key in records
        for each in records[run.key]["evaluations"]
        if each["by_prompt"]
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["key", "variant", "seed", "step", "prompt"])


def variant_table(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per variant: runs finished and planned, and of each metric the mean over seeds with its 95 % t interval.

    Runs whose settings or pairs were changed while they trained are left out of the means.

    Args:
        table: The result of `run_table`.
        metrics: Columns of it.

    Returns:
        The index `variant`, the columns `finished` and `runs`, and of each metric its name (the mean), `<name> low` and
        `<name> high`; NaN where there is no run, or for the ends fewer than two.
    """
    import numpy as np
    import pandas as pd

    from lab.comparison.uncertainty import over_runs

    rows = []
    for variant, own in table.groupby("variant", sort=False):
        row: dict[str, Any] = {"variant": variant, "finished": int((own["state"] == "finished").sum()), "runs": len(own)}
        for metric in metrics:
            values = own.loc[~own["changed"], metric].dropna().astype(float) if metric in own else pd.Series(dtype=float)
            estimate = over_runs(values.to_numpy(float)[:, None]) if len(values) else None
            ends = (estimate.mean[0], estimate.low[0], estimate.high[0]) if estimate else (np.nan, np.nan, np.nan)
            row |= dict(zip((metric, f"{metric} low", f"{metric} high"), ends))
        rows.append(row)
    return pd.DataFrame(rows).set_index("variant")


def summary_table(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per variant: runs finished, and the mean of each metric with its 95 % t interval over seeds, as text.

    Arguments as in `variant_table`.
    """
    import pandas as pd

    numbers = variant_table(table, metrics)
    columns = {"finished": [f"{done} of {runs}" for done, runs in zip(numbers["finished"], numbers["runs"])]}
    for metric in metrics:
        ends = numbers[[metric, f"{metric} low", f"{metric} high"]].to_numpy(float)
        columns[metric] = [interval_text(*map(float, row)) for row in ends]
    return pd.DataFrame(columns, index=numbers.index)


def interval_text(mean: float, low: float, high: float) -> str:
    """Return a mean with its interval as text: "0.62 [0.58, 0.66]"; a dash without a mean."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.3g}" if math.isnan(low) else f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def variant_curves(
    runs: Sequence[PlannedRun], records: Records, metric: str, axis: str = "step"
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, pd.DataFrame]]]:
    """Return the curve of a scalar of evaluations by variant, with a band over its seeds, and that of each run.

    Args:
        runs: Runs of the experiment.
        records: Records of its finished runs.
        metric: Name of the scalar.
        axis: "step", or "kl": at the step where each run first reached a distance from the reference.

    Returns:
        The mean over the seeds of each variant as `lab.plots.comparison.overlay` draws a group, and by variant the curve of each
        run, by its label ("seed 3").
    """
    import pandas as pd

    from lab.comparison import bands
    from lab.comparison.group_curves import possible_range
    from lab.comparison.reading import with_attrs
    from lab.comparison.uncertainty import over_runs

    members: dict[str, dict[str, tuple[pd.DataFrame, pd.Series]]] = {}
    for run in runs:
        record = records.get(run.key)
        if record is None or record["changes"]:
            continue
        own = [each for each in record["evaluations"] if metric in each["scalars"]]
        steps = [each["step"] for each in own]
        values = [float(each["scalars"][metric]) for each in own]
        kl = pd.Series([each["scalars"].get(DISTANCE, math.nan) for each in own], index=pd.Index(steps, name="step"), dtype=float)
        frame = pd.DataFrame({"value": values, "mean": values, "step": steps}, index=pd.Index(steps, name="step"), dtype=float)
        if own and (axis == "step" or kl.notna().any()):
            members.setdefault(run.variant, {})[f"seed {run.seed}"] = (frame, kl)
    if axis == "kl":
        places = bands.kl_targets([kl for each in members.values() for _, kl in each.values()])
    curves, singles = {}, {}
    for variant, seeds in members.items():
        frames = [frame for frame, _ in seeds.values()]
        if axis == "step":
            places = bands.common_places(frames)
            values_at, steps_at = bands.aligned(frames, places)
        else:
            values_at, steps_at = bands.aligned_by_kl(frames, [kl for _, kl in seeds.values()], places)
        curve = bands.as_curve(over_runs(values_at), places, steps_at, axis)
        curve[["low", "high"]] = curve[["low", "high"]].clip(*possible_range(metric))
        curves[variant] = with_attrs(curve, {"stands_for": len(frames[0]), "window": 1, "runs": len(frames), "of": EVALUATIONS})
        singles[variant] = {
            label: bands.as_curve(over_runs(values_at[[at]]), places, steps_at[[at]], axis) for at, label in enumerate(seeds)
        }
    return curves, singles
