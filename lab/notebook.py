"""Live figures of a run in a notebook, updated in place while the run trains.

In JupyterLab each figure is one output with a display id. Plotly's extension draws an output once and ignores its updates, so every
refresh sends a figure twice: to the output, which is what the notebook file stores, and to a script in the line below the figures,
which redraws the chart with `Plotly.react` (zoom and hidden curves stay). The last line has no script.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import FigureError, LabError
from lab.run.handle import Run, open_run
from lab.store import ENDED, RunError

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAMES = ("loss", "margins", "log_ratios")
"""Figures shown where none are named."""

PLOTLY = "application/vnd.plotly.v1+json"

DRAWING = 0.1
"""Share of the time that redrawing may take: figures that are slow to draw are redrawn less often than asked for."""

SLOWEST = 5.0
"""Seconds between two updates at most, unless more are asked for."""

TRIES = 5
"""Failed reads in a row after which the figures of a run that has ended stay as they are."""

Line = tuple[str, float]
"""A run's state as text, and the share of its steps that are done."""

LONGEST = 3600.0
"""Seconds between two redraws at most."""

REDRAW = """<script>(() => {
  const waiting = Object.assign((window.labFigures ??= {}), %s);
  const redraw = (tries) => {
    for (const [id, figure] of Object.entries(waiting)) {
      const charts = [...document.querySelectorAll(".js-plotly-plot")].filter((chart) => chart.layout?.meta === id);
      if (!window.Plotly || !charts.length) continue;
      delete waiting[id];
      for (const chart of charts) window.Plotly.react(chart, figure.data, figure.layout);
    }
    if (tries && Object.keys(waiting).length) setTimeout(() => redraw(tries - 1), 100);
  };
  redraw(100);
})();</script>"""


def watch(run: Run | str | Path, *names: str, every: float = 1.0, dark: bool = False) -> None:
    """Show figures of a run under the cell and update them in place until the run has ended.

    Interrupting the cell stops the updates, not the run. A terminal shows no figures, only the line with the run's state.

    Args:
        run: A run, its folder or its name.
        names: Figures, named as in `run.figure`; `loss`, `margins` and `log_ratios` where none are given.
        every: Seconds between two updates. Slow figures are updated less often.
        dark: Draw for a dark background.

    Raises:
        FigureError: If a name is no figure.
        LabError: If `every` is not between 0 and 3600.
        RunError: If there is no such run.
    """
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0 <= every <= LONGEST:
        raise LabError(f"every={every!r} is no number of seconds between two updates; give one from 0 to {LONGEST:.0f}.")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise FigureError(f'{wrong[0]!r} is no name of a figure; write lab.watch(run, "loss", "margins").')
    run = run if isinstance(run, Run) else open_run(run)
    chosen = tuple(dict.fromkeys(names or NAMES))
    view: _Cell | _Terminal = _Cell(run, chosen, dark) if _has_front_end() else _Terminal(run, chosen)
    try:
        _follow(run, view, float(every))
    except KeyboardInterrupt:
        view.close(f"No longer watching; {run.name} continues training ({run.state}).")


def _follow(run: Run, view: _Cell | _Terminal, every: float) -> None:
    """Refresh a view until its run has ended. A read that fails, for example while the store is busy, is repeated later."""
    failed = 0
    while True:
        started, line = time.thread_time(), None
        try:
            ended = run.state in ENDED  # before the numbers, so that the last of them are in the last figure
            line = _line(run)
            view.refresh(line, ended)
            failed = 0
        except (sqlite3.Error, OSError, RunError) as error:
            if not run.dir.exists():
                return view.close(f"No longer watching: the run's folder {run.dir} was deleted.")
            failed += 1
            view.report(f"The numbers could not be read ({error}); trying again.")
            if failed >= TRIES and _has_ended(run):
                return view.close(f"No longer watching: the run's numbers cannot be read ({error}).")
            ended = False
        if ended and line is not None:
            return view.close(line[0])
        pause = min((time.thread_time() - started) * (1 - DRAWING) / DRAWING, SLOWEST)
        _wait(run, max(every, pause, 0.05), failed > 0)


def _wait(run: Run, seconds: float, failed: bool) -> None:
    """Wait for the next refresh, or until the run has ended."""
    deadline = time.monotonic() + seconds
    if not failed:
        try:
            run.wait(seconds)
            return
        except (sqlite3.Error, OSError, RunError):
            pass  # the refresh reports it
    time.sleep(max(0.0, deadline - time.monotonic()))


def _has_ended(run: Run) -> bool:
    """Whether a run has ended, or its state cannot be read either."""
    try:
        return run.state in ENDED
    except (sqlite3.Error, OSError, RunError):
        return True


def _line(run: Run) -> Line:
    """A run's state in one line, and the share of its steps that are done."""
    status, state, step, steps = run.status, run.state, run.step, run.manifest["config"]["steps"]
    place = run.place if state == "queued" else None
    parts = [f"{run.name}: {state}" + (f": {run.error}" if run.error else "")]
    if place and place.place:
        parts.append(place.message)
    if state == "running" and status.get("stage"):
        parts.append(str(status["stage"]))
    parts.append(f"step {step:,} of {steps:,}")
    left = status.get("remaining")
    if left and state == "running" and math.isfinite(left):
        parts.append(f"about {left:.0f} s left")
    return ", ".join(parts), step / max(steps, 1)


