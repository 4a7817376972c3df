"""Choose the executor of a run with executor="auto": a thread of this program, or a separate process.

A small model trains in a thread, which starts at once and shares loaded libraries. A large one trains in a process, so that memory
running out, or a crash of a library, never ends the program that started it (a dashboard, a notebook) and its steps do not slow
that program down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lab.policy.memory import memory_limit
from lab.run.config import TrainConfig
from lab.run.preflight_report import size
from lab.world import is_world_name

Executor = Literal["auto", "thread", "process"]

LARGE_PARAMETERS = 100_000_000
"""Models with more parameters train in a separate process. OURS."""
LARGE_SHARE = 0.1
"""So do models whose weights, gradients and optimizer need more than this share of the memory that this process may use. OURS."""


@dataclass(frozen=True)
class ExecutorChoice:
    """The executor of a run, and the reason in one sentence."""

    executor: Literal["thread", "process"]
    reason: str


def choose_executor(config: TrainConfig, *, only_here: str | None = None, limit: int | None = None) -> ExecutorChoice:
    """Choose the executor of a run with executor="auto".

    Args:
        config: Settings of the run.
        only_here: Name of something that another process does not have (an objective registered in this program, on_step), which
            requires a thread; None otherwise.
        limit: Bytes of memory that this process may use; None reads the limit.
    """
    if only_here:
        return ExecutorChoice("thread", f"Background thread: another process does not have {only_here}.")
    if is_world_name(config.model):
        return ExecutorChoice("thread", "Background thread: the world's model is small.")
    count = count_parameters(config.model)
    if count is None:
        return ExecutorChoice("process", "Separate process: the size of the model is not known before it is loaded.")
    # Full fine-tuning: weights, gradients and AdamW's two moments, 4 bytes per parameter each; with an adapter the weights only.
    needed = count * (4 if config.lora_rank else 16)
    limit = memory_limit() if limit is None else limit
    message = f"the model has {_parameters(count)} and takes {size(needed)} without activations"
    if count > LARGE_PARAMETERS:
        return ExecutorChoice(
            "process", f"Separate process: {message}, and above {LARGE_PARAMETERS / 1e6:,.0f} million it is large."
        )
    if needed > LARGE_SHARE * limit:
        return ExecutorChoice("process", f"Separate process: {message}, more than {LARGE_SHARE:.0%} of the memory ({size(limit)}).")
    return ExecutorChoice("thread", f"Background thread: {message}.")


def count_parameters(source: str) -> int | None:
    """Count the parameters of a model folder, an adapter with its base, or a GGUF file, from the headers of their files.

    Returns None where the model is not on this machine, or its files cannot be read.
    """
    try:
        return _count(source)
    except (OSError, ValueError):  # `check_model` reports the error
        return None


def _count(source: str) -> int | None:
    from lab.policy.sources.adapter_source import adapter_base, check_adapter, is_adapter  # imports torch
    from lab.policy.sources.converted import gguf_file
    from lab.policy.sources.files import ADAPTER_WEIGHTS, weight_files

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
    """Count the parameters of a GGUF file; counted again when its size or modification time changes."""
    from lab.policy.sources.gguf_header import count_gguf_parameters

    return count_gguf_parameters(file)


def _in_safetensors(path: Path) -> int:
    from lab.policy.sources.files import stored_tensors

    return sum(math.prod(tensor.shape) for tensor in stored_tensors(path).values())


def _parameters(count: int) -> str:
    """Return a number of parameters as text, such as "7 billion parameters"."""
    value, unit = (count / 1e9, "billion") if count >= 999_500_000 else (count / 1e6, "million")
    return f"{value:,.3g} {unit} parameters"
