"""Which libraries a run was trained with; what it gives can depend on them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("preference-lab", "torch", "transformers", "peft", "tokenizers", "accelerate")


def versions() -> dict[str, str]:
    """Version of Python and of each library that is installed, by name."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the lab itself, run from a checkout
            continue
    return found
