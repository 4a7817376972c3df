"""Training in a separate process, which outlives the one that started it.

The child runs `python -m lab train --run-dir D --resume`. It inherits the run lock, so the run counts as alive from the first
moment until its process ends. Several small runs may share a process, which trains them one after another: loading the libraries
takes a tenth of the time of a short run.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lab.run import RunLock
from lab.run.requests import drop_stale
from lab.store import ENDED, RunError, StoreReader, StoreWriter, last_log_line
from lab.store.folder import BEGINS, PROCESS_LOG


def start_process(folder: Path, *, queue: bool = True, without_change: int | None = None, threads: int | None = None) -> None:
    """Start a process that trains the run in `folder` from its latest checkpoint or its beginning; return at once.

    Arguments and errors are those of `start_group`, for one run.
    """
    start_group([folder], queue=queue, without_change=without_change, threads=threads)


def start_group(
    folders: Sequence[Path], *, queue: bool = True, without_change: int | None = None, threads: int | None = None
) -> None:
    """Start a process that trains runs one after another, from their latest checkpoints or their beginnings; return at once.

    Each run is an ordinary one, that is controlled, stopped and resumed apart from the others; those whose turn has not come are
    queued. They only share the process, and what it loads.

    The process has its own session, so neither the end of this process nor a closed terminal ends it. Its output goes to
    `process.log` in the folder. It inherits environment variables and torch's number of threads, on which the last bits of a sum
    depend.

    Args:
        folders: Folders of the runs, in the order in which they train; the output is in the first one's.
        queue: Whether each run waits for its device. False starts at once, though the runs still wait for each other.
        without_change: See `lab.train`.
        threads: Threads of torch; None for as many as this process has.

    Raises:
        RuntimeError: Another thread or process trains this run.
        RunError: The process cannot be started.
    """
    with contextlib.ExitStack() as held:
        locks = []
        for folder in folders:
            locks.append(RunLock(folder))
            held.callback(locks[-1].release)  # the child holds it too
        stores = []
        for folder in folders:
            drop_stale(folder)
            stores.append(StoreWriter(folder))
            held.callback(stores[-1].close)
            stores[-1].status(state="queued", error=None, remaining=None, stage="starting its process", executor="process")
        try:
            process = _spawn(folders, locks, queue=queue, without_change=without_change, threads=threads)
        except OSError as error:
            message = f"The training process could not be started ({error.strerror})."
            for store in stores:
                store.status(state="failed", stage="failed", error=message)
            raise RunError(message) from None
    name = f"process-{folders[0].name}"
    threading.Thread(target=_log_exit, args=(process, list(folders)), name=name, daemon=True).start()


def _spawn(
    folders: Sequence[Path], locks: Sequence[RunLock], *, queue: bool, without_change: int | None, threads: int | None
) -> subprocess.Popen[bytes]:
    command = ["-m", "lab", "train", "--run-dir", str(folders[0].absolute()), "--resume", *([] if queue else ["--no-queue"])]
    command += [] if without_change is None else ["--without-change", str(without_change)]
    inherited = ["--lock-descriptor", str(locks[0].descriptor)]
    for folder, lock in zip(folders[1:], locks[1:]):
        inherited += ["--then", str(lock.descriptor), str(folder.absolute())]
    source = str(Path(__file__).parents[3])  # the child imports the same lab as this process
    others = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, others] if others else [source])}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    elif (torch := sys.modules.get("torch")) is not None:  # where it was never imported, the child's default is the same
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    began = f"{BEGINS}{datetime.now().astimezone().isoformat(timespec='seconds')} python {shlex.join(command)}\n".encode()
    for folder in folders:
        with (folder / PROCESS_LOG).open("ab") as log:
            log.write(began)
    with (folders[0] / PROCESS_LOG).open("ab") as log:
        # -P: a file in the current folder must not shadow a library.
        return subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", *command, *inherited],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            pass_fds=[lock.descriptor for lock in locks],
        )


def _log_exit(process: subprocess.Popen[bytes], folders: Sequence[Path]) -> None:
    """Write to `process.log` how the child ended, of the runs that it left, if it failed without an error message of its own."""
    code = process.wait()
    if code == 0:
        return
    names = {s.value: s.name for s in signal.Signals}
    hint = " (memory may have run out)" if -code == signal.SIGKILL else ""
    for folder in folders:
        if not folder.exists() or _has_ended(folder):
            continue
        if code < 0:
            message = f"The training process was ended by {names.get(-code, -code)}{hint}."
        elif last_log_line(folder) is None:
            message = f"The training process ended with exit code {code} and without an error message."
        else:
            continue
        with (folder / PROCESS_LOG).open("a", encoding="utf-8") as log:
            log.write(f"{message}\n")


def _has_ended(folder: Path) -> bool:
    """Return whether a run wrote its end itself."""
    try:
        return StoreReader(folder).status().get("state") in ENDED
    except (OSError, sqlite3.Error):
        return False
