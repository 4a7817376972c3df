"""How torch's threads wait for one another. It is settled by the environment when torch is loaded, and cannot be changed later.

Spinning threads make a training step up to 1.4 times faster on cores that nobody else wants, and 2 to 10 times slower beside a
dashboard, a notebook or a second run (measured on 2 cores). So they sleep, except in a process that does nothing but train on a
machine that is idle when it starts. Whoever sets OMP_WAIT_POLICY or GOMP_SPINCOUNT decides otherwise.
"""

from __future__ import annotations

import os
import sys

POLICY, OURS = "OMP_WAIT_POLICY", "LAB_SET_WAIT_POLICY"
IDLE = 0.4
"""Cores' worth of work by others below which a machine counts as idle."""


def sleep_while_waiting() -> None:
    """What every process of the lab begins with."""
    if not {POLICY, "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ |= {POLICY: "PASSIVE", OURS: "1"}


def spin_where_idle() -> bool:
    """For a process that only trains, before it loads torch; True if its threads will spin."""
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1  # they would spin against each other
    if os.environ.get(OURS) != "1" or "torch" in sys.modules or together or _others_work() > IDLE:
        return False
    del os.environ[POLICY], os.environ[OURS]
    return True


def _others_work(seconds: float = 0.2) -> float:
    """Cores that are busy while this process waits."""
    import psutil

    return psutil.cpu_percent(interval=seconds) / 100 * (os.cpu_count() or 1)
