"""The record of one optimizer step on a model: its batch before and after, its gradient by layer, and other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lab.pairs import Pair
from lab.store.terms import with_margin
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.metrics import host_terms, token_rows
from lab.training.step import StepResult

CHANGING = ("loss", "margin", "logps_chosen", "logps_rejected")
"""Terms whose values before and after a step are shown next to each other."""

TOKEN_COLUMNS = ["row", "pair", "side", "ids", "logps", "ref_logps", "credit", "pilot", "logps_after"]


@dataclass(frozen=True)
class ModelStep:
    """One optimizer step and its effect.

    Attributes:
        number: Number of the step, from 1.
        learning_rate: Its learning rate.
        pairs: The batch, B pairs.
        terms: Terms of the objective before the step, one row per pair of the batch, with the column pair (id).
        terms_after: The same pairs under the new weights, with the statistics and random draws of the step.
        tokens: Two rows per pair: row (its place in the batch), pair, side, and arrays [T] of ids, logps, ref_logps (nats),
            credit, pilot (None without one) and logps_after.
        layers: Gradient by layer before clipping, in the columns of `Run.layers`: step, layer, norm_chosen, norm_rejected, cosine,
            update_ratio.
        grad_norm: Norm of the whole gradient before clipping.
        moved: Norm of the change of all weights.
        others: Held-out pairs in the columns of `lab.whatif.margins.margin_changes`, by decreasing change of the margin.
        seconds: Duration.
    """

    number: int
    learning_rate: float
    pairs: tuple[Pair, ...]
    terms: pd.DataFrame
    terms_after: pd.DataFrame
    tokens: pd.DataFrame
    layers: pd.DataFrame
    grad_norm: float
    moved: float
    others: pd.DataFrame
    seconds: float

    def mean(self, term: str) -> tuple[float, float]:
        """Return the mean of a term over the batch, before and after the step; pairs that lack an optional term are left out."""
        whole = term in CHANGING  # every pair has these, so that NaN is an overflow and must not be hidden
        return float(self.terms[term].mean(skipna=not whole)), float(self.terms_after[term].mean(skipna=not whole))

    def pair_table(self) -> pd.DataFrame:
        """Return one row per pair of the batch: the terms that the step changes before and after it, then all others before it."""
        before, after = with_margin(self.terms), with_margin(self.terms_after)
        columns: dict[str, pd.Series[Any]] = {}
        for term in (term for term in CHANGING if term in before):
            columns |= {term: before[term], f"{term}_after": after[term]}
        return pd.DataFrame(columns | {str(term): before[term] for term in before.columns.drop("pair") if term not in columns})

    @property
    def helped(self) -> pd.DataFrame:
        """The held-out pairs whose margin grew, largest change first."""
        return self.others[self.others["margin_change"] > 0]

    @property
    def hurt(self) -> pd.DataFrame:
        """The held-out pairs whose margin shrank, largest change first."""
        return self.others[self.others["margin_change"] < 0].iloc[::-1]


def step_terms(batch: Sequence[EncodedPair], result: StepResult) -> pd.DataFrame:
    """Return every term of the objective, one row per pair of the batch, after a column pair with the ids."""
    return pd.DataFrame({"pair": [pair.id for pair in batch], **host_terms(result.credited)})


def step_tokens(batch: Sequence[EncodedPair], result: StepResult, after: StepResult) -> pd.DataFrame:
    """Return the token values of a batch in `TOKEN_COLUMNS`, two rows per pair: all chosen answers, then all rejected ones."""
    pairs = list(batch)
    cells = [
        (place % len(pairs), row.pair, row.side, row.ids, row.logps, row.ref_logps, row.credit, row.pilot, new.logps)
        for place, (row, new) in enumerate(zip(token_rows(pairs, result), token_rows(pairs, after)))
    ]
    return pd.DataFrame(cells, columns=TOKEN_COLUMNS)
