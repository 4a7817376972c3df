"""Taking the pair store's present content into a run that trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.pairs import Pair
from lab.policy import reference_model
from lab.training.setup.context import RunContext

from .batches import EncodedPair, encode_pair
from .schedule import BatchSchedule
from .tokenizing import divide, encode_known, read_held_out, seen


@dataclass(frozen=True)
class Edits:
    """What a new version of the pair set brings: the pairs that are new or different, as tokens where the run will see them,
    and the order from here on."""

    pairs: dict[str, Pair]
    encoded: dict[int, EncodedPair]
    held_out: tuple[EncodedPair, ...]
    held_out_dropped: tuple[EncodedPair, ...]
    kept_apart: tuple[Pair, ...]
    dropped: tuple[EncodedPair, ...]
    schedule: BatchSchedule
    counts: dict[str, int]
    """How many pairs were edited, dropped and added (restored), and of how many that are read anew an answer was cut."""


def read_edits(context: RunContext, stored: Sequence[Pair], after: int) -> Edits:
    """What the pairs of another version change for the steps behind `after`; nothing is changed yet.

    Raises ValueError for a set without pairs, and where the tokenizer or the model cannot take one.
    """
    config, vocabulary = context.config, context.policy.vocabulary
    stored, kept_apart = divide(config, stored)
    dropped: tuple[EncodedPair, ...] = ()
    if config.too_long == "drop":
        read = [(pair, encode_pair(pair, context.encoder)) for pair in stored]
        stored = [pair for pair, encoded in read if not encoded.cut]
        dropped = tuple(encoded for _, encoded in read if encoded.cut)
    if not stored:
        raise ValueError("All pairs of the set are dropped, or too long; restore some before the run takes the edits.")
    held_out, too_long = read_held_out(config, kept_apart, context.encoder, context.degraded_spec, vocabulary)
    numbers = {id: number for number, id in enumerate(context.pairs)}
    for pair in stored:
        numbers.setdefault(pair.id, len(numbers))
    schedule = context.schedule.changed(after, [numbers[pair.id] for pair in stored])
    by_number = {numbers[pair.id]: pair for pair in stored}
    wanted = seen(config, schedule, after)
    encoded = {
        number: encode_known(by_number[number], context.encoder, context.degraded_spec, vocabulary)
        for number in sorted(wanted)
        if number not in context.encoded or context.encoded[number].version != by_number[number].version
    }
    members = set(context.schedule.members)
    changed = {pair.id: pair for pair in stored if context.pairs.get(pair.id) != pair}
    counts = {
        "edited": sum(numbers[id] in members for id in changed),
        "dropped": len(members - by_number.keys()),
        "added": len(by_number.keys() - members),
        "cut": sum(bool(pair.cut) for pair in encoded.values()),
    }
    changed |= {pair.id: pair for pair in kept_apart}
    return Edits(changed, encoded, held_out, too_long, kept_apart, dropped, schedule, counts)


def compute_references(context: RunContext, edits: Edits, *, model: str, untouched: bool) -> int:
    """Compute the reference's log-probs of the completions that are new; returns how many entries that were.

    untouched: the policy's weights are still those it was loaded with. An adapter is switched off; in full fine-tuning the model is
    loaded once more, for just these entries. Raises ModelError if the model is not what it was when the run began.
    """
    pairs = (*edits.encoded.values(), *edits.held_out)
    completions = [c for pair in pairs for c in pair.completions() if not context.cache.holds(c)]
    if not completions:
        return 0
    if untouched:
        return context.cache.prepare(context.policy, completions)
    with reference_model(context.policy, model) as policy:
        return context.cache.prepare(policy, completions)


def take_edits(context: RunContext, edits: Edits) -> None:
    """From now on the run uses the edited set."""
    context.pairs.update(edits.pairs)  # the order of its keys gives the pairs their numbers
    context.encoded.update(edits.encoded)
    context.schedule, context.held_out = edits.schedule, edits.held_out
    context.kept_apart, context.dropped, context.held_out_dropped = edits.kept_apart, edits.dropped, edits.held_out_dropped
