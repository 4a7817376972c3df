"""Settings of a process that are made before torch is imported: how idle threads wait, and Python's garbage collector.

OpenMP's wait policy is read from the environment when torch is imported. Spinning threads make a training step up to 1.4 times
faster on idle cores, but 2 to 10 times slower besides a dashboard, a notebook or a second run (measured on 2 cores). Threads
therefore sleep, except in a process that only trains, on a machine that is idle when it starts. The environment variables
OMP_WAIT_POLICY and GOMP_SPINCOUNT override this.

A full garbage collection visits every object, and torch and transformers make 460,000 that stay until the process ends. In
processes that the lab starts the collector is therefore off while they are imported, and leaves their objects out afterwards: a
run of 24 steps takes 0.78 of the processors' time (`tests/bench/bench_short_run.py`).
"""

from __future__ import annotations

import gc
import os
import sys

POLICY, OURS = "OMP_WAIT_POLICY", "LAB_SET_WAIT_POLICY"
IDLE = 0.4
"""Number of cores used by other processes below which a machine counts as idle."""


def sleep_while_waiting() -> None:
    """Let torch's idle OpenMP threads sleep instead of spin, by an environment variable. Call before torch is imported.

    A wait policy that is in the environment already is kept.
    """
    if not {POLICY, "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ |= {POLICY: "PASSIVE", OURS: "1"}


def spin_where_idle() -> bool:
    """Let torch's idle OpenMP threads spin if the machine is idle. Call in a process that only trains, before torch is imported.

    Returns whether they will spin.
    """
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1  # they would spin against each other
    if os.environ.get(OURS) != "1" or "torch" in sys.modules or together or _others_work() > IDLE:
        return False
    del os.environ[POLICY], os.environ[OURS]
    return True


_collector_postponed = False


def postpone_collector() -> None:
    """Turn the garbage collector off until `resume_collector`. Call before torch is imported, in a process that the lab started."""
    global _collector_postponed
    _collector_postponed = gc.isenabled()
    gc.disable()


def resume_collector() -> None:
    """Turn the garbage collector on again; it never visits the objects that are there now.

    Does nothing where it was not postponed: a process that uses the library keeps its collector as it is.
    """
    global _collector_postponed
    if _collector_postponed:
        _collector_postponed = False
        gc.collect()
        gc.freeze()
        gc.enable()


def _others_work(seconds: float = 0.2) -> float:
    """The number of cores that are busy while this process waits."""
    import psutil

    return psutil.cpu_percent(interval=seconds) / 100 * (os.cpu_count() or 1)
