"""The objective of a run with the parameters in use at a step."""

from __future__ import annotations

from typing import Any

from lab.objectives import Objective, annotation_use
from lab.run.handle import Run


def objective_at(run: Run, until: int | None) -> Objective:
    """Return the objective as step `until` used it; None for the present one. Raises ValueError if it cannot be built any more."""
    from lab.run.settings import settings_at

    return settings_at(run, None if until is None else until - 1).objective


def spec_at(run: Run, until: int | None) -> dict[str, Any]:
    """Return the specification of `objective_at`, or the run's first one if the objective cannot be built."""
    try:
        return objective_at(run, until).spec() if run.changes() else run.manifest["config"]["objective"]
    except ValueError:
        return run.manifest["config"]["objective"]


def annotations_in_use(run: Run, until: int | None) -> str:
    """Return whether the objective at a step uses weight and degree of a pair; "" if it cannot be built any more."""
    try:
        return annotation_use(objective_at(run, until))
    except ValueError:
        return ""