def _has_front_end() -> bool:
    """Whether this is the kernel of a notebook, whose front end shows figures; a terminal shows none."""
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class _Cell:
    """The outputs of a watched run under a cell: one per figure, and a line about its state."""

    def __init__(self, run: Run, names: Iterable[str], dark: bool) -> None:
        from lab.plots import Record

        self.run, self.dark = run, dark
        self.record = Record(run.reader)
        self.ids = {name: f"lab-{uuid.uuid4().hex}" for name in names}
        self.line_id = f"lab-{uuid.uuid4().hex}"
        self._displayed: set[str] = set()
        self._sent: dict[str, Any] = {}
        self._version: Any = None
        self._line: Line = ("", 0.0)

    def refresh(self, line: Line, ended: bool) -> None:
        """Redraw figures that have changed. Raises FigureError for an unknown name."""
        self.record.refresh()
        redrawn = self._redraw(ended) if ended or self._version != self.record.version else {}
        if redrawn or line != self._line:
            self._show_line(line, redrawn)

    def _redraw(self, ended: bool) -> dict[str, str]:
        """Send changed figures to their outputs; return those that a script has to redraw, as JSON by display id."""
        version = self.record.version
        bundles = {name: _bundle(self._figure(name, ended)) for name in self.ids}
        redrawn = {}
        for name, bundle in bundles.items():
            if bundle == self._sent.get(name):
                continue
            if (
                self._show(self.ids[name], bundle | {"text/plain": f"Figure {name} of the run {self.run.name}"})
                and PLOTLY in bundle
            ):
                redrawn[self.ids[name]] = json.dumps(bundle[PLOTLY]).replace("<", r"\u003c")
            self._sent[name] = bundle
        self._version = version
        return redrawn

    def _figure(self, name: str, ended: bool) -> go.Figure:
        """A figure that the script finds by its `meta`; an empty one while its numbers may still be recorded."""
        from lab.plots import DISTRIBUTION, SCALAR, run_figure
        from lab.plots.style import empty, with_background

        try:
            figure = run_figure(self.record, name, self.dark)
        except FigureError:
            expected = name.startswith(SCALAR) or (name.startswith(DISTRIBUTION) and not self.record.step)
            if not self._displayed and (ended or not expected):
                raise
            message = "This run did not record it." if ended else "Appears once the run has recorded it."
            figure = empty(name, message, dark=self.dark)
        figure.layout.meta = self.ids[name]
        return with_background(figure, self.dark)

    def report(self, message: str) -> None:
        """Show a sentence below the figures until the next refresh."""
        self._show_line((message, self._line[1]), {})

    def close(self, message: str) -> None:
        """Show a last line below the figures, without a script; the notebook file stores it."""
        self._show(self.line_id, {"text/plain": message, "text/html": f"<div>{escape(message)}</div>"})

    def _show_line(self, line: Line, redrawn: dict[str, str]) -> None:
        message, share = line
        html = f'<div>{escape(message)} <progress value="{share:.4f}"></progress></div>'
        figures = ",".join(f'"{display_id}":{drawn}' for display_id, drawn in redrawn.items())
        self._show(self.line_id, {"text/plain": message, "text/html": html + (REDRAW % f"{{{figures}}}" if redrawn else "")})
        self._line = line

    def _show(self, display_id: str, bundle: dict[str, Any]) -> bool:
        """Display a bundle of MIME types, or update it; return whether it was displayed before."""
        from IPython.display import display

        update = display_id in self._displayed
        self._displayed.add(display_id)  # first, so that an interrupt cannot make a second output of it
        display(bundle, raw=True, display_id=display_id, update=update)
        return update


class _Terminal:
    """The line about a watched run in a terminal."""

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        from lab.plots import Record
        from lab.plots.figures import spec_of

        record = Record(run.reader)
        for name in names:
            spec_of(record, name)
        self._state = ""

    def refresh(self, line: Line, ended: bool) -> None:
        """Overwrite the line in place; if the output is no terminal, print it when the run's state changes."""
        message, _ = line
        if sys.stdout.isatty():
            self.report(message)
        elif not ended and (state := message.split(",")[0]) != self._state:
            self._state = state
            print(message)

    def report(self, message: str) -> None:
        """Overwrite the line in place."""
        if sys.stdout.isatty():
            print(f"\r{message[:110]:110}", end="", flush=True)

    def close(self, message: str) -> None:
        """Print the last line."""
        print(f"\r{message:110}" if sys.stdout.isatty() else message)
        print('A terminal shows no figures; run.figure("loss").show() opens one in the browser.')


def _bundle(figure: go.Figure) -> dict[str, Any]:
    """A figure by MIME type, as Plotly's default renderer makes it."""
    return figure._repr_mimebundle_(validate=False) or {PLOTLY: json.loads(figure.to_json(validate=False))}
