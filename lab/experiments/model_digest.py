"""A digest of a model's files, so that runs of a model that was replaced are not taken for runs of its successor."""

from __future__ import annotations

import hashlib
from pathlib import Path

ENDS = 65_536
"""Bytes that are read at both ends of a file."""
PATTERNS = ("*.safetensors", "*.bin", "*.gguf", "*.json")
"""Names of the files that make a model: weights, configuration and tokenizer."""


def model_digest(source: str) -> str:
    """Return 16 hex digits for the files of a model on this machine, or "" for a hub id, whose name has to do.

    Sizes and both ends of every file are read, which training always changes, and not gigabytes of weights.

    Args:
        source: A folder, a GGUF file, or a hub id.
    """
    try:
        place = Path(source).expanduser()
        files = [place] if place.is_file() else sorted({path for pattern in PATTERNS for path in place.glob(pattern)})
    except (OSError, RuntimeError, ValueError):  # no path at all; `check_model` says so
        return ""
    if not files:
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size} ".encode())
        with path.open("rb") as file:
            digest.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()
