"""The output of `python -m lab train` while a run trains: a progress bar, plain lines, or JSON lines."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

from .interrupting import interruption


class JsonLines:
    """One JSON object per step on standard output, and nothing else.

    Args:
        earlier: See `Report`.
    """

    def __init__(self, earlier: int = 0) -> None:
        self.earlier = earlier

    def step(self, step: int, scalars: dict[str, float]) -> None:
        """Print a step's scalars; values that JSON lacks (NaN, infinity) become null."""
        interruption.step = step
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        print(json.dumps({"step": step, **finite}), flush=True)

    def preparing(self, what: str, share: float) -> None:
        """Print nothing."""

    def follow(self, handle: Any) -> None:
        """Wait until the run has ended; its preflight report goes to standard error."""
        report = Report(handle, sys.stderr, self.earlier)
        until_ended(report.show, handle)
        report.show()

    def close(self) -> None:
        """Do nothing; standard output is flushed after each line."""


class Bar:
    """A progress bar with loss, margin, speed and remaining time; plain lines if the output is no terminal.

    Args:
        earlier: See `Report`.
    """

    def __init__(self, earlier: int = 0) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = BarColumn()
        columns = (
            TextColumn("{task.description}"),
            self.bar,
            TextColumn("{task.fields[message]}"),
            TimeRemainingColumn(compact=True),
        )
        self.progress = Progress(*columns, disable=not sys.stdout.isatty())
        self.task = self.progress.add_task("preparing", total=1.0, message="")
        self.latest: dict[str, float] = {}
        self.printed, self.last, self.earlier = 0.0, [""], earlier
        self.progress.start()

    def step(self, step: int, scalars: dict[str, float]) -> None:
        """Store a step's scalars, to be shown at the next refresh."""
        interruption.step = step
        self.latest = scalars | {"step": step}

    def preparing(self, what: str, share: float) -> None:
        """Show a stage before the first step, and the share of it that is done."""
        self._fit(what, [])
        self.progress.update(self.task, description=what, completed=share)

    def _fit(self, stage: str, parts: list[str]) -> str:
        """The text that fits beside a stage; the bar gets the rest of the width."""
        message, self.bar.bar_width = fit(self.progress.console.width, stage, parts)
        return message

    def follow(self, handle: Any) -> None:
        """Show the run until it has ended."""
        self.total = handle.config.steps
        self.report = Report(handle, sys.stdout, self.earlier)
        until_ended(lambda: self.show(handle), handle)
        self.show(handle, last=True)

    def show(self, handle: Any, *, last: bool = False) -> None:
        """Refresh the bar, or print a line every five seconds if the output is no terminal."""
        self.report.show()
        status, now = handle.status, self.latest
        if not now:
            self.preparing(str(status.get("stage") or "preparing"), float(status.get("stage_share") or 0))
            return
        parts = [
            f"step {now['step']}/{self.total}",
            f"loss {now['loss']:.4f}",
            f"margin {now['rewards/margins']:+.3f}",
            f"{now['pairs_per_second']:.0f} pairs/s",
            f"accuracy {now['rewards/accuracies']:.2f}",
        ]
        stage = "" if status.get("stage") == "training" else str(status.get("stage") or "")
        message = self._fit(stage, parts)
        self.progress.update(self.task, description=stage, completed=now["step"], total=self.total, message=message)
        due = last or time.monotonic() - self.printed > 5
        if self.progress.disable and due and parts != self.last:
            self.printed, self.last = time.monotonic(), parts
            print("  ".join(parts), flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


NARROW, WIDE, CLOCK = 10, 40, 7
"""Columns of the bar, at least and at most, and of the remaining time."""


def fit(width: int, stage: str, parts: list[str]) -> tuple[str, int]:
    """Fit a line into a terminal.

    Args:
        width: Columns of the terminal.
        stage: Text on the left.
        parts: Texts, the most important first; as many are used as fit beside the stage, a narrow bar and the remaining time.

    Returns:
        The text, and the columns of the bar.
    """
    room = width - CLOCK - 3 - len(stage)  # three spaces between four columns
    message = ""
    for part in parts:
        longer = f"{message}  {part}" if message else part
        if len(longer) > room - NARROW:
            break
        message = longer
    return message, max(NARROW, min(WIDE, room - len(message)))


class Report:
    """Print a run's preflight report once, as soon as it exists.

    Args:
        handle: The run.
        file: Where to print it.
        earlier: Number of the last event with a report from before the run was resumed; that report is not printed.
    """

    def __init__(self, handle: Any, file: Any, earlier: int = 0) -> None:
        self.handle, self.file, self.earlier, self.shown = handle, file, earlier, False

    def show(self) -> None:
        """Print the report if it exists and has not been printed."""
        if not self.shown and (report := self.handle.preflight(after=self.earlier)):
            self.shown = True
            print("\n".join(report.lines()), file=self.file, flush=True)


def until_ended(show: Any, *handles: Any) -> None:
    """Wait for the runs of this process and refresh their display. Ctrl-C requests a stop, a second one ends the process.

    See `Interruption`.
    """
    from lab.store import ENDED

    interruption.began(*(handle.dir for handle in handles))
    for handle in handles:
        while handle.wait(timeout=0.2) not in ENDED:
            show()
    interruption.over()
