"""What `python -m lab train` shows while a run trains: a progress bar, plain lines, or JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

from .interrupting import interruption


class JsonLines:
    """One JSON object a step on standard output, flushed; everything else stays off it. earlier: see `Report`."""

    def __init__(self, earlier: int = 0) -> None:
        self.earlier = earlier

    def step(self, step: int, scalars: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}  # JSON knows no NaN
        print(json.dumps({"step": step, **finite}), flush=True)

    def preparing(self, what: str, share: float) -> None:
        pass

    def follow(self, handle: Any) -> None:
        report = Report(handle, sys.stderr, self.earlier)
        until_ended(handle, report.show)
        report.show()

    def close(self) -> None:
        pass


class Bar:
    """A progress bar with loss, margin, speed and remaining time; plain lines where the output is no terminal. earlier: see
    `Report`."""

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
        self.printed, self.said, self.earlier = 0.0, [""], earlier
        self.progress.start()

    def step(self, step: int, scalars: dict[str, float]) -> None:
        self.latest = scalars | {"step": step}

    def preparing(self, what: str, share: float) -> None:
        self._fit(what, [])
        self.progress.update(self.task, description=what, completed=share)

    def _fit(self, stage: str, parts: list[str]) -> str:
        """What there is room for beside a stage, and the bar in what room is left."""
        message, self.bar.bar_width = fit(self.progress.console.width, stage, parts)
        return message

    def follow(self, handle: Any) -> None:
        self.total = handle.config.steps
        self.report = Report(handle, sys.stdout, self.earlier)
        until_ended(handle, lambda: self.show(handle))
        self.show(handle, last=True)

    def show(self, handle: Any, *, last: bool = False) -> None:
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
        if self.progress.disable and due and parts != self.said:
            self.printed, self.said = time.monotonic(), parts
            print("  ".join(parts), flush=True)

    def close(self) -> None:
        self.progress.stop()


NARROW, WIDE, CLOCK = 10, 40, 7
"""Columns that the bar takes at least and at most, and those of the remaining time."""


def fit(width: int, stage: str, parts: list[str]) -> tuple[str, int]:
    """(words, columns of the bar) for a terminal of `width` columns: of the parts, the most important first, as many as fit beside
    the stage, a narrow bar and the remaining time."""
    room = width - CLOCK - 3 - len(stage)  # three spaces stand between the four columns
    message = ""
    for part in parts:
        longer = f"{message}  {part}" if message else part
        if len(longer) > room - NARROW:
            break
        message = longer
    return message, max(NARROW, min(WIDE, room - len(message)))


class Report:
    """Prints a run's preflight report once, as soon as there is one. earlier: number of the last event with a report that the run
    had before it was taken up again, which is not shown."""

    def __init__(self, handle: Any, file: Any, earlier: int = 0) -> None:
        self.handle, self.file, self.earlier, self.shown = handle, file, earlier, False

    def show(self) -> None:
        if not self.shown and (report := self.handle.preflight(after=self.earlier)):
            self.shown = True
            print("\n".join(report.lines()), file=self.file, flush=True)


def until_ended(handle: Any, show: Any) -> None:
    """Wait for the run and keep showing it. Ctrl-C asks it to stop, a second one breaks off; see `Interruption`."""
    from lab.store import ENDED

    interruption.began(handle.dir)
    while handle.wait(timeout=0.2) not in ENDED:
        show()
    interruption.over()
