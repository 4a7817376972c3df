"""A prompt and the answers behind it, as they lie in a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Tokens of a prompt and of the answers that stand behind it, in a row."""

    prompt: int
    answers: tuple[int, ...]

    @property
    def length(self) -> int:
        return self.prompt + sum(self.answers)
