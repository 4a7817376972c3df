"""Versions of the libraries that a run's numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("preference-lab", "torch", "transformers", "peft", "tokenizers", "accelerate")


def versions() -> dict[str, str]:
    """Return the versions of Python and of each installed library, by name."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:  # the lab itself, run from a checkout
            continue
    return installed
