"""Train a run in a thread, and record how it ended.

The thread imports torch and transformers itself, so that the caller of `start` does not wait for them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lab.policy.memory import out_of_memory, release_cached_memory
from lab.run import RunLock, in_process, send
from lab.run.requests import PAUSING, drop_stale, write
from lab.store import KEEP_PAIR_ROWS, RunError, StoreReader, StoreWriter, durable
from lab.training.control.device_slot import DeviceSlot
from lab.training.control.stopped import Stopped

from .distributed import ALONE, Workers

if TYPE_CHECKING:
    from .loop import Training

log = logging.getLogger(__name__)

_threads: dict[Path, threading.Thread] = {}


def trained_here() -> list[Path]:
    """Return the folders of the runs that a thread of this process is training."""
    return [folder for folder, thread in _threads.items() if thread.is_alive()]


def start(
    folder: Path,
    make: Callable[[StoreWriter], Training],
    *,
    slot: DeviceSlot | None = None,
    lock: RunLock | None = None,
    token_steps: int = 20,
    keep_pair_rows: int = KEEP_PAIR_ROWS,
    background: bool = True,
    workers: Workers = ALONE,
) -> threading.Thread:
    """Train the run in `folder` in a new thread, and return the thread.

    A foreground run trains in a thread too, so that Ctrl-C never interrupts a step. If the program ends before a background run,
    the run is stopped with a checkpoint. An error during training ends the run as failed, with the reason in its store and the
    traceback in `log.txt`.

    Args:
        folder: Folder of the run.
        make: Builds the Training from the run's store, in the thread that will train.
        slot: Device slot to wait for first; None trains at once.
        lock: Run lock inherited from the parent process; None acquires one.
        token_steps: See `StoreWriter`.
        keep_pair_rows: See `StoreWriter`.
        background: False returns when the run has ended.
        workers: The processes that train together; this one is the main process.

    Raises:
        RuntimeError: Another thread or process trains this run.
        RunError: The folder cannot be written.
    """
    executor = "process" if lock else "thread"
    try:
        held = lock or RunLock(folder)
    except OSError as error:
        raise RunError(f"The run in {folder} cannot be trained. {durable.disk_problem(error) or error}") from None
    try:
        if lock is None:  # otherwise the parent process did it, and new requests may have come since
            drop_stale(folder)
        store = StoreWriter(folder, token_steps=token_steps, keep_pair_rows=keep_pair_rows)
    except BaseException as error:
        held.release()
        problem = durable.disk_problem(error)
        if problem is None:
            raise
        raise RunError(f"The run in {folder} cannot be trained. {problem}") from None
    in_process.begin(folder)
    store.status(state="queued", error=None, reason=None, remaining=None, stage=None, executor=executor, process=os.getpid())
    store.flush()
    began = time.monotonic()

    def work() -> None:
        training: Training | None = None
        outcome = in_process.Outcome("failed", 0)
        try:
            if slot is not None:
                slot.wait(store)
            training = make(store)
            training.began = began
            state = training.run()
            outcome = in_process.Outcome(state, training.state.step, reason=training.stop_reason)
            store.status(state=state, stage=state, stage_share=None, stage_remaining=None, remaining=0, reason=outcome.reason)
            store.event(training.state.step, "state", state=state)
        except Stopped:  # while it waited for its device
            outcome = in_process.Outcome("stopped", _step_of(folder))
            store.status(state="stopped", stage="stopped", remaining=0)
            store.event(outcome.step, "state", state="stopped")
        except BaseException as error:
            step = training.state.step if training else 0
            message = _failure_of_other_process(folder, workers, error) or describe(error)
            outcome = in_process.Outcome("failed", step, error=message)
            log.error("The run %s failed: %s", folder.name, message)
            store.status(state="failed", stage="failed", error=message)
            store.event(step, "state", state="failed", error=message, failure=kind_of_failure(error))
            with contextlib.suppress(OSError):  # a full disk may be why it failed
                (folder / "log.txt").write_text(traceback.format_exc(), encoding="utf-8")
            if not isinstance(error, Exception):
                raise
        finally:
            training = None
            _release_device_memory()  # before another run gets the device
            if slot is not None:
                slot.free()
            store.close()
            for id, kind, detail in in_process.end(folder, outcome):
                if outcome.state == "stopped" and kind not in PAUSING:
                    with contextlib.suppress(RunError):
                        write(folder, id, kind, detail)  # handled when the run is resumed
            held.release()

    thread = threading.Thread(target=work, name=f"run-{folder.name}", daemon=True)
    thread.start()
    _threads[folder.resolve()] = thread
    if not background:
        _wait(folder, thread)
    return thread


def _wait(folder: Path, thread: threading.Thread) -> None:
    """Wait for a run's end. Ctrl-C stops it with a checkpoint and is raised afterwards; a second one is raised at once."""
    try:
        while thread.is_alive():
            thread.join(0.2)
    except KeyboardInterrupt:
        send(folder, "stop")
        thread.join()
        raise


