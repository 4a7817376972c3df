"""Figures of a pair set: numbers of its pairs, without a run's time axis."""

from .cartography import cartography
from .histogram import histogram

__all__ = ["cartography", "histogram"]
