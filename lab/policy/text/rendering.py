"""A pair as a model is trained on it: its tokens, decoded."""

from __future__ import annotations

from collections.abc import Sequence

from .encoding import Answer, Encoded, Encoder, Prompt

GIVEN = "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}", "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}"
"""Put around what an answer contains but the assistant does not write, such as what a tool returned."""


def rendered(encoder: Encoder, prompt: Prompt, answers: Sequence[Answer]) -> tuple[str, list[str]]:
    """Return the text of a prompt and of its answers, decoded from the tokens that are trained on, special tokens included.

    Raises:
        ValueError: The tokenizer or its chat template refuses the texts.
    """
    encoded = encoder.together(prompt, answers)
    return _decoded(encoder, encoded[0].prompt), [_answer(encoder, each) for each in encoded]


def _answer(encoder: Encoder, encoded: Encoded) -> str:
    text, done = "", 0
    for begin, end in encoded.untrained:
        text += _decoded(encoder, encoded.answer[done:begin]) + GIVEN[0] + _decoded(encoder, encoded.answer[begin:end]) + GIVEN[1]
        done = end
    return text + _decoded(encoder, encoded.answer[done:])


def _decoded(encoder: Encoder, ids: Sequence[int]) -> str:
    return str(encoder.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
