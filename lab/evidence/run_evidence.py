"""Evidence of one run about its pairs: learned, never learned, forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lab.pairs import Finding, PairStore, findings
from lab.run import find_run
from lab.run.run_data import RunData
from lab.store.terms import MARGIN, with_margin

from .trajectories import NUMBERS, trajectory_numbers

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

FEWEST_VISITS = 2
"""Visits from which a pair can be called never learned or forgotten: the margin of the first is from before the pair was trained
on."""

WRONG_LABELS = {"never_learned": 0.70, "forgotten": 0.34}
"""Share of the findings of each name whose label is wrong, measured by tests/bench/bench_states.py: lower ends of 95 % intervals on
the embedded world, where 10 % of all labels are wrong, after two epochs. It is higher where more labels are wrong."""


def evidence_of(run: RunData | str | Path) -> pd.DataFrame:
    """Return what a run shows about each of its pairs.

    Margins are those before the step in which a pair was trained on. Steps that the store has thinned out are missing.

    Args:
        run: A run, its folder or its name.

    Returns:
        One row per pair: pair_id, held_out (whether it was never trained on), state, and the columns of `trajectory_numbers`. The
        state is "held out", "seen once", "learned" (the last margin is above 0, without a forgetting event), "forgotten" (there
        was one, and the last margin is 0 or less), "unsteady" (there was one, and the last margin is above 0) or "never learned".
    """
    import pandas as pd

    data = run if isinstance(run, RunData) else RunData(find_run(run))
    trained, held_out = (with_margin(frame) for frame in (data.reader.pairs.read(), data.reader.held_out.read()))
    parts = []
    for frame, held in ((trained, False), (held_out, True)):
        if MARGIN not in frame or frame.empty:
            continue
        frame = frame[frame["step"] > 0] if held else frame  # before training every margin is 0
        parts.append(trajectory_numbers(frame[["pair", "step", MARGIN]]).assign(held_out=held))
    if not parts:
        return pd.DataFrame(columns=["pair_id", "held_out", "state", *NUMBERS])
    table = pd.concat(parts).rename_axis("pair_id").reset_index()
    table["state"] = [
        _state(*row) for row in table[["held_out", "visits", "forgotten", "last_margin"]].itertuples(index=False, name=None)
    ]
    return table[["pair_id", "held_out", "state", *NUMBERS]]


class _Row(NamedTuple):
    pair_id: str
    state: str
    visits: int
    forgotten: int
    last_margin: float


def _state(held_out: bool, visits: int, forgotten: int, last: float) -> str:
    if held_out:
        return "held out"
    if visits < FEWEST_VISITS:
        return "seen once"
    if forgotten:
        return "unsteady" if last > 0 else "forgotten"
    return "learned" if last > 0 else "never learned"


def held_out_leaks(run: RunData | str | Path) -> list[Finding]:
    """Return findings "held_out_leak": training pairs of a run that nearly repeat one of its held-out pairs.

    Held-out pairs are chosen by their prompt, so another spelling of a prompt can be on the other side.

    Args:
        run: A run, its folder or its name.

    Raises:
        PairsError: If the run's pair set cannot be read any more.
    """
    from lab.training.data.training_pairs import divide

    data = run if isinstance(run, RunData) else RunData(find_run(run))
    with PairStore(data.manifest["pairs_store"]) as store:
        training, kept_apart = divide(data.config, store.all(data.manifest["pairs_version"]))
    return findings(training, kept_apart, ["held_out_leak"])


def run_findings(evidence: pd.DataFrame) -> list[Finding]:
    """Return findings "never_learned" and "forgotten" from the result of `evidence_of`; both are tags, for review.

    Their confidence is how often such a pair has a wrong label, measured on the embedded world; on other pairs it is not known.
    """
    findings = []
    for row in map(_Row._make, evidence[list(_Row._fields)].itertuples(index=False)):
        if row.state == "never learned":
            sentence = (
                f"The model never preferred the chosen answer in {row.visits} visits; the last margin is {row.last_margin:.2f}."
            )
            name = "never_learned"
        elif row.state == "forgotten":
            times = "once" if row.forgotten == 1 else f"{row.forgotten} times"
            sentence = f"The model learned this pair and forgot it {times}; the last margin is {row.last_margin:.2f}."
            name = "forgotten"
        else:
            continue
        tag = {"tag": name.replace("_", " ")}
        findings.append(Finding(row.pair_id, name, sentence, remedy="tag", confidence=WRONG_LABELS[name], proposal=tag))
    return findings
