"""Who trains a run: a lock on a file in its folder, held for as long as the training lives.

The kernel drops the lock when the process ends, however it ends, so "is it dead?" needs no heartbeat and no process id.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

FILE_NAME = "run.lock"


class RunLock:
    """Exclusive hold on a run folder. Raises RuntimeError if somebody else trains in it."""

    def __init__(self, folder: Path, *, patience: float = 2.0) -> None:
        self._descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                # A reader's look holds the lock for microseconds; a trainer holds it for good.
                if time.monotonic() > deadline:
                    os.close(self._descriptor)
                    raise RuntimeError(
                        f"Somebody else is training in {folder}; wait for it, stop it, or use another folder."
                    ) from None
                time.sleep(0.02)

    @classmethod
    def inherited(cls, folder: Path, descriptor: int) -> Self:
        """The hold that this process's parent took and handed down as an open file: the folder was not free for a moment.

        Raises RuntimeError if the descriptor is not the folder's lock.
        """
        try:
            if not os.path.samestat(os.fstat(descriptor), (folder / FILE_NAME).stat()):
                raise OSError
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(f"The file {descriptor} that was handed down is not the lock of {folder}.") from None
        os.set_inheritable(descriptor, False)  # this process's own children do not train here
        self = cls.__new__(cls)
        self._descriptor = descriptor
        return self

    @property
    def descriptor(self) -> int:
        """The open file, for a child process that is to take the hold over; -1 after `release`."""
        return self._descriptor

    def release(self) -> None:
        """Let go: the folder is free, unless a child process has taken the hold over. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_held(folder: Path) -> bool:
    """True while some thread or process trains in the folder."""
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
