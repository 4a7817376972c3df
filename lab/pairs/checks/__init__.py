"""Checks of pair sets: what looks wrong with the data, pair by pair, with a remedy."""

from .basic import LengthBias, check, findings, length_bias
from .finding import Finding, Remedy

__all__ = ["Finding", "LengthBias", "Remedy", "check", "findings", "length_bias"]
