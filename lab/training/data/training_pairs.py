"""The pair set of a run as token ids: pairs to train on, pairs held out, and pairs left out because they are too long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lab.objectives import DegradedSpec
from lab.pairs import Pair
from lab.policy import Encoder
from lab.run.config import TrainConfig

from .encoded_pairs import EncodedPair, encode_known
from .held_out import split
from .refused_pairs import RefusedPair, all_refused, readable
from .schedule import BatchSchedule


@dataclass(frozen=True)
class TrainingPairs:
    """One version of a run's pair set.

    Attributes:
        pairs: Every pair by id. The position of an id is the pair's number; pairs added in mid-run come last.
        schedule: Numbers of the pairs of each step.
        encoded: Token ids by number, of the pairs that the remaining steps use.
        dropped: Training pairs left out because an answer is too long (too_long = "drop").
        kept_apart: Pairs that are never trained on.
        held_out: Those of `kept_apart` that evaluations compute.
        held_out_dropped: Those of `kept_apart` left out because an answer is too long.
        refused: Pairs left out because the tokenizer or its chat template refuses them (skip_bad_rows).
    """

    pairs: Mapping[str, Pair]
    schedule: BatchSchedule
    encoded: Mapping[int, EncodedPair]
    dropped: tuple[EncodedPair, ...] = ()
    kept_apart: tuple[Pair, ...] = ()
    held_out: tuple[EncodedPair, ...] = ()
    held_out_dropped: tuple[EncodedPair, ...] = ()
    refused: tuple[Pair, ...] = ()

    def trained(self) -> list[Pair]:
        """Return the pairs in use for training, by number."""
        by_number = list(self.pairs.values())
        return [by_number[number] for number in self.schedule.members]

    def remaining(self, config: TrainConfig, done: int) -> TrainingPairs:
        """Return the set with token ids of only those pairs that the steps after `done` use."""
        return replace(self, encoded={number: self.encoded[number] for number in numbers_used(config, self.schedule, done)})

    def excluded(self) -> dict[str, list[str]]:
        """Return the ids of pairs that are not trained on: held out ("pairs"), "too_long", and "refused" by the tokenizer."""
        named: dict[str, Sequence[Pair | EncodedPair]] = {
            "pairs": self.kept_apart,
            "too_long": self.dropped,
            "refused": self.refused,
        }
        return {name: [pair.id for pair in pairs] for name, pairs in named.items()}


@dataclass(frozen=True)
class EditedPairs:
    """A pair set after edits in mid-run.

    Attributes:
        pairs: The set in use from now on.
        encoded: Pairs whose token ids are new, training and held-out pairs together.
        counts: Number of pairs "edited", "dropped" and "added" in training, of all "encoded" ones, and of those in training with a
            shortened answer ("cut").
    """

    pairs: TrainingPairs
    encoded: tuple[EncodedPair, ...]
    counts: dict[str, int]


def read_pairs(
    config: TrainConfig,
    stored: Sequence[Pair],
    encoder: Encoder,
    vocabulary: int,
    *,
    report_stage: Callable[..., None] = lambda *stage: None,
    poll: Callable[[], None] = lambda: None,
) -> TrainingPairs:
    """Encode the pairs that a run's steps use, and split off the held-out pairs by prompt.

    Args:
        config: Settings of the run.
        stored: The pair set.
        encoder: Encoder of the policy's tokenizer.
        vocabulary: Number of tokens that the model has.
        report_stage: Receives (text, share done).
        poll: Called every 256 pairs; may raise to stop.

    Raises:
        ValueError: There are no pairs, none fits into max_length, or the tokenizer refuses some and skip_bad_rows is off.
        ModelError: The model does not have a token.
    """
    if not stored:
        raise ValueError("The pair set is empty; add pairs, or restore dropped ones, before training on it.")
    encode_one = _Once(
        partial(encode_known, encoder=encoder, degraded_spec=config.objective.degraded_spec(), vocabulary=vocabulary)
    )
    usable = readable(stored, encode_one, poll) if config.skip_bad_rows else list(stored)
    try:
        if not usable:
            raise all_refused(config, stored, encode_one, poll)
        data = _read(config, usable, encoder, encode_one, report_stage, poll)
    except RefusedPair:
        raise all_refused(config, stored, encode_one, poll) from None
    kept = {pair.id for pair in usable}
    return replace(data, refused=tuple(pair for pair in stored if pair.id not in kept))


class _Once:
    """Encodes a pair once, however often it is asked for."""

    def __init__(self, encode: Callable[[Pair], EncodedPair]) -> None:
        self._encode, self._known = encode, dict[str, EncodedPair]()

    def __call__(self, pair: Pair) -> EncodedPair:
        if pair.id not in self._known:
            self._known[pair.id] = self._encode(pair)
        return self._known[pair.id]


def _read(
    config: TrainConfig,
    stored: Sequence[Pair],
    encoder: Encoder,
    encode_one: Callable[[Pair], EncodedPair],
    report_stage: Callable[..., None],
    poll: Callable[[], None],
) -> TrainingPairs:
    training, kept_apart = divide(config, stored)
    held_out, held_out_dropped = encode_held_out(config, kept_apart, encode_one)

    def encode(numbers: Iterable[int]) -> dict[int, EncodedPair]:
        wanted, encoded = list(numbers), {}
        for done, number in enumerate(wanted):
            if done % 256 == 0:
                report_stage("reading the pairs", done / len(wanted))
                poll()
            encoded[number] = encode_one(training[number])
        return encoded

    dropped: tuple[EncodedPair, ...] = ()
    if config.too_long == "cut":
        schedule = BatchSchedule.of(len(training), config.batch_size, config.seed)
        encoded = encode(numbers_used(config, schedule))
    else:
        every = encode(range(len(training)))
        kept = [number for number, pair in every.items() if not pair.cut]
        dropped = tuple(pair for pair in every.values() if pair.cut)
        if not kept:
            raise ValueError(
                f"Every one of {len(training)} pairs has an answer that does not fit into {encoder.max_length} tokens behind what "
                "is kept of its prompt, and too_long is drop; raise max_length, or set too_long to cut."
            )
        training = [training[number] for number in kept]
        schedule = BatchSchedule.of(len(kept), config.batch_size, config.seed)
        encoded = {number: every[kept[number]] for number in numbers_used(config, schedule)}
    pairs = {pair.id: pair for pair in (*training, *kept_apart)}
    return TrainingPairs(pairs, schedule, encoded, dropped, kept_apart, held_out, held_out_dropped)


def edit_pairs(
    current: TrainingPairs, stored: Sequence[Pair], after: int, config: TrainConfig, encoder: Encoder, vocabulary: int
) -> EditedPairs:
    """Return the pair set in use after step `after` once another version of it is taken over; nothing is changed yet.

    Only pairs with new texts, or whose steps come into reach, are encoded. Raises ValueError for a set without pairs
    and for a pair that the tokenizer or the model cannot take.
    """
    encode = _Encoding(current, encoder, config.objective.degraded_spec(), vocabulary)
    usable = readable(stored, encode) if config.skip_bad_rows else stored
    training, kept_apart = divide(config, usable)
    dropped: tuple[EncodedPair, ...] = ()
    if config.too_long == "drop":
        training, dropped = encode.fitting(training)
    if not training:
        raise ValueError("All pairs of the set are dropped, or too long; restore some before the run takes the edits.")
    held_out, held_out_dropped = encode_held_out(config, kept_apart, encode)
    numbers = {id: number for number, id in enumerate(current.pairs)}
    for pair in training:
        numbers.setdefault(pair.id, len(numbers))
    schedule = current.schedule.changed(after, [numbers[pair.id] for pair in training])
    by_number = {numbers[pair.id]: pair for pair in training}
    encoded = {
        number: encode(by_number[number])
        for number in numbers_used(config, schedule, after)
        if number not in current.encoded or current.encoded[number].version != by_number[number].version
    }
    members = set(current.schedule.members)
    changed = {pair.id: pair for pair in training if current.pairs.get(pair.id) != pair}
    counts = {
        "edited": sum(numbers[id] in members for id in changed),
        "dropped": len(members - by_number.keys()),
        "added": len(by_number.keys() - members),
        "cut": sum(bool(pair.cut) for pair in encoded.values()),
        "encoded": encode.count,
    }
    pairs = {**current.pairs, **changed, **{pair.id: pair for pair in kept_apart}}
    known = {**current.encoded, **encoded}
    kept = {pair.id for pair in usable}
    refused = tuple(pair for pair in stored if pair.id not in kept)
    edited = TrainingPairs(pairs, schedule, known, dropped, kept_apart, held_out, held_out_dropped, refused)
    return EditedPairs(edited, (*encoded.values(), *held_out), counts)


class _Encoding:
    """Encodes pairs of a new version of a set, unless the set in use has encoded a pair with the same texts.

    Attributes:
        count: Number of pairs that were encoded.
    """

    def __init__(self, current: TrainingPairs, encoder: Encoder, degraded_spec: DegradedSpec | None, vocabulary: int) -> None:
        self._encode = partial(encode_known, encoder=encoder, degraded_spec=degraded_spec, vocabulary=vocabulary)
        self._by_degree = degraded_spec is not None and degraded_spec.annotated
        known = (*current.encoded.values(), *current.dropped, *current.held_out, *current.held_out_dropped)
        self._known = {pair.id: pair for pair in known}
        self._before = current.pairs
        self._fits = {(pair.id, pair.version) for pair in current.trained()}
        self.count = 0

    def __call__(self, pair: Pair) -> EncodedPair:
        known = self._known.get(pair.id)
        if known is None or not (known.version == pair.version or self._has_texts_of(known, pair)):
            known = self._encode(pair)
            self.count += 1
        self._known[pair.id] = replace(known, version=pair.version, weight=pair.weight, degree=pair.degree)
        return self._known[pair.id]

    def _has_texts_of(self, known: EncodedPair, pair: Pair) -> bool:
        """Return whether only weight, degree, tags or note of a pair have changed since it was encoded."""
        before = self._before.get(pair.id)
        if before is None or before.version != known.version or (self._by_degree and before.degree != pair.degree):
            return False
        return (before.content, before.tools) == (pair.content, pair.tools)

    def fitting(self, pairs: Sequence[Pair]) -> tuple[list[Pair], tuple[EncodedPair, ...]]:
        """Split pairs into those whose answers fit, and those with a cut answer, encoded; pairs in use are known to fit."""
        cut = {pair.id: encoded for pair in pairs if (pair.id, pair.version) not in self._fits and (encoded := self(pair)).cut}
        return [pair for pair in pairs if pair.id not in cut], tuple(cut.values())


def divide(config: TrainConfig, stored: Sequence[Pair]) -> tuple[list[Pair], tuple[Pair, ...]]:
    """Return (pairs to train on, pairs kept apart); without evaluations no pair is kept apart."""
    if not (config.evaluate and config.held_out):
        return list(stored), ()
    training, kept_apart = split(stored, config.held_out, config.seed)
    return training, tuple(kept_apart)


def encode_held_out(
    config: TrainConfig, kept_apart: Sequence[Pair], encode: Callable[[Pair], EncodedPair]
) -> tuple[tuple[EncodedPair, ...], tuple[EncodedPair, ...]]:
    """Return (the first `eval_pairs` of the pairs kept apart, those passed over on the way because they are too long)."""
    held_out: list[EncodedPair] = []
    dropped: list[EncodedPair] = []
    for pair in kept_apart:
        if len(held_out) == config.eval_pairs:
            break
        encoded = encode(pair)
        (dropped if encoded.cut and config.too_long == "drop" else held_out).append(encoded)
    return tuple(held_out), tuple(dropped)


def numbers_used(config: TrainConfig, schedule: BatchSchedule, done: int = 0) -> list[int]:
    """Return the numbers of the pairs that the steps after `done` use, ascending."""
    # The rest of an epoch may contain the same pairs as the beginning of the next one.
    whole = (2 if done else 1) * len(schedule.members)
    if (config.steps - done) * config.batch_size >= whole:
        return sorted(schedule.members)
    return sorted({number for step in range(done + 1, config.steps + 1) for number in schedule.batch(step)})
