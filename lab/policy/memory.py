"""What is done where memory runs out while something is only measured or compared: the same again with less."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from .layout import Completion

Given = TypeVar("Given")
Found = TypeVar("Found")

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What CUDA and the CPU's allocator say of it."""
LEAST = 8
"""Tokens of a prompt or an answer that are not cut any further."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    return isinstance(error, MemoryError) or any(said in str(error).lower() for said in OUT_OF_MEMORY)


def on_less(compute: Callable[[Given], Found], given: Given, less: Callable[[Given], Given | None]) -> Found:
    """compute(given); where memory runs out, of less(given), and so on. Raises that error where there is no less (None)."""
    while True:
        try:
            return compute(given)
        except (RuntimeError, MemoryError) as error:
            smaller = less(given) if out_of_memory(error) else None
            if smaller is None:
                raise
        release()  # not inside of the handler: until its end the traceback holds what was computed
        given = smaller


def release() -> None:
    """Give memory that nobody uses any more back to a GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def shorter(completions: Sequence[Completion]) -> list[Completion] | None:
    """The ends of their prompts and the beginnings of their answers, no longer than half of the longest; None at `LEAST`."""
    longest = max(max(len(c.prompt), len(c.answer)) for c in completions)
    if longest <= LEAST:
        return None
    keep = max(longest // 2, LEAST)
    return [Completion(c.prompt[-keep:], c.answer[:keep]) for c in completions]
