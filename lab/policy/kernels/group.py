"""Lengths of a prompt and its answers in a shared row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Number of tokens of a prompt and of each answer that follows it in a shared row."""

    prompt: int
    answers: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of prompt and answers."""
        return self.prompt + sum(self.answers)
