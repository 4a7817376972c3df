"""Ctrl-C and SIGTERM in `python -m lab train`: one sentence, a usable last checkpoint and the usual exit code, at any moment.

The handler raises no exception, which inside an import, a callback or a lock would end in a traceback. Before the run has begun it
ends the process; while the run trains it sends a stop request, in memory; a second signal ends the process without a checkpoint.
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
    """The handler of signals and its state.

    Attributes:
        code: The exit code of the signal received (130, 143), or None.
        step: The last step that was displayed.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.step = 0
        self._runs: tuple[Path, ...] = ()
        self._over = False

    def install(self) -> None:
        """Handle the signals from now on. Does nothing outside the main thread, which alone can set handlers."""
        with contextlib.suppress(ValueError):
            for number in SIGNALS:
                signal.signal(number, self._handle)

    def began(self, *runs: Path) -> None:
        """Runs train in this process: the next signal stops them."""
        self._runs, self._over = runs, False

    def over(self) -> None:
        """The run has ended: signals are recorded, and do not interrupt printing the outcome."""
        self._runs, self._over = (), True

    def next(self) -> bool:
        """Prepare for another run, before which a signal ends the process. Returns False if a signal has been received."""
        self._over = False
        return self.code is None

    def _handle(self, number: int, frame: Any) -> None:
        if self._over:
            self.code = self.code or 128 + number
            return
        first, self.code = self.code is None, 128 + number
        if not self._runs:
            _print("Interrupted before the run had begun; if its folder was made already, `python -m lab runs` lists it.")
            os._exit(self.code)
        if first:
            from lab.run import send
            from lab.store import RunError

            for run in self._runs:
                with contextlib.suppress(RunError):  # a run in this process takes it in memory
                    send(run, "stop")
            at = f" after step {self.step:,}" if self.step else ""
            _print(f"Stopping{at} with a checkpoint; a second Ctrl-C ends the process without one. {how_to_resume(self._runs[0])}")
            return
        _print(aborted(self._runs[0]))
        os._exit(self.code)


def aborted(run: Path) -> str:
    """Return the message for a run whose process ends at once: its last checkpoint, and how to continue."""
    from lab.store import list_checkpoints
    from lab.store.folder import step_of

    checkpoints = list_checkpoints(run)
    last = f"the last checkpoint is of step {step_of(checkpoints[-1])}" if checkpoints else "there is no checkpoint yet"
    return f"Aborted; {last}. {how_to_resume(run)}"


def how_to_resume(run: Path, without_change: int | None = None) -> str:
    """Return a sentence with the command that continues a run. without_change: without the change made after this step."""
    command = f"python -m lab train --run-dir {shlex.quote(str(run))} --resume"
    if without_change is None:
        return f"Continue with: {command}"
    command = f"{command} --without-change {without_change}"
    return f"A change made after step {without_change:,} is the cause; continue without it: {command}"


def _print(message: str) -> None:
    """Write a line to standard error without Python's buffers, which the interrupted code may be writing to."""
    with contextlib.suppress(OSError):
        os.write(2, f"{message}\n".encode())


def leave(code: int) -> None:
    """End the process after a signal, without waiting for other threads, which may be loading a model."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


interruption = Interruption()
"""The handler of this process."""
