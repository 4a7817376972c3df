"""Figures of a pair set: numbers of its pairs, without a run's time axis."""

from .histogram import histogram

__all__ = ["histogram"]
