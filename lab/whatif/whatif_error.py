"""The error of this package."""

from __future__ import annotations

from lab.store import RunError


class WhatIfError(RunError):
    """A run's model cannot be examined as requested."""
