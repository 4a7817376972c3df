"""Preference pairs as token ids, with the degraded answers that SPO trains on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.objectives import DegradedSpec
from lab.pairs import Pair, degrade
from lab.policy import Encoder, ModelError, PromptAnswer

from .refused_pairs import RefusedPair


@dataclass(frozen=True)
class DegradedAnswer:
    """An answer from which key phrases were deleted (SPO), or the rejected answer of a pair with an annotated degree.

    `degree` k is its position in the degradation sequence of its source.
    """

    degree: int
    completion: PromptAnswer


@dataclass(frozen=True)
class EncodedPair:
    """A preference pair as token ids.

    Attributes:
        id: Id of the pair in its store.
        version: Version of its text.
        chosen: Prompt and chosen answer.
        rejected: Prompt and rejected answer.
        weight: Factor of its loss (see `lab.pairs.Pair.weight`).
        degree: How clearly the chosen answer is better, in (0, 1]; None where nobody said.
        degraded: The K degraded answers of an objective that uses them; empty otherwise.
        prompt_cut: Prompt tokens removed because they exceed `max_length`.
        chosen_cut: Tokens removed from the chosen answer.
        rejected_cut: Tokens removed from the rejected answer.
    """

    id: str
    version: int
    chosen: PromptAnswer
    rejected: PromptAnswer
    weight: float = 1.0
    degree: float | None = None
    degraded: tuple[DegradedAnswer, ...] = ()
    prompt_cut: int = 0
    chosen_cut: int = 0
    rejected_cut: int = 0

    @property
    def cut(self) -> int:
        """Answer tokens removed from both sides because they exceed `max_length`."""
        return self.chosen_cut + self.rejected_cut

    def completions(self) -> Iterable[PromptAnswer]:
        """Yield the chosen, the rejected and all degraded answers."""
        yield self.chosen
        yield self.rejected
        for answer in self.degraded:
            yield answer.completion


def encode_pair(pair: Pair, encoder: Encoder, degraded_spec: DegradedSpec | None = None) -> EncodedPair:
    """Return the token ids of a pair. Raises ValueError where the tokenizer cannot encode it (no chat template)."""
    chosen, rejected = encoder.together(pair.context, [pair.chosen, pair.rejected])
    prompt = chosen.prompt
    degraded: list[DegradedAnswer] = []
    if degraded_spec is not None:
        sources = {"chosen": [pair.chosen], "rejected": [pair.rejected], "both": [pair.chosen, pair.rejected]}
        for text in sources.get(degraded_spec.source, []):
            if not isinstance(text, str):
                raise ValueError("SPO degrades answers of one text, but this pair has an answer of several messages; leave it out.")
            degraded += degrade_answer(text, pair, encoder, prompt, degraded_spec)
        if degraded_spec.annotated and pair.degree is not None:
            rank = max(1, math.floor(pair.degree * (degraded_spec.degrees - 1) + 0.5))
            degraded.append(DegradedAnswer(rank, PromptAnswer(prompt, rejected.answer)))
    return EncodedPair(
        pair.id,
        pair.version,
        PromptAnswer(prompt, chosen.answer, chosen.untrained),
        PromptAnswer(prompt, rejected.answer, rejected.untrained),
        weight=pair.weight,
        degree=pair.degree,
        degraded=tuple(degraded),
        prompt_cut=chosen.prompt_cut,
        chosen_cut=chosen.answer_cut,
        rejected_cut=rejected.answer_cut,
    )


def degrade_answer(
    text: str, pair: Pair, encoder: Encoder, prompt: Sequence[int], degraded_spec: DegradedSpec
) -> list[DegradedAnswer]:
    """Return the degraded versions of an answer as token ids; none where it has too few key phrases."""
    room = max(encoder.max_length - len(prompt), 1)  # the prompt was cut for other answers
    return [
        DegradedAnswer(degree, PromptAnswer(prompt, encoder(pair.context, degraded).answer[:room]))
        for degree, degraded in enumerate(degrade(text, degraded_spec.degrees))
    ]


def encode_known(pair: Pair, encoder: Encoder, degraded_spec: DegradedSpec | None, vocabulary: int) -> EncodedPair:
    """Return the token ids of a pair, all of them in the model's vocabulary.

    Raises:
        ModelError: The tokenizer produces an id that the model does not have.
        RefusedPair: The tokenizer or its chat template refuses the pair.
    """
    try:
        encoded = encode_pair(pair, encoder, degraded_spec)
    except ModelError:
        raise
    except ValueError as error:
        raise RefusedPair(pair, str(error)) from None
    if (largest := max(max(*c.prompt, *c.answer) for c in encoded.completions())) >= vocabulary:
        raise ModelError(
            f"The tokenizer gives token {largest} in pair {pair.id}, but the model knows {vocabulary} tokens; "
            "use the tokenizer it was made with."
        )
    return encoded
