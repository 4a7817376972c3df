"""Plant defects of every kind in a pair set and remember the truth: for measurements of the checks, tests and lessons."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lab.pairs import Pair, PairsError, answer_text, prompt_text
from lab.pairs.pair import content_id, to_json, with_unique_ids

from . import sentences

LONG_ENOUGH = 14
"""Words of an answer from which a defect that changes a part of it can be planted."""


@dataclass(frozen=True)
class Defect:
    """One planted defect.

    pair_id:  Id of the pair that has it, in the set with the defects.
    kind:     A name of `DEFECTS` or `LOOK_ALIKES`.
    original: The pair without the defect; None for a pair that was added and should go.
    other_id: Id of the pair that it repeats or contradicts, or "".
    """

    pair_id: str
    kind: str
    original: Pair | None
    other_id: str = ""


@dataclass(frozen=True)
class Planted:
    """A pair set with planted defects.

    pairs:       The set, in an order that does not give the defects away; ids are by content, as after an import.
    defects:     The truth.
    look_alikes: Pairs that resemble a defect and have none.
    held_out:    Pairs that must not be trained on, which "held_out_leak" repeats.
    """

    pairs: list[Pair]
    defects: list[Defect]
    look_alikes: list[Defect]
    held_out: list[Pair]

    def ids(self, kind: str) -> set[str]:
        """Return the ids of the pairs with a planted defect of this kind."""
        return {defect.pair_id for defect in self.defects if defect.kind == kind}


def plant(
    pairs: Iterable[Pair],
    counts: int | Mapping[str, int],
    *,
    seed: int = 0,
    look_alikes: int = 0,
    flips_spare: Callable[[Pair], bool] = lambda pair: False,
) -> Planted:
    """Plant defects in a pair set, each in a pair of its own.

    Args:
        pairs: A set without (many) defects; pairs without `str` answers stay as they are.
        counts: Number of each defect of `DEFECTS`, or numbers by name.
        seed: Of all randomness.
        look_alikes: Number of each look-alike of `LOOK_ALIKES` to plant.
        flips_spare: Pairs that are not flipped, for example those whose label is wrong already.

    Raises:
        PairsError: There is no defect of a name, or too few pairs are long enough.
    """
    rng = random.Random(f"defects {seed}")
    numbers = dict.fromkeys(DEFECTS, counts) if isinstance(counts, int) else dict(counts)
    for kind in numbers:
        if kind not in DEFECTS:
            raise PairsError(f"There is no defect {kind!r} to plant; choose from {', '.join(DEFECTS)}.")
    stock = list(pairs)
    free = [pair for pair in stock if isinstance(pair.chosen, str) and isinstance(pair.rejected, str)]
    rng.shuffle(free)
    stock, free, held_out = _hold_out(stock, free, numbers.pop("held_out_leak", 0))
    changed: dict[str, tuple[Pair, str, bool]] = {}
    added = [(_near_duplicate(pair, rng), "held_out_leak", pair) for pair in held_out[0]]
    for kind, count, is_defect in [
        *((kind, count, True) for kind, count in numbers.items()),
        *((kind, look_alikes, False) for kind in LOOK_ALIKES),
    ]:
        make = DEFECTS[kind] if is_defect else LOOK_ALIKES[kind]
        for _ in range(count):
            pair = _take(free, kind, flips_spare)
            made = make(pair, rng)
            if kind in ADDED:
                added.append((made, kind, pair))
            else:
                changed[pair.id] = (made, kind, is_defect)
    return _assemble(stock, changed, added, held_out[1], rng)


def _hold_out(stock: list[Pair], free: list[Pair], count: int) -> tuple[list[Pair], list[Pair], tuple[list[Pair], list[Pair]]]:
    """Return (pairs left, free pairs left, (pairs to leak, all held-out pairs)): prompts are held out with all of their pairs."""
    leaked = [_take(free, "held_out_leak", lambda pair: False) for _ in range(count)]
    prompts = {to_json(pair.prompt) for pair in leaked}

    def left(pairs: list[Pair]) -> list[Pair]:
        return [pair for pair in pairs if to_json(pair.prompt) not in prompts]

    return left(stock), left(free), (leaked, [pair for pair in stock if to_json(pair.prompt) in prompts])


def _take(free: list[Pair], kind: str, flips_spare: Callable[[Pair], bool]) -> Pair:
    """Remove and return a pair that the defect fits."""
    for number in range(len(free) - 1, -1, -1):
        pair = free[number]
        words = min(len(answer_text(pair.chosen).split()), len(answer_text(pair.rejected).split()))
        if (kind not in NEED_LENGTH or words >= LONG_ENOUGH) and not (kind == "flipped" and flips_spare(pair)):
            return free.pop(number)
    raise PairsError(f"No pair is left in which the defect {kind!r} can be planted; plant fewer, or give more pairs.")


def _assemble(
    stock: Sequence[Pair],
    changed: Mapping[str, tuple[Pair, str, bool]],
    added: Sequence[tuple[Pair, str, Pair]],
    held_out: list[Pair],
    rng: random.Random,
) -> Planted:
    """Put the set together, with ids by content. An added pair comes after the one that it repeats."""
    entries: list[_Entry] = []
    for pair in stock:
        made, kind, is_defect = changed.get(pair.id, (pair, "", False))
        entries.append(_Entry(made, kind, pair, is_defect))
    for made, kind, source in added:
        after = next((number for number, entry in enumerate(entries) if entry.source.id == source.id), -1)
        entries.insert(rng.randint(after + 1, len(entries)), _Entry(made, kind, source, True))
    fresh = (replace(e.pair, id=content_id(*e.pair.content), meta={}) if e.kind else e.pair for e in entries)
    final = list(with_unique_ids(fresh))
    ids = {entry.source.id: pair.id for entry, pair in zip(entries, final) if entry.kind not in ADDED}
    truth = []
    for entry, pair in zip(entries, final):
        if entry.kind in ADDED:
            other = ids.get(entry.source.id, entry.source.id)
            truth.append((Defect(pair.id, entry.kind, None, other), True))
        elif entry.kind:
            truth.append((Defect(pair.id, entry.kind, entry.source), entry.is_defect))
    return Planted(final, [d for d, is_defect in truth if is_defect], [d for d, is_defect in truth if not is_defect], held_out)


@dataclass(frozen=True)
class _Entry:
    """A pair of the new set: what was planted ("" for nothing), and the pair that it was made from."""

    pair: Pair
    kind: str
    source: Pair
    is_defect: bool


# Defects. Each returns the pair with the defect; those of `ADDED` a further pair.


def _flipped(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def _same(pair: Pair, rng: random.Random) -> Pair:
    return pair


def _near_duplicate(pair: Pair, rng: random.Random) -> Pair:
    """Change one or two words of the three texts, and the case or the spaces of the prompt."""
    answers = {"chosen": answer_text(pair.chosen), "rejected": answer_text(pair.rejected)}
    for side in rng.sample(("chosen", "rejected"), rng.randint(1, 2)):
        answers[side] = small_change(answers[side], rng)
    return replace(pair, chosen=answers["chosen"], rejected=answers["rejected"])


def _identical_sides(pair: Pair, rng: random.Random) -> Pair:
    chosen = answer_text(pair.chosen)
    changes = (lambda t: f"{t} ", lambda t: t.replace(". ", ".  "), str.lower, lambda t: t.rstrip(".") + "!", lambda t: f"{t}\n")
    rejected = rng.choice(changes)(chosen)
    return replace(pair, rejected=rejected if rejected != chosen else f"{chosen}\n")


def _near_identical(pair: Pair, rng: random.Random) -> Pair:
    chosen = answer_text(pair.chosen)
    return replace(pair, rejected=small_change(chosen, rng))


def small_change(text: str, rng: random.Random) -> str:
    """Return a text with one word misspelled, left out, doubled, or added."""
    words = re.split(r"(\s+)", text)
    places = [i for i in range(0, len(words), 2) if len(words[i]) > 3] or [0]
    at = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        letter = rng.randrange(1, max(len(words[at]) - 1, 2))
        words[at] = words[at][:letter] + words[at][letter + 1 :]
    elif kind == 1 and len(places) > 5:
        words[at : at + 2] = []
    elif kind == 2:
        words[at] = f"{words[at]} {words[at]}"
    else:
        words[at] = f"{rng.choice(('really', 'just', 'also', 'perhaps'))} {words[at]}"
    changed = "".join(words)
    return changed if changed != text else f"{text} Thanks."


def _one_side(change: Callable[[str, Pair, random.Random], str]) -> Callable[[Pair, random.Random], Pair]:
    """Return a defect that changes one of the answers, drawn at random."""

    def make(pair: Pair, rng: random.Random) -> Pair:
        if rng.random() < 0.5:
            return replace(pair, chosen=change(answer_text(pair.chosen), pair, rng))
        return replace(pair, rejected=change(answer_text(pair.rejected), pair, rng))

    return make


def _emptied(text: str, pair: Pair, rng: random.Random) -> str:
    return rng.choice(("N/A", "...", "-", "None", "[no response]", "TODO", "null", "—", "(empty)"))


def _truncated(text: str, pair: Pair, rng: random.Random) -> str:
    """Cut the text within a sentence, at the end of a word or in the middle of one."""
    ends = [match.end() for match in re.finditer(r"\w(?=\s+\w)", text)]
    at = rng.choice(ends[len(ends) // 3 :])
    return text[: at - rng.choice((0, 0, 1, 2))] if rng.random() < 0.5 else text[:at]


def _with_prompt(text: str, pair: Pair, rng: random.Random) -> str:
    prompt = pair.prompt if isinstance(pair.prompt, str) else str(pair.prompt[-1]["content"])
    return rng.choice((f"{prompt.strip()}\n{text}", f"{text}\n\n{prompt.strip()}", f'You asked: "{prompt.strip()}" {text}'))


def _with_marker(text: str, pair: Pair, rng: random.Random) -> str:
    return rng.choice(
        (
            f"{text}\n\nHuman: {rng.choice(sentences.FOLLOW_UPS)}",
            f"{text}\nUser: {rng.choice(sentences.FOLLOW_UPS)}\nAssistant: {rng.choice(sentences.REPLIES)}",
            f"Assistant: {text}",
            f"{text}<|im_end|>",
            f"{text}</s>",
            f"### Response:\n{text}",
            f"{text} [/INST] {rng.choice(sentences.REPLIES)}",
            f"{text}<|endoftext|>{rng.choice(sentences.FOLLOW_UPS)}",
            f"{text}\n<end_of_turn>",
        )
    )


def _with_control(text: str, pair: Pair, rng: random.Random) -> str:
    at = rng.randrange(1, max(len(text), 2))
    return text[:at] + rng.choice("\0\x08\x1b\u200b\u202e\u2066\ufeff\ufffd\x9d\U000e0041") + text[at:]


def _foreign(text: str, pair: Pair, rng: random.Random) -> str:
    language = rng.choice(list(sentences.FOREIGN))
    return " ".join(rng.sample(sentences.FOREIGN[language], rng.randint(2, 4)))


def _refusal(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen=rng.choice(sentences.REFUSALS))


DEFECTS: dict[str, Callable[[Pair, random.Random], Pair]] = {
    "flipped": _flipped,
    "duplicate": _same,
    "near_duplicate": _near_duplicate,
    "contradiction": _flipped,
    "identical_sides": _identical_sides,
    "near_identical": _near_identical,
    "empty_answer": _one_side(_emptied),
    "truncated_answer": _one_side(_truncated),
    "prompt_leak": _one_side(_with_prompt),
    "role_marker": _one_side(_with_marker),
    "refusal_chosen": _refusal,
    "control_characters": _one_side(_with_control),
    "mixed_languages": _one_side(_foreign),
    "held_out_leak": _near_duplicate,
}
"""Every defect by the name of the check that should find it, with the function that makes it; runs give evidence of "flipped"."""

ADDED = frozenset({"duplicate", "near_duplicate", "contradiction", "held_out_leak"})
"""Defects that are a further pair."""

NEED_LENGTH = frozenset({"near_duplicate", "near_identical", "truncated_answer", "held_out_leak", "identical_sides"})


# Look-alikes: what resembles a defect and is none.


def _plain_list(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen="You need:\n- " + "\n- ".join(rng.sample(sentences.THINGS, 4)))


def _sorry(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen=f"{rng.choice(sentences.SYMPATHY)} {answer_text(pair.chosen)}")


def _emoji(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen=f"{answer_text(pair.chosen)} {rng.choice(('👩‍🍳', '👨‍👩‍👧', '❤️', '🏴󠁧󠁢󠁳󠁣󠁴󠁿', '🧑🏽‍🔧'))}")


def _code(pair: Pair, rng: random.Random) -> Pair:
    return replace(pair, chosen=f"{answer_text(pair.chosen)}\n```yaml\nUser: {rng.choice(sentences.THINGS)}\n```")


def _quotation(pair: Pair, rng: random.Random) -> Pair:
    words = prompt_text(pair.prompt).split()
    return replace(pair, chosen=f'You ask about "{" ".join(words[: max(len(words) // 2, 1)])}". {answer_text(pair.chosen)}')


def _foreign_words(pair: Pair, rng: random.Random) -> Pair:
    language = rng.choice(("German", "French", "Spanish"))
    word = rng.choice(sentences.FOREIGN[language]).split()[:4]
    return replace(pair, chosen=f'{answer_text(pair.chosen)} In {language} they begin with "{" ".join(word)}".')


def _translation(pair: Pair, rng: random.Random) -> Pair:
    language = rng.choice(("German", "French", "Spanish"))
    chosen, rejected = rng.sample(sentences.FOREIGN[language], 2)
    return replace(pair, prompt=f"Translate into {language}: {prompt_text(pair.prompt)}", chosen=chosen, rejected=rejected)


def _short(pair: Pair, rng: random.Random) -> Pair:
    chosen, rejected = rng.sample(("Yes.", "No.", "42", "B", "Maybe", "In May", "True"), 2)
    return replace(pair, chosen=chosen, rejected=rejected)


LOOK_ALIKES: dict[str, Callable[[Pair, random.Random], Pair]] = {
    "list without full stop": _plain_list,
    "sympathy, no refusal": _sorry,
    "emoji with joiners": _emoji,
    "marker in code": _code,
    "half of the prompt quoted": _quotation,
    "some foreign words": _foreign_words,
    "translation asked for": _translation,
    "one word": _short,
}
