"""`python -m lab bench`: training speed of this machine by objective, or with `claims` the papers' claims as experiments."""

from __future__ import annotations

from typing import Any

from . import claims, speed


def add(commands: Any) -> None:
    """Declare the command with its subcommand."""
    claims.add(speed.add(commands).add_subparsers(title="instead of the speed", metavar="claims"))
