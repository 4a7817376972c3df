"""Pairs of a run as numbers: the batch of a step, or one pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.store import RunError

from .pair_numbers import MOST_PAIRS, PairNumbers

if TYPE_CHECKING:
    import pandas as pd

    from lab.run.handle import Run

DIGITS = 4
"""Decimal places of the numbers that are taken from a run, so that an address stays readable."""


def pairs_of_run(run: Run, step: int, limit: int = MOST_PAIRS, *, fetch: bool = True) -> tuple[PairNumbers, ...]:
    """Return the first pairs of the batch that a run trained on at a step, with their numbers before that step.

    Log-ratios and the reference's mean log-prob per token are rounded to 4 decimal places. Statistics over fewer pairs than the
    run's batch differ from those that the run used.

    Args:
        run: The run.
        step: The training step, from 1.
        limit: Maximum number of pairs.
        fetch: Whether the run's model may be downloaded or converted for its tokenizer.

    Raises:
        RunError: The batch is no longer stored, the run has no reference, or its tokenizer or pairs cannot be read.
        ValueError: A number is beyond the limits of `PairNumbers`.
    """
    rows = run.reader.pairs.batch(step)
    if rows.empty:
        latest = run.reader.pairs.batches(1, step)
        instead = (
            f"the latest one that is stored before it is of step {int(latest['step'].iloc[0])}"
            if len(latest)
            else "take a later step"
        )
        raise RunError(f"The run {run.name} has no stored batch of step {step}; {instead}.")
    return _numbers(run, rows.head(limit), fetch)


def pair_of_run(run: Run, step: int | None, pair: str, *, fetch: bool = True) -> PairNumbers:
    """Return a pair's numbers when a run last computed it, at or before a step (None: the latest); rounded as `pairs_of_run`.

    Args:
        run: The run.
        step: The latest step that counts; None for the latest of all.
        pair: Id of the pair.
        fetch: As in `pairs_of_run`.

    Raises:
        RunError: The run had not computed the pair by that step, or as `pairs_of_run`.
    """
    rows = run.reader.pairs.history(pair, last=step, points=2)
    if rows.empty:
        when = "" if step is None else f" at or before step {step}"
        raise RunError(f"The run {run.name} has no numbers of the pair {pair!r}{when}; choose another pair or a later step.")
    return _numbers(run, rows.tail(1), fetch)[0]


def require_reference(run: Run, known: bool) -> None:
    """Raise RunError if the log-probs of the reference are not known."""
    if not known:
        raise RunError(
            f"The run {run.name} has no reference, so its pairs have no log-ratios; choose a run whose objective uses a reference."
        )


def _numbers(run: Run, rows: pd.DataFrame, fetch: bool) -> tuple[PairNumbers, ...]:
    require_reference(run, {"log_ratio_chosen", "log_ratio_rejected"} <= set(rows.columns))
    lengths = _Lengths(run, fetch)
    entries: list[Any] = list(rows.itertuples())
    return tuple(_pair(row, lengths(str(row.pair), int(row.step), int(row.version))) for row in entries)


def _pair(row: Any, tokens: tuple[int, int]) -> PairNumbers:
    x1, x2 = float(row.log_ratio_chosen), float(row.log_ratio_rejected)
    # log ref(y) = log pi(y) - log X; rounding errors must not make a probability exceed 1.
    ref_w, ref_l = (min((total - x) / n, 0.0) for total, x, n in zip((row.logps_chosen, row.logps_rejected), (x1, x2), tokens))
    return PairNumbers(round(x1, DIGITS), round(x2, DIGITS), tokens, (round(float(ref_w), DIGITS), round(float(ref_l), DIGITS)))


class _Lengths:
    """Lengths of a run's answers in tokens: those stored with the tokens of a step, else counted by the run's tokenizer."""

    def __init__(self, run: Run, fetch: bool) -> None:
        self._run, self._fetch = run, fetch
        self._kept: dict[int, dict[tuple[str, str], int]] = {}
        self._encoder: Any = None

    def __call__(self, pair: str, step: int, version: int) -> tuple[int, int]:
        if step not in self._kept:
            stored: list[Any] = list(self._run.reader.tokens.read(step).itertuples())
            self._kept[step] = {(row.pair, row.side): len(row.ids) for row in stored}
        kept = self._kept[step]
        if (pair, "chosen") in kept and (pair, "rejected") in kept:
            return kept[pair, "chosen"], kept[pair, "rejected"]
        return self._counted(pair, version)

    def _counted(self, pair: str, version: int) -> tuple[int, int]:
        from lab.policy import Encoder
        from lab.whatif.tokenizer import tokenizer_of

        if self._encoder is None:
            self._encoder = Encoder(tokenizer_of(self._run, fetch=self._fetch), self._run.config.max_length)
        content = self._run.pair_store().get(pair, version)
        chosen, rejected = self._encoder.together(content.context, [content.chosen, content.rejected])
        return len(chosen.answer), len(rejected.answer)
