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


def summary_table(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return one row per variant: runs finished, and the mean of each metric with its 95 % t interval over seeds, as text.

    Args:
        table: The result of `run_table`.
        metrics: Columns of it.
    """
    import pandas as pd
    from scipy import stats

    rows = []
    for variant, own in table.groupby("variant", sort=False):
        row: dict[str, Any] = {"variant": variant, "finished": f"{int((own['state'] == 'finished').sum())} of {len(own)}"}
        for metric in metrics:
            values = own.loc[~own["changed"], metric].dropna().astype(float) if metric in own else pd.Series(dtype=float)
            if len(values) > 1:
                half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
                row[metric] = f"{values.mean():.3g} [{values.mean() - half:.3g}, {values.mean() + half:.3g}]"
            else:
                row[metric] = f"{values.iloc[0]:.3g}" if len(values) else "–"
        rows.append(row)
    return pd.DataFrame(rows).set_index("variant")
