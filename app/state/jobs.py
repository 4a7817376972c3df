"""Background jobs of the pages: work that takes longer than a page may wait for.

Jobs are kept in modules, not in a session: a page that is closed and opened again finds them, and so does another browser tab.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import streamlit as st

from app.state.access import require_edit
from app.text.plain import plain
from lab.progress import StageProgress
from lab.training.lifecycle import describe

log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")


class Job(Generic[T]):
    """`work(progress)` in a thread of its own; the work calls `progress(text, share)`, share in [0, 1].

    Raises `app.state.access.WatchOnlyError` for a browser that may only watch, unless the job is for everyone.

    Attributes:
        message: What the job does at the moment.
        share: How much of it is done, in [0, 1].
        result: What the work returned, once `done` is set without an error.
        error: Why the work failed, in one sentence, or None.
    """

    def __init__(self, work: Callable[[StageProgress], T], *, everyone: bool = False) -> None:
        if not everyone:
            require_edit()
        self.message, self.share = "starting", 0.0
        self.error: str | None = None
        self.done = threading.Event()
        self._work = work
        threading.Thread(target=self._run, name="job", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work(self._progress)
        except Exception as error:  # shown on the page that waits for the job
            self.error = describe(error)
            # Errors of the input are shown on the page; of any other error the log needs the traceback.
            log.warning("A job of the dashboard failed: %s", self.error, exc_info=not isinstance(error, ValueError | OSError))
        finally:
            self.done.set()

    def _progress(self, message: str, share: float) -> None:
        self.message, self.share = message, min(1.0, max(0.0, share))

    @property
    def failed(self) -> bool:
        """Whether the work has failed."""
        return self.error is not None


class Jobs(dict[K, Job[T]]):
    """Jobs by key, shared by all browser tabs."""

    def forget(self, key: K, job: Job[T]) -> None:
        """Remove a job; does nothing if another tab has removed or replaced it."""
        if self.get(key) is job:
            self.pop(key, None)


def require(job: Job[T], retry: Callable[..., None]) -> T:
    """Return a job's result. Without one the page ends here, with its progress or, after a failure, the error and "Try again"."""
    if not job.done.wait(0.2):
        show_progress(job)
        st.stop()
    if job.error is not None:
        st.error(plain(job.error))
        st.button("Try again", on_click=retry)
        st.stop()
    return job.result


@st.fragment(run_every=0.5)
def show_progress(job: Job[T]) -> None:
    """Draw a job's progress, twice a second, and the whole page again when the job is done."""
    if job.done.is_set():
        st.rerun(scope="app")
    st.progress(job.share, text=plain(job.message))
