"""The life of a training: its folder, the thread it runs in, how it ends."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from lab.policy.memory import out_of_memory, release_cached_memory
from lab.run import RunLock, in_process, send, take
from lab.run.config import TrainConfig
from lab.store import KEEP_PAIR_ROWS, RunError, StoreReader, StoreWriter, durable
from lab.store.folder import RUN_FILE, RUN_FORMAT
from lab.training.checkpoints.checkpoint import CheckpointError
from lab.training.control.device_slot import DeviceSlot
from lab.training.control.request_loop import PAUSING
from lab.training.control.stopping import Stopped
from lab.training.setup.versions import versions

from .distributed import ALONE, Workers
from .loop import Training

log = logging.getLogger(__name__)

_here: dict[Path, threading.Thread] = {}


def trained_here() -> list[Path]:
    """Folders of the runs whose training thread belongs to this process and is alive."""
    return [folder for folder, thread in _here.items() if thread.is_alive()]


def create_run(folder: Path, config: TrainConfig, **manifest: Any) -> None:
    """Make a run's folder. Raises RunError if there is a run in it already; nothing of that one is touched."""
    _make_folder(folder)
    content: dict[str, Any] = {
        "format": RUN_FORMAT,
        "config": config.model_dump(mode="json"),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
        **manifest,
    }
    draft = folder / f".{RUN_FILE}.{os.getpid()}"
    try:
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        (folder / RUN_FILE).hardlink_to(draft)  # unlike a rename it refuses where another process was faster
    except FileExistsError:
        raise _taken(folder) from None
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def check_new_folder(folder: Path) -> None:
    """Raises what `create_run` would raise for this folder. What is written to find out is deleted again."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    draft = folder / f".{RUN_FILE}.{os.getpid()}"
    try:
        _make_folder(folder)
        draft.write_text("{}", encoding="utf-8")
    except OSError as error:
        raise _cannot_be_made(folder, error) from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()


def _make_folder(folder: Path) -> None:
    """Raises RunError where there is a run already, or no folder can be."""
    if (folder / RUN_FILE).exists():
        raise _taken(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The folder {folder} cannot be made ({error.strerror}); give another run_dir.") from None


def _taken(folder: Path) -> RunError:
    return RunError(f"There is a run in {folder} already; continue it with resume, or give another run_dir.")


def _cannot_be_made(folder: Path, error: OSError) -> RunError:
    return RunError(f"The run cannot be made in {folder}. {durable.disk_problem(error) or error}")


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
    """Train in `folder`, in the thread that is returned; background=False returns when it has ended.

    The thread is also that of a foreground run (background=False), so that Ctrl-C never strikes in the middle of a step.

    `make(store)` builds the Training, in the thread where it will run. turn: its turn on the device, which is waited for first;
    None trains at once. lock: the hold on the folder, where this process was born with it. token_steps, keep_pair_rows: see
    `StoreWriter`.
    workers: the processes that train together, of which this is the first.
    When the program ends before a background run does, the run is stopped with a checkpoint.

    Raises RuntimeError if somebody trains in the folder already. What goes wrong later ends the run as failed, with the reason in
    its store and the traceback in `log.txt`.
    """
    executor = "process" if lock else "thread"
    try:
        held = lock or RunLock(folder)
    except OSError as error:
        raise RunError(f"The run in {folder} cannot be trained. {durable.disk_problem(error) or error}") from None
    try:
        if lock is None:  # else whoever started this process did it, and requests may have come since
            take(folder, PAUSING)  # an earlier process left them; other requests are handled by this one
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
        except Stopped:  # while it waited for its turn
            outcome = in_process.Outcome("stopped", _step_of(folder))
            store.status(state="stopped", stage="stopped", remaining=0)
            store.event(outcome.step, "state", state="stopped")
        except BaseException as error:
            step = training.state.step if training else 0
            message = _note_of_another(folder, workers, error) or describe(error)
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
            if torch.cuda.is_initialized():
                release_cached_memory()  # before another run gets the device
            if slot is not None:
                slot.free()
            store.close()
            in_process.end(folder, outcome)
            held.release()

    thread = threading.Thread(target=work, name=f"run-{folder.name}", daemon=True)
    thread.start()
    _here[folder.resolve()] = thread
    if not background:
        _wait_here(folder, thread)
    return thread


def _wait_here(folder: Path, thread: threading.Thread) -> None:
    """Wait for a run's end. Ctrl-C stops it with a checkpoint and is raised afterwards; a second one is raised at once."""
    try:
        while thread.is_alive():
            thread.join(0.2)
    except KeyboardInterrupt:
        send(folder, "stop")
        thread.join()
        raise


def _step_of(folder: Path) -> int:
    """The last step in a run's store; 0 where it cannot be read."""
    try:
        return StoreReader(folder).step
    except (OSError, sqlite3.Error):
        return 0


@atexit.register
def _stop_all(patience: float = 60.0) -> None:
    """A program that ends would take its training threads down in the middle of a step."""
    for folder in trained_here():
        send(folder, "stop")
    for folder in trained_here():
        log.warning("Saving the run in %s, which was still training when the program ended.", folder)
        _here[folder].join(patience)


NOTE = "process-{rank}.failed"
"""In a run's folder: why one of several processes failed. The others only find that it is gone."""


@contextlib.contextmanager
def leaving_a_note(folder: Path, workers: Workers) -> Iterator[None]:
    """For a process that does not write the store: should it fail, the first one is to find the reason."""
    note = folder / NOTE.format(rank=workers.rank)
    note.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):
            durable.write_json(note, describe(error))
        raise


def _note_of_another(folder: Path, workers: Workers, error: BaseException) -> str | None:
    """What the first of the other processes to fail has left, if it may be why this one failed: a lost process is met as a
    RuntimeError of the exchange."""
    there = [path for rank in range(1, workers.world_size) if (path := folder / NOTE.format(rank=rank)).exists()]
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError) or not there:
        return None
    first = min(there, key=lambda path: path.stat().st_mtime_ns)
    return f"{json.loads(first.read_text(encoding='utf-8'))} (Said by {first.stem.replace('-', ' ')} of {workers.world_size}.)"


def kind_of_failure(error: BaseException) -> str:
    """ "memory", "disk", "interrupt", "numbers" (loss or gradient not finite) or "other": what the diagnosis has to know of it."""
    if not isinstance(error, Exception):
        return "interrupt"
    if isinstance(error, CheckpointError) or durable.disk_problem(error):
        return "disk"
    if isinstance(error, FloatingPointError):
        return "numbers"
    return "memory" if out_of_memory(error) else "other"


def describe(error: BaseException) -> str:
    """An error in one sentence for people."""
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
