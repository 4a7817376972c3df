"""Where a run trains unless somebody decides: in a thread of this program, or in a process of its own.

A small model trains in a thread: it starts at once and shares what is loaded. A large one trains in a process of its own, so that
memory that runs out, or a crash of a library, never ends the program that started it (a dashboard, a notebook), and its long
steps do not slow that program down.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.monitor.preflight import size
from lab.policy.memory import memory_limit

from .config import TrainConfig

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
    """The place of a run for which "auto" was asked.

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
    words = f"the model has {count / 1e6:,.3g} million parameters and takes {size(needed)} without activations"
    if count > LARGE_PARAMETERS:
        return Place("process", f"In a process of its own: {words}, and above {LARGE_PARAMETERS / 1e6:,.0f} million it is large.")
    if needed > LARGE_SHARE * limit:
        return Place("process", f"In a process of its own: {words}, more than {LARGE_SHARE:.0%} of the memory ({size(limit)}).")
    return Place("thread", f"In this program: {words}.")


def count_parameters(source: str) -> int | None:
    """Parameters in a model folder's files, from their headers or sizes; nothing is loaded. None where there are no such files."""
    folder = Path(source).expanduser()
    count = 0
    try:
        for path in [folder] if folder.is_file() else folder.iterdir() if folder.is_dir() else []:
            if path.suffix == ".safetensors":
                count += _in_safetensors(path)
            elif path.suffix == ".gguf" or (path.suffix == ".bin" and path.name.startswith("pytorch_model")):
                count += path.stat().st_size // (1 if path.suffix == ".gguf" else 2)
    except (OSError, ValueError, struct.error):
        return None
    return count or None


def _in_safetensors(path: Path) -> int:
    """The numbers in a safetensors file: its first 8 bytes are the length of a header in JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:
            raise ValueError("no safetensors file")
        header = json.loads(file.read(length))
    count = 0
    for name, about in header.items():
        if name != "__metadata__":
            numbers = 1
            for side in about["shape"]:
                numbers *= side
            count += numbers
    return count