def _release_device_memory() -> None:
    """Free unused memory of the GPU, if this process uses one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        release_cached_memory()


def _step_of(folder: Path) -> int:
    """Return the last step in a run's store; 0 where it cannot be read."""
    try:
        return StoreReader(folder).step
    except (OSError, sqlite3.Error):
        return 0


@atexit.register
def _stop_all(patience: float = 60.0) -> None:
    """Stop and save all runs of this process before it ends; otherwise its threads would end in the middle of a step."""
    for folder in trained_here():
        send(folder, "stop")
    for folder in trained_here():
        log.warning("Saving the run in %s, which was still training when the program ended.", folder)
        _threads[folder].join(patience)


FAILURE_FILE = "process-{rank}.failed"
"""File in a run's folder: why one of several processes failed. The others only notice that the connection to it is lost."""


@contextlib.contextmanager
def recording_failure(folder: Path, workers: Workers) -> Iterator[None]:
    """Write a failure of this process to the run's folder, where the main process reads it; for the other processes."""
    file = folder / FAILURE_FILE.format(rank=workers.rank)
    file.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:  # recorded for the main process, and raised again
        with contextlib.suppress(OSError):
            durable.write_json(file, describe(error))
        raise


def _failure_of_other_process(folder: Path, workers: Workers, error: BaseException) -> str | None:
    """Return the message of the process that failed first, if `error` may be its consequence.

    torch reports a lost connection to another process as RuntimeError.
    """
    failures = [path for rank in range(1, workers.world_size) if (path := folder / FAILURE_FILE.format(rank=rank)).exists()]
    if not isinstance(error, RuntimeError) or out_of_memory(error) or not failures:
        return None
    first = min(failures, key=lambda path: path.stat().st_mtime_ns)
    return f"{json.loads(first.read_text(encoding='utf-8'))} (Reported by {first.stem.replace('-', ' ')} of {workers.world_size}.)"


def kind_of_failure(error: BaseException) -> str:
    """Return "memory", "disk", "interrupt", "numbers" (loss or gradient not finite) or "other", as the diagnosis uses it."""
    if not isinstance(error, Exception):
        return "interrupt"
    from lab.training.checkpoints.checkpoint import CheckpointError  # imports torch

    if isinstance(error, CheckpointError) or durable.disk_problem(error):
        return "disk"
    if isinstance(error, FloatingPointError):
        return "numbers"
    return "memory" if out_of_memory(error) else "other"


def describe(error: BaseException) -> str:
    """Return an error as one sentence, with advice where memory or the disk is the cause."""
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted at the keyboard."
    if problem := durable.disk_problem(error):
        return problem
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if out_of_memory(error):
        advice = "lower micro_batch_size or max_length, switch gradient_checkpointing on, or train an adapter (lora_rank)"
        return f"Out of memory: {advice}, and resume or start again. ({message[:200]})"
    if isinstance(error, ValueError | FloatingPointError | RunError | KeyError) and message:
        return message
    return f"{type(error).__name__}: {message}"
