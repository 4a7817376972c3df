"""Titles and explanations of what checks and runs find in pairs."""

from __future__ import annotations

from lab.evidence import EVIDENCE
from lab.pairs import CHECKS


def check_title(name: str) -> str:
    """Return the readable name of a check or of evidence from runs."""
    if name in CHECKS:
        return CHECKS[name].title
    return EVIDENCE[name][0] if name in EVIDENCE else name.replace("_", " ")


def check_explanation(name: str) -> str:
    """Return what a check or evidence from runs means, and how often a check is right; empty for an unknown one."""
    if name in CHECKS:
        return CHECKS[name].description
    return EVIDENCE[name][1] if name in EVIDENCE else ""
