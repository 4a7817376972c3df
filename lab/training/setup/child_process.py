"""Training in a process of its own, which outlives the one that started it.

The child runs `python -m lab train --run-dir D --resume`, as people would in a terminal. It is born with the lock on the run's
folder, so that the run counts as alive from the first moment, and as dead the moment its process ends, however early.
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

import torch

from lab.run import RunLock, take
from lab.store import RunError, StoreWriter, last_log_line
from lab.store.folder import BEGINS, PROCESS_LOG


def start_process(folder: Path, *, queue: bool = True, without_change: int | None = None) -> None:
    """Train the run in `folder` in a new process, from its latest checkpoint or from its beginning; returns at once.
    without_change: see `lab.train`.

    The process has a session of its own: neither the end of this process nor a closed terminal reaches it. What it writes goes
    to `process.log` in the folder. Environment variables (CUDA_VISIBLE_DEVICES, HF_HOME, ...) are this process's, and so is the
    number of torch's threads, which the last bits of a sum depend on.

    Raises RuntimeError if somebody trains in the folder already, RunError if the process cannot be started.
    """
    lock = RunLock(folder)
    try:
        take(folder)  # what was asked of an earlier, dead training here is not for this one
        store = StoreWriter(folder)
        store.status(state="queued", error=None, remaining=None, stage="starting its process", executor="process")
        try:
            process = _spawn(folder, lock, queue=queue, without_change=without_change)
        except OSError as error:
            message = f"The training process could not be started ({error.strerror})."
            store.status(state="failed", stage="failed", error=message)
            raise RunError(message) from None
        finally:
            store.close()
    finally:
        lock.release()  # the child holds it too
    threading.Thread(target=_attend, args=(process, folder), name=f"process-{folder.name}", daemon=True).start()


def _spawn(folder: Path, lock: RunLock, *, queue: bool, without_change: int | None) -> subprocess.Popen[bytes]:
    command = ["-m", "lab", "train", "--run-dir", str(folder.absolute()), "--resume", *([] if queue else ["--no-queue"])]
    command += [] if without_change is None else ["--without-change", str(without_change)]
    source = str(Path(__file__).parents[2])  # the child is to run this very lab, wherever it was imported from
    others = os.environ.get("PYTHONPATH")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([source, others] if others else [source]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    with (folder / PROCESS_LOG).open("ab") as log:
        log.write(f"{BEGINS}{datetime.now().astimezone().isoformat(timespec='seconds')} python {shlex.join(command)}\n".encode())
        log.flush()
        # -P: a file of the user's in the current folder must not stand in for a library.
        return subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", *command, "--lock-descriptor", str(lock.descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            pass_fds=[lock.descriptor],
        )


def _attend(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Write down how the child ended where it could not say it itself, if this process is still there to see it."""
    code = process.wait()
    if code == 0 or not folder.exists():
        return
    if code < 0:
        names = {s.value: s.name for s in signal.Signals}
        hint = " (memory may have run out)" if -code == signal.SIGKILL else ""
        message = f"The training process was ended by {names.get(-code, -code)}{hint}."
    elif last_log_line(folder) is None:
        message = f"The training process ended with exit code {code} and said nothing."
    else:
        return
    with (folder / PROCESS_LOG).open("a", encoding="utf-8") as log:
        log.write(f"{message}\n")
