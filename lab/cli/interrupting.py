"""Ctrl-C and SIGTERM in `python -m lab train`: one sentence, a usable last checkpoint and the usual exit code, at any moment.

The handler raises nothing: an exception in the middle of an import, a callback or a lock would end in a traceback. Before the run
has begun it ends the process; while the run trains it sends a stop request, in memory; a second signal breaks off.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """What signals mean at this moment. code: the exit code that the signal asks for (130, 143), None while there was none."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._run: Path | None = None
        self._over = False

    def install(self) -> None:
        """Handle the signals from now on. Does nothing outside of the main thread, which alone may set handlers."""
        with contextlib.suppress(ValueError):
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def began(self, run: Path) -> None:
        """A run trains in this process now: the first signal stops it."""
        self._run, self._over = run, False

    def over(self) -> None:
        """The run has ended: all that is left is to say so, which no signal breaks off."""
        self._run, self._over = None, True

    def next(self) -> bool:
        """Another run is about to begin, and a signal ends the process again; False if a signal came since the last one began."""
        self._over = False
        return self.code is None

    def _handle(self, number: int, frame: Any) -> None:
        if self._over:
            self.code = self.code or 128 + number
            return
        first, self.code = self.code is None, 128 + number
        if self._run is None:
            _say("Interrupted before the run had begun; if its folder was made already, `python -m lab runs` lists it.")
            os._exit(self.code)
        if first:
            from lab.run import send
            from lab.store import RunError

            with contextlib.suppress(RunError):  # a run in this process takes it in memory
                send(self._run, "stop")
            _say("Stopping with a checkpoint of the last completed step; a second Ctrl-C breaks off without one.")
            return
        _say(broken_off(self._run))
        os._exit(self.code)


def broken_off(run: Path) -> str:
    """What is left of a run whose process ends at once."""
    from lab.store import list_checkpoints
    from lab.store.folder import step_of

    checkpoints = list_checkpoints(run)
    last = f"the last checkpoint is of step {step_of(checkpoints[-1])}" if checkpoints else "there is no checkpoint yet"
    return f"Broken off; {last}. {how_to_resume(run)}"


def how_to_resume(run: Path, without_change: int | None = None) -> str:
    """The command that goes on with a run, in a sentence. without_change: leave out the change made after this step."""
    command = f"python -m lab train --run-dir {shlex.quote(str(run))} --resume"
    if without_change is None:
        return f"Go on with: {command}"
    return (
        f"A change made after step {without_change:,} is the cause; go on without it: {command} --without-change {without_change}"
    )


def _say(message: str) -> None:
    """Write a line to standard error past Python's buffers, which the interrupted code may be writing to."""
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode())


def leave(code: int) -> None:
    """End the process after a signal: what may still compute in a side thread (a model being loaded) is not waited for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


interruption = Interruption()
"""Of this process."""
