"""The run lock: a lock on a file in the run's folder, held while the run is trained.

The kernel releases the lock when the process ends, however it ends, so that neither a heartbeat nor a process id is needed.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

FILE_NAME = "run.lock"


class RunLock:
    """Exclusive lock on a run folder.

    Args:
        folder: Folder of the run.
        patience: Seconds to wait for a lock that is held.

    Raises:
        RuntimeError: If another thread or process trains in the folder.
    """

    def __init__(self, folder: Path, *, patience: float = 2.0) -> None:
        self._descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                # `is_held` holds the lock for microseconds; training holds it until it ends.
                if time.monotonic() > deadline:
                    os.close(self._descriptor)
                    raise RuntimeError(
                        f"Another process or thread trains in {folder}; wait for it, stop it, or use another folder."
                    ) from None
                time.sleep(0.02)

    @classmethod
    def inherited(cls, folder: Path, descriptor: int) -> Self:
        """Take over the lock that the parent process acquired and passed on as an open file, so that it is never released between.

        Raises:
            RuntimeError: If the descriptor is not the folder's lock.
        """
        try:
            if not os.path.samestat(os.fstat(descriptor), (folder / FILE_NAME).stat()):
                raise OSError
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"The inherited file descriptor {descriptor} is not the lock of {folder}.") from None
        os.set_inheritable(descriptor, False)  # this process's own children do not train here
        self = cls.__new__(cls)
        self._descriptor = descriptor
        return self

    @property
    def descriptor(self) -> int:
        """The open file's descriptor, which a child process can inherit; -1 after `release`."""
        return self._descriptor

    def release(self) -> None:
        """Release the lock, unless a child process has taken it over. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(folder: Path) -> bool:
    """Return whether a thread or process trains in the folder."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
