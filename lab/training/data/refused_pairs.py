"""Pairs that the tokenizer or its chat template refuses: listed together, with their lines in the source, or left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lab import home
from lab.pairs import Pair, PairsError, PairStore, is_store, places_in_source
from lab.run.config import TrainConfig

LISTED = 20
"""Places that a message names for each reason."""


class RefusedPair(ValueError):
    """A pair that cannot be encoded; `reason` is a sentence that does not name the pair."""

    def __init__(self, pair: Pair, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Pair {pair.id}: {reason}")


def readable(pairs: Sequence[Pair], encode: Callable[[Pair], Any], poll: Callable[[], None] = lambda: None) -> list[Pair]:
    """Return the pairs that can be encoded, in their order."""
    refused = _reasons(pairs, encode, poll)
    return [pair for pair in pairs if pair.id not in refused]


def all_refused(config: TrainConfig, pairs: Sequence[Pair], encode: Callable[[Pair], Any], poll: Callable[[], None]) -> ValueError:
    """Return an error that lists every refused pair of a set by reason, with its line in the source where that can be read."""
    reasons = _reasons(pairs, encode, poll)
    by_reason: dict[str, list[str]] = {}
    for id, reason in reasons.items():
        by_reason.setdefault(reason, []).append(id)
    if len(reasons) == len(pairs) and len(by_reason) == 1:
        return ValueError(f"Every pair of the set, from {pairs[0].id} on, is refused: {next(iter(by_reason))}")
    places = _places(config, pairs, reasons)
    listed = " ".join(f"{_few([places[id] for id in ids])}: {reason}" for reason, ids in by_reason.items())
    are = "pair is" if len(reasons) == 1 else "pairs are"
    return ValueError(
        f"{len(reasons):,} of {len(pairs):,} {are} refused. {listed} To train on the others, leave these out: skip_bad_rows=True "
        "(--skip-bad-rows)."
    )


def _reasons(pairs: Sequence[Pair], encode: Callable[[Pair], Any], poll: Callable[[], None]) -> dict[str, str]:
    reasons = {}
    for number, pair in enumerate(pairs):
        if number % 256 == 0:
            poll()
        try:
            encode(pair)
        except RefusedPair as error:
            reasons[pair.id] = error.reason
    return reasons


def _few(places: list[str]) -> str:
    more = len(places) - LISTED
    text = ", ".join(places[:LISTED]) + (f" and {more:,} more" if more > 0 else "")
    return text[:1].upper() + text[1:]


def _places(config: TrainConfig, pairs: Sequence[Pair], ids: dict[str, str]) -> dict[str, str]:
    """Id -> "line 5 (id)", or the number of the pair in the set where the source cannot be read again."""
    places = {pair.id: f"pair {number} ({pair.id})" for number, pair in enumerate(pairs, 1) if pair.id in ids}
    try:
        source = PairStore(config.pairs).source if is_store(config.pairs) else config.pairs
        lines = places_in_source(source, ids, split=config.split, configuration=config.configuration, home=home.home())
    except PairsError:
        return places
    return places | {id: f"{place} ({id})" for id, place in lines.items()}
