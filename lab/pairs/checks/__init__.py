"""Checks of pair sets: what looks wrong with the data, pair by pair, with a remedy."""

from .finding import Finding, Remedy
from .lengths import LengthBias, length_bias, length_bias_of
from .registry import CHECKS, Check
from .running import check, findings, write_findings

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "LengthBias",
    "Remedy",
    "check",
    "findings",
    "length_bias",
    "length_bias_of",
    "write_findings",
]
