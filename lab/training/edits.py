"""Taking the pair store's present content into a run that trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.pairs import Pair
from lab.policy import Policy

from .batches import EncodedPair, encode_pair
from .order import Order
from .prepare import Prepared, load_configured
from .reading import encode_known


@dataclass(frozen=True)
class Edits:
    """What a new version of the pair set brings: the pairs that are new or different, as tokens where the run will see them,
    and the order from here on."""

    pairs: dict[str, Pair]
    encoded: dict[int, EncodedPair]
    order: Order
    counts: dict[str, int]
    """How many pairs were edited, dropped and added (restored), and of how many that are read anew an answer was cut."""


def read_edits(ready: Prepared, stored: Sequence[Pair], after: int) -> Edits:
    """What the pairs of another version change for the steps behind `after`; nothing is changed yet.

    Raises ValueError for a set without pairs, and where the tokenizer or the model cannot take one.
    """
    if ready.config.too_long == "drop":
        stored = [pair for pair in stored if not encode_pair(pair, ready.encoder).cut]
    if not stored:
        raise ValueError("All pairs of the set are dropped, or too long; restore some before the run takes the edits.")
    numbers = {id: number for number, id in enumerate(ready.pairs)}
    for pair in stored:
        numbers.setdefault(pair.id, len(numbers))
    order = ready.order.changed(after, [numbers[pair.id] for pair in stored])
    by_number = {numbers[pair.id]: pair for pair in stored}
    seen = {number for step in range(after + 1, ready.config.steps + 1) for number in order.batch(step)}
    # Of a whole set every pair counts, seen or not (statistics over the data set).
    wanted = seen if len(seen) < len(by_number) else by_number
    encoded = {
        number: encode_known(by_number[number], ready.encoder, ready.wants, ready.policy.vocabulary)
        for number in sorted(wanted)
        if number not in ready.encoded or ready.encoded[number].version != by_number[number].version
    }
    members = set(ready.order.members)
    changed = {pair.id: pair for pair in stored if ready.pairs.get(pair.id) != pair}
    counts = {
        "edited": sum(numbers[id] in members for id in changed),
        "dropped": len(members - by_number.keys()),
        "added": len(by_number.keys() - members),
        "cut": sum(bool(pair.cut) for pair in encoded.values()),
    }
    return Edits(changed, encoded, order, counts)


def compute_references(ready: Prepared, edits: Edits, *, model: str, untouched: bool) -> int:
    """Compute the reference's log-probs of the completions that are new; returns how many entries that were.

    untouched: the policy's weights are still those it was loaded with. An adapter is switched off; in full fine-tuning the model is
    loaded once more, for just these entries. Raises ModelError if the model is not what it was when the run began.
    """
    completions = [c for pair in edits.encoded.values() for c in pair.completions() if not ready.cache.holds(c)]
    if not completions:
        return 0
    policy = ready.policy if ready.policy.adapter or untouched else _load_again(ready, model)
    return ready.cache.prepare(policy, completions)


def take_edits(ready: Prepared, edits: Edits) -> None:
    """From now on the run uses the edited set."""
    ready.pairs.update(edits.pairs)  # the order of its keys gives the pairs their numbers
    ready.encoded.update(edits.encoded)
    ready.order = edits.order


def _load_again(ready: Prepared, model: str) -> Policy:
    base = load_configured(ready.config, model, adapter=False)
    if base.fingerprint != ready.policy.fingerprint:
        raise ValueError(
            f"The model {model} has changed since the run began, so the reference of an edited pair cannot be computed; "
            "put it back, or start a new run."
        )
    base.lay_out_as(ready.policy)
    return base
