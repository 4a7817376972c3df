"""What cannot be asked of a run's model."""

from __future__ import annotations

from lab.store import RunError


class WhatIfError(RunError):
    """A question to a run's model that cannot be answered, in one sentence."""
