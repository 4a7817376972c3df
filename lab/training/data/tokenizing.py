"""The pairs of a run as tokens: what is trained on, what has to be cut, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lab.objectives import DegradedSpec
from lab.pairs import Pair
from lab.policy import Encoder, ModelError
from lab.run.config import TrainConfig

from .batches import EncodedPair, encode_pair
from .held_out import split
from .schedule import BatchSchedule


@dataclass(frozen=True)
class Reading:
    """pairs: those that are trained on.   order: which of them a step sees.   encoded: those that the run will see, by their
    place in `pairs`.   dropped: what too_long = "drop" left out.   kept_apart: pairs that are never trained on, and
    held_out those of them that looks compute.   held_out_dropped: what too_long = "drop" left out of these."""

    pairs: list[Pair]
    schedule: BatchSchedule
    encoded: dict[int, EncodedPair]
    dropped: tuple[EncodedPair, ...] = ()
    kept_apart: tuple[Pair, ...] = ()
    held_out: tuple[EncodedPair, ...] = ()
    held_out_dropped: tuple[EncodedPair, ...] = ()

    def by_id(self) -> dict[str, Pair]:
        """All pairs, those that are trained on first: their places are their numbers."""
        return {pair.id: pair for pair in (*self.pairs, *self.kept_apart)}


def read_pairs(
    config: TrainConfig,
    stored: list[Pair],
    encoder: Encoder,
    vocabulary: int,
    *,
    stage: Callable[..., None],
    listen: Callable[[], None],
) -> Reading:
    """Encode the pairs that the run will see; where too long ones are dropped that takes reading all of them. A share of the
    prompts is kept apart for looks.

    Raises ValueError where there are none, where none fits, or where the tokenizer refuses one, and ModelError where the
    model does not know a token.
    """
    if not stored:
        raise ValueError("The pair set is empty; add pairs, or restore dropped ones, before training on it.")
    degraded_spec = config.objective.degraded_spec()
    stored, kept_apart = divide(config, stored)
    looks = kept_apart, *read_held_out(config, kept_apart, encoder, degraded_spec, vocabulary)

    def encode(positions: Iterable[int]) -> dict[int, EncodedPair]:
        wanted, found = list(positions), {}
        for done, position in enumerate(wanted):
            if done % 256 == 0:
                stage("reading the pairs", done / len(wanted))
                listen()
            found[position] = encode_known(stored[position], encoder, degraded_spec, vocabulary)
        return found

    if config.too_long == "cut":
        schedule = BatchSchedule.of(len(stored), config.batch_size, config.seed)
        return Reading(stored, schedule, encode(seen(config, schedule)), (), *looks)
    everything = encode(range(len(stored)))
    kept = [position for position, pair in everything.items() if not pair.cut]
    dropped = tuple(pair for pair in everything.values() if pair.cut)
    if not kept:
        raise ValueError(
            f"Every one of {len(stored)} pairs has an answer that does not fit into {encoder.max_length} tokens behind what is "
            "kept of its prompt, and too_long is drop; raise max_length, or set too_long to cut."
        )
    schedule = BatchSchedule.of(len(kept), config.batch_size, config.seed)
    encoded = {place: everything[kept[place]] for place in seen(config, schedule)}
    return Reading([stored[position] for position in kept], schedule, encoded, dropped, *looks)


def divide(config: TrainConfig, stored: Sequence[Pair]) -> tuple[list[Pair], tuple[Pair, ...]]:
    """(pairs to train on, pairs that are kept apart): none are kept apart in a run that takes no looks."""
    if not (config.evaluate and config.held_out):
        return list(stored), ()
    training, kept_apart = split(stored, config.held_out, config.seed)
    return training, tuple(kept_apart)


def read_held_out(
    config: TrainConfig, kept_apart: Sequence[Pair], encoder: Encoder, degraded_spec: DegradedSpec | None, vocabulary: int
) -> tuple[tuple[EncodedPair, ...], tuple[EncodedPair, ...]]:
    """(pairs that looks compute, pairs that are left out): the first of those kept apart, without too long ones where these are
    dropped; of those left out the ones met before there are enough."""
    found: list[EncodedPair] = []
    dropped: list[EncodedPair] = []
    for pair in kept_apart:
        if len(found) == config.eval_pairs:
            break
        encoded = encode_known(pair, encoder, degraded_spec, vocabulary)
        (dropped if encoded.cut and config.too_long == "drop" else found).append(encoded)
    return tuple(found), tuple(dropped)


def seen(config: TrainConfig, schedule: BatchSchedule, done: int = 0) -> list[int]:
    """Numbers of the pairs that the run's steps reach behind step `done`."""
    whole = (2 if done else 1) * len(
        schedule.members
    )  # what is left of an epoch may meet the same pairs as the next one's beginning
    if (config.steps - done) * config.batch_size >= whole:
        return list(schedule.members)
    return sorted({i for step in range(done + 1, config.steps + 1) for i in schedule.batch(step)})


def encode_known(pair: Pair, encoder: Encoder, degraded_spec: DegradedSpec | None, vocabulary: int) -> EncodedPair:
    """A pair as tokens. Raises ModelError where the model does not know one of them, ValueError where the tokenizer refuses it."""
    try:
        encoded = encode_pair(pair, encoder, degraded_spec)
    except ValueError as error:
        raise ValueError(f"Pair {pair.id}: {error}") from None
    if (largest := max(max(*c.prompt, *c.answer) for c in encoded.completions())) >= vocabulary:
        raise ModelError(
            f"The tokenizer gives token {largest} in pair {pair.id}, but the model knows {vocabulary} tokens; "
            "use the tokenizer it was made with."
        )
    return encoded
