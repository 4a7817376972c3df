"""The type of functions that receive the progress of long operations."""

from __future__ import annotations

from collections.abc import Callable

StageProgress = Callable[[str, float], None]
"""Called as progress(stage, share), share in [0, 1]. It may raise to cancel the operation, which is then rolled back."""
