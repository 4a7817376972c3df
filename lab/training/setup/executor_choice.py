"""Choose where a run trains by default: in a thread of this program, or in a process of its own.

A small model trains in a thread: it starts at once and shares what is loaded. A large one trains in a process of its own, so that
memory that runs out, or a crash of a library, never ends the program that started it (a dashboard, a notebook), and its long
steps do not slow that program down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lab.policy.memory import memory_limit
from lab.policy.sources.adapter_source import adapter_base, check_adapter, is_adapter
from lab.policy.sources.converted import gguf_file
from lab.policy.sources.files import ADAPTER_WEIGHTS, stored_tensors, weight_files
from lab.policy.sources.gguf_header import count_gguf_parameters
from lab.run.config import TrainConfig
from lab.run.preflight_report import size

Executor = Literal["auto", "thread", "process"]

LARGE_PARAMETERS = 100_000_000
"""Models of more parameters train in a process of their own."""
LARGE_SHARE = 0.1
"""So do models whose weights, gradients and optimizer take more than this share of the memory that this process may use."""


@dataclass(frozen=True)
class Place:
    """Where a run trains. why: the reason, in one sentence."""

    executor: Literal["thread", "process"]
    why: str


def choose_place(config: TrainConfig, *, only_here: str | None = None, limit: int | None = None) -> Place:
    """Choose the place of a run with executor="auto".

    only_here: what another process does not know (an objective registered in this program, on_step), which forces a thread.
    limit: bytes of memory that this process may use; None reads it.
    """
    if only_here:
        return Place("thread", f"In this program: {only_here} is known here alone.")
    if config.model == "world":
        return Place("thread", "In this program: the world's model is small.")
    count = count_parameters(config.model)
    if count is None:
        return Place("process", "In a process of its own: how large the model is will be known once it is loaded.")
    # Full fine-tuning holds weights, gradients and two running means, each 4 bytes a parameter; below an adapter the weights alone.
    needed = count * (4 if config.lora_rank else 16)
    limit = memory_limit() if limit is None else limit
    message = f"the model has {_parameters(count)} and takes {size(needed)} without activations"
    if count > LARGE_PARAMETERS:
        return Place("process", f"In a process of its own: {message}, and above {LARGE_PARAMETERS / 1e6:,.0f} million it is large.")
    if needed > LARGE_SHARE * limit:
        return Place("process", f"In a process of its own: {message}, more than {LARGE_SHARE:.0%} of the memory ({size(limit)}).")
    return Place("thread", f"In this program: {message}.")


def count_parameters(source: str) -> int | None:
    """Count the parameters of a model folder, an adapter with its base, or a GGUF file, from the headers of their files. None where
    the model is not on this machine, or its files cannot be read."""
    try:
        return _count(source)
    except (OSError, ValueError):  # the check of the model says what is wrong with it
        return None


def _count(source: str) -> int | None:
    file = gguf_file(source)
    if file is not None:
        changed = file.stat()
        return _count_gguf(file, changed.st_size, changed.st_mtime_ns)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return None
    if is_adapter(source):
        check_adapter(folder)
        base = _count(adapter_base(folder))
        return None if base is None else base + _in_safetensors(folder / ADAPTER_WEIGHTS)
    return sum(map(_in_safetensors, weight_files(folder)))


@lru_cache(maxsize=64)
def _count_gguf(file: Path, size: int, modified: int) -> int:
    """Parameters of a GGUF file, read again where its size or the time of its last change is another."""
    return count_gguf_parameters(file)


def _in_safetensors(path: Path) -> int:
    return sum(math.prod(tensor.shape) for tensor in stored_tensors(path).values())


def _parameters(count: int) -> str:
    """A number of parameters in words."""
    value, unit = (count / 1e9, "billion") if count >= 999_500_000 else (count / 1e6, "million")
    return f"{value:,.3g} {unit} parameters"
