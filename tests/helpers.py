"""Helpers of all tests: waiting for something to become true, a free port, and cases that are extended."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import lab
import lab.world
from lab.store import ENDED


def open_tiny_worlds(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Let the small edition of an embedded world, with these settings, be opened wherever its name is given."""

    def ensure(spec: lab.world.WorldSpec, **options: Any) -> lab.world.World:
        return lab.world.ensure(replace(lab.world.WorldSpec.tiny(spec.seed, spec.kind), **settings), **options)

    monkeypatch.setattr("lab.world.opening.ensure", ensure)


def until(
    find: Callable[[], Any],
    seconds: float = 60.0,
    describe: Callable[[], str] = str,
    *,
    run: lab.Run | None = None,
    between: Callable[[], Any] = lambda: time.sleep(0.02),
) -> Any:
    """Return the first true value of `find()`.

    Fails with `describe()` after some seconds, and at once when `run` has ended without it, with the run's error.
    """
    deadline = time.monotonic() + seconds
    while not (value := find()):
        if run is not None and run.state in ENDED:
            if value := find():
                return value
            pytest.fail(f"The run is {run.state}: {run.error}. {describe()[-3000:]}")
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain. {run.status if run else ''} {describe()[-3000:]}")
        between()
    return value


def free_port() -> int:
    """Return a port of this machine that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quick_first(*cases: Any, quick: int = 1) -> list[Any]:
    """Return the cases of a parametrized test, of which all but the first ones are extended."""
    parameters = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=() if at < quick else pytest.mark.extended) for at, case in enumerate(parameters)]
