"""Training in a separate process, which outlives the one that started it.

The child runs `python -m lab train --run-dir D --resume`. It inherits the run lock, so the run counts as alive from the first
moment until its process ends.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

from lab.run import RunLock
from lab.run.requests import drop_stale
from lab.store import RunError, StoreWriter, last_log_line
from lab.store.folder import BEGINS, PROCESS_LOG


def start_process(folder: Path, *, queue: bool = True, without_change: int | None = None, threads: int | None = None) -> None:
    """Start a process that trains the run in `folder` from its latest checkpoint or its beginning; return at once.

    The process has its own session, so neither the end of this process nor a closed terminal ends it. Its output goes to
    `process.log` in the folder. It inherits environment variables and torch's number of threads, on which the last bits of a sum
    depend.

    Args:
        folder: Folder of the run.
        queue: Whether the run waits for its device.
        without_change: See `lab.train`.
        threads: Threads of torch; None for as many as this process has.

    Raises:
        RuntimeError: Another thread or process trains this run.
        RunError: The process cannot be started.
    """
    lock = RunLock(folder)
    try:
        drop_stale(folder)
        store = StoreWriter(folder)
        store.status(state="queued", error=None, remaining=None, stage="starting its process", executor="process")
        try:
            process = _spawn(folder, lock, queue=queue, without_change=without_change, threads=threads)
        except OSError as error:
            message = f"The training process could not be started ({error.strerror})."
            store.status(state="failed", stage="failed", error=message)
            raise RunError(message) from None
        finally:
            store.close()
    finally:
        lock.release()  # the child holds it too
    threading.Thread(target=_log_exit, args=(process, folder), name=f"process-{folder.name}", daemon=True).start()


def _spawn(folder: Path, lock: RunLock, *, queue: bool, without_change: int | None, threads: int | None) -> subprocess.Popen[bytes]:
    command = ["-m", "lab", "train", "--run-dir", str(folder.absolute()), "--resume", *([] if queue else ["--no-queue"])]
    command += [] if without_change is None else ["--without-change", str(without_change)]
    source = str(Path(__file__).parents[3])  # the child imports the same lab as this process
    others = os.environ.get("PYTHONPATH")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, others] if others else [source])}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    elif (torch := sys.modules.get("torch")) is not None:  # where it was never imported, the child's default is the same
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    with (folder / PROCESS_LOG).open("ab") as log:
        log.write(f"{BEGINS}{datetime.now().astimezone().isoformat(timespec='seconds')} python {shlex.join(command)}\n".encode())
        log.flush()
        # -P: a file in the current folder must not shadow a library.
        return subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", *command, "--lock-descriptor", str(lock.descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            pass_fds=[lock.descriptor],
        )


def _log_exit(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Write to `process.log` how the child ended, if it failed without an error message of its own."""
    code = process.wait()
    if code == 0 or not folder.exists():
        return
    if code < 0:
        names = {s.value: s.name for s in signal.Signals}
        hint = " (memory may have run out)" if -code == signal.SIGKILL else ""
        message = f"The training process was ended by {names.get(-code, -code)}{hint}."
    elif last_log_line(folder) is None:
        message = f"The training process ended with exit code {code} and without an error message."
    else:
        return
    with (folder / PROCESS_LOG).open("a", encoding="utf-8") as log:
        log.write(f"{message}\n")
