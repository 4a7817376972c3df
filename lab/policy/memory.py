"""How much memory is free, and what is done where it runs out while something is only measured or compared."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from .layout import PromptAnswer

Given = TypeVar("Given")
Found = TypeVar("Found")

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What CUDA and the CPU's allocator say of it."""
LEAST = 8
"""Tokens of a prompt or an answer that are not cut any further."""

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where the kernel shows control groups, and those of this process."""
LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Names of a group's limit, of what it uses, and of the part of that which the kernel takes back: version 2, version 1."""
UNLIMITED = 1 << 60
"""Version 1 writes a number above this where there is no limit."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    return isinstance(error, MemoryError) or any(said in str(error).lower() for said in OUT_OF_MEMORY)


def retry_smaller(compute: Callable[[Given], Found], given: Given, less: Callable[[Given], Given | None]) -> Found:
    """compute(given); where memory runs out, of less(given), and so on. Raises that error where there is no less (None)."""
    while True:
        try:
            return compute(given)
        except (RuntimeError, MemoryError) as error:
            smaller = less(given) if out_of_memory(error) else None
            if smaller is None:
                raise
        release_cached_memory()  # not inside of the handler: until its end the traceback holds what was computed
        given = smaller


def release_cached_memory() -> None:
    """Give memory that nobody uses any more back: to a GPU, and from this process's allocator to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries keep nothing back worth asking for
        if trim is not None:
            trim(0)


def shorter(completions: Sequence[PromptAnswer]) -> list[PromptAnswer] | None:
    """The ends of their prompts and the beginnings of their answers, no longer than half of the longest; None at `LEAST`."""
    longest = max(max(len(c.prompt), len(c.answer)) for c in completions)
    if longest <= LEAST:
        return None
    keep = max(longest // 2, LEAST)
    return [PromptAnswer(c.prompt[-keep:], c.answer[:keep]) for c in completions]


# How much there is.


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be had on a device: of a GPU with what torch holds and nobody uses; of the machine's memory no more than
    each control group of this process allows."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return max(0, min([int(psutil.virtual_memory().available), *(limit - used for limit, used in group_limits())]))


def memory_limit() -> int:
    """Bytes of memory that this process may use at most: the machine's, or the lowest limit of its control groups."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in group_limits())])


def group_limits() -> Iterator[tuple[int, int]]:
    """(limit, bytes used beside what the kernel can take back) of each control group of this process that has a limit, of version 1
    or 2. A container often sees its own group as the root."""
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
            found = _limit(place, *names)
            if found is not None:
                yield found


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
        pass  # without details all of it counts
    return int(limit), max(used, 0)


def resident_bytes() -> int:
    """Bytes of the machine's memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: torch.device) -> int:
    """The most bytes that were taken so far: of the GPU by torch, or of the machine's memory by this whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
