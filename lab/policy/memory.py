"""Available memory, and retries with smaller inputs where memory runs out during a measurement."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from lab.deferred import torch

if TYPE_CHECKING:
    from .layout import PromptAnswer

Input = TypeVar("Input")
Output = TypeVar("Output")

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Parts of the messages of CUDA and of the CPU's allocator, in lower case."""
LEAST = 8
"""`shorter` does not cut prompts and answers below this number of tokens."""

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Files of all control groups, and the list of this process's groups."""
LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""File names of a group's limit and usage, and the name of its reclaimable part in memory.stat: version 2, version 1."""
UNLIMITED = 1 << 60
"""Version 1 reports a number above this where there is no limit."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory has run out."""
    return isinstance(error, MemoryError) or any(message in str(error).lower() for message in OUT_OF_MEMORY)


def retry_smaller(compute: Callable[[Input], Output], value: Input, shrink: Callable[[Input], Input | None]) -> Output:
    """Return compute(value); where memory runs out, retry with shrink(value), and so on.

    Raises the last error where `shrink` returns None.
    """
    while True:
        try:
            return compute(value)
        except (RuntimeError, MemoryError) as error:
            smaller = shrink(value) if out_of_memory(error) else None
            if smaller is None:
                raise
        release_cached_memory()  # outside the handler, whose traceback keeps the computed tensors alive
        value = smaller


def release_cached_memory() -> None:
    """Free unused memory: torch's cache on the GPU, and the C allocator's on the CPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only; other C libraries cache little
        if trim is not None:
            trim(0)


def shorter(completions: Sequence[PromptAnswer]) -> list[PromptAnswer] | None:
    """Cut completions to half of the longest prompt or answer: ends of prompts, beginnings of answers; None at `LEAST` tokens."""
    longest = max(max(len(c.prompt), len(c.answer)) for c in completions)
    if longest <= LEAST:
        return None
    keep = max(longest // 2, LEAST)
    from .layout import PromptAnswer  # imports torch

    return [PromptAnswer(c.prompt[-keep:], c.answer[:keep]) for c in completions]


def available_bytes(device: torch.device) -> int:
    """Return the bytes that can still be allocated on a device.

    Of a GPU this includes torch's unused cache; of the machine's memory at most what each control group of this process allows.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return max(0, min([int(psutil.virtual_memory().available), *(limit - used for limit, used in group_limits())]))


def memory_limit() -> int:
    """Return the bytes of main memory that this process may use: the machine's, or the lowest limit of its control groups."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in group_limits())])


def group_limits() -> Iterator[tuple[int, int]]:
    """Yield (limit, bytes used without the reclaimable part) of each control group of this process that has a limit.

    Groups are of version 1 or 2; the root is included, because a container often has its own group there.
    """
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # no control groups here
        lines = []
    places: list[Path] = [GROUPS, GROUPS / "memory"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "" or "memory" in controllers.split(","):
            root = GROUPS if controllers == "" else GROUPS / "memory"
            inner = root / path.lstrip("/")
            places += [inner, *(parent for parent in inner.parents if root in parent.parents)]
    for place in dict.fromkeys(places):
        for names in LIMITS:
            limit = _limit(place, *names)
            if limit is not None:
                yield limit


def _limit(group: Path, limit_name: str, used_name: str, reclaimable: str) -> tuple[int, int] | None:
    try:
        limit, used = (group / limit_name).read_text().strip(), int((group / used_name).read_text())
    except (OSError, ValueError):
        return None
    if not limit.isdecimal() or int(limit) >= UNLIMITED:
        return None
    try:
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used -= int(rows.get(reclaimable, 0))
    except (OSError, ValueError):
        pass  # without details, all of the usage counts
    return int(limit), max(used, 0)


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory so far, in bytes: of torch on a GPU, or the resident memory of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
