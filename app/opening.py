"""The way from any page to one pair of a run."""

from __future__ import annotations

from app.leaving import leave_for
from app.moment import go_to


def open_pair(run: str, pair: str, step: int | None) -> None:
    """Go to the page that inspects a pair. run: its folder's name.   step: the moment that is shown there; None: the latest."""
    go_to(run, step, passing=True)
    address = {"run": run, "pair": pair} | ({} if step is None else {"step": str(step)})
    leave_for("views/inspect.py", address)
