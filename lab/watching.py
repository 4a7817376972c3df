"""Live figures of a run in a notebook: the dashboard's pictures, drawn again while the run goes on."""

from __future__ import annotations

import time
from typing import Any

from lab.monitor import ENDED
from lab.run import Run


def watch(run: Run, *names: str, every: float = 1.0) -> None:
    """Show figures of a run (names as in `run.figure`) under the cell and redraw them every `every` seconds until it has ended.

    Interrupting the cell stops the watching, not the run. Raises ValueError for a name that is no figure.
    """
    from IPython.display import display

    shown: dict[str, Any] = {name: display(run.figure(name), display_id=True) for name in names}
    line = display({"text/plain": _line(run)}, raw=True, display_id=True)
    try:
        ended = False
        while not ended:
            ended = run.state in ENDED
            for name, handle in shown.items():
                handle.update(run.figure(name))
            line.update({"text/plain": _line(run)}, raw=True)
            if not ended:
                time.sleep(every)
    except KeyboardInterrupt:
        line.update({"text/plain": f"No longer watching; {run.name} goes on ({run.state})."}, raw=True)


def _line(run: Run) -> str:
    status = run.status
    left = status.get("remaining")
    more = f", about {left:.0f} s left" if left and run.state == "running" else ""
    why = f": {run.error}" if run.error else ""
    return f"{run.name}: {run.state}{why}, {status.get('stage') or ''}, step {run.step} of {run.about['config']['steps']}{more}"
