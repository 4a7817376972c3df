"""The real tokens of one pair with their log-probs, from a run or from the embedded world's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.objectives import PairLogps
from lab.policy.text.pieces import Piece, pieces
from lab.store import RunError

from .run_pairs import require_reference
from .world_pairs import world_pairs

if TYPE_CHECKING:
    from lab.run.handle import Run


@dataclass(frozen=True, eq=False)
class PairTokens:
    """One pair, token by token.

    Attributes:
        source: Where the numbers come from, in words.
        pieces: Pieces of text of the chosen and of the rejected answer, each with its tokens.
        logps: Log-probs of policy and reference as a batch of one, float64 [1, T].
    """

    source: str
    pieces: tuple[tuple[Piece, ...], tuple[Piece, ...]]
    logps: PairLogps

    @property
    def chosen(self) -> tuple[str, ...]:
        """Text of every token of the chosen answer; "" for a token that continues the character of the one before."""
        return _texts(self.pieces[0])

    @property
    def rejected(self) -> tuple[str, ...]:
        """Text of every token of the rejected answer, as in `chosen`."""
        return _texts(self.pieces[1])


def tokens_of_pair(run: Run, step: int, pair: str, *, fetch: bool = True) -> PairTokens:
    """Return the tokens of a pair as a run computed them at a step.

    Args:
        run: The run.
        step: The training step, from 1.
        pair: Id of a pair of its batch.
        fetch: Whether the run's model may be downloaded or converted for its tokenizer.

    Raises:
        RunError: The token values of that step are no longer kept, the pair was not in its batch, there is no reference, or the
            tokenizer cannot be loaded.
    """
    from lab.whatif.tokenizer import tokenizer_of

    rows = run.reader.tokens.read(step, pair).set_index("side")
    if not {"chosen", "rejected"} <= set(rows.index):
        kept = run.reader.tokens.steps()
        span = f"it keeps those of steps {kept[0]} to {kept[-1]}" if kept else "the first appear with its next step"
        raise RunError(f"The run {run.name} has no token values of the pair {pair!r} at step {step}; {span}.")
    sides: dict[str, Any] = {side: rows.loc[side] for side in ("chosen", "rejected")}
    require_reference(run, all(row["ref_logps"] is not None for row in sides.values()))
    tokenizer = tokenizer_of(run, fetch=fetch)
    values = [[_row(sides[side][name]) for side in sides] for name in ("logps", "ref_logps")]
    chosen, rejected = (tuple(pieces(tokenizer, sides[side]["ids"])) for side in sides)
    return PairTokens(f"pair {pair} of {run.name} at step {step:,}", (chosen, rejected), _batch(*values[0], *values[1]))


def tokens_of_world(number: int = 0) -> PairTokens:
    """Return the tokens of a pair of the embedded world under its model after a few steps of DPO.

    The reference is the model before these steps.

    Args:
        number: Number of the pair, from 0.

    Raises:
        ValueError: There is no such pair.
    """
    world = world_pairs()
    if not 0 <= number < len(world.pairs):
        raise ValueError(f"There are {len(world.pairs)} pairs, but no pair {number}; give 0 to {len(world.pairs) - 1}.")
    with torch.no_grad():
        logps = world.logps([number])
    chosen, rejected = (tuple(pieces(world.tokenizer, ids)) for ids in world.pairs[number].answers)
    source = f"pair {number + 1} of the embedded world, its model after {world.steps} steps of DPO"
    return PairTokens(source, (chosen, rejected), logps)


def _texts(pieces: tuple[Piece, ...]) -> tuple[str, ...]:
    return tuple(text for piece in pieces for text in (piece.text, *[""] * (piece.last - piece.first)))


def _row(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float64)[None]


def _batch(chosen: torch.Tensor, rejected: torch.Tensor, ref_chosen: torch.Tensor, ref_rejected: torch.Tensor) -> PairLogps:
    """One pair without padding; the weight of WPO is taken as 1."""
    masks = (torch.ones_like(chosen, dtype=torch.bool), torch.ones_like(rejected, dtype=torch.bool))
    return PairLogps(chosen, rejected, *masks, ref_chosen, ref_rejected, chosen, rejected)
