"""The objective of a run with the parameters that were in use at a moment."""

from __future__ import annotations

from typing import Any

from lab.objectives import Objective
from lab.run.handle import Run


def objective_at(run: Run, until: int | None) -> Objective:
    """The objective as the step `until` used it (None: as it is now). Raises ValueError where it cannot be read any more."""
    from lab.run.changeable import changed

    config = run.config
    for change in run.changes():
        if change.settings and (until is None or change.after < until):
            config = changed(config, change.settings)
    return config.objective


def spec_at(run: Run, until: int | None) -> dict[str, Any]:
    """Its specification; the one that the run began with where a user's own objective is gone, or the changes are damaged."""
    try:
        return objective_at(run, until).spec() if run.changes() else run.manifest["config"]["objective"]
    except ValueError:
        return run.manifest["config"]["objective"]
