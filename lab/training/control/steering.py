"""What people ask of a run while it trains, and what of it is in use.

A change (settings, or a version of the pair set) is written down before it takes effect, and is made again at the same step when
the run goes on from an earlier checkpoint. So the settings of a step follow from the run's folder alone.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.pairs import Pair
from lab.run import Request, take
from lab.run.changeable import changeable, changed, values
from lab.run.config import ConfigError, TrainConfig
from lab.store import Change, StoreWriter, read_changes, write_changes
from lab.store.changes import plain_changes
from lab.store.folder import STOPPING
from lab.training.checkpoints.checkpoint import Asked
from lab.training.data.edits import compute_references, read_edits, take_edits
from lab.training.distributed import ALONE, Workers
from lab.training.setup.context import RunContext

from .stopping import Stopped

log = logging.getLogger(__name__)


class Steering:
    """The requests of one run.

    config, pairs_version: in use; at first those the run was made with.   pairs_at: version -> the pairs as they then were.
    model: folder or hub id, loaded again where full fine-tuning has to know the reference of an edited pair.
    """

    def __init__(
        self,
        run_dir: Path,
        store: StoreWriter,
        config: TrainConfig,
        *,
        pairs_version: int,
        pairs_at: Callable[[int], list[Pair]],
        model: str,
        workers: Workers = ALONE,
    ) -> None:
        self.run_dir, self.store, self.config, self.workers = run_dir, store, config, workers
        self.pairs_version, self.pairs_at, self.model = pairs_version, pairs_at, model
        self.context: RunContext | None = None
        self._changes = read_changes(run_dir)
        self._taken = 0  # how many of them are in use
        self._asked: list[Request] = []

    def settings_in_use(self) -> dict[str, Any]:
        """Settings, version and changes as plain values, for a checkpoint."""
        return {
            "settings": self.config.model_dump(mode="json"),
            "pairs_version": self.pairs_version,
            "changes": plain_changes(self._changes[: self._taken]),
        }

    def present(self) -> dict[str, Any]:
        """Everything that people may change, as it is, for people."""
        found = {path: value for path, (_, value) in changeable(self.config).items()}
        return {"settings": found, "pairs_version": self.pairs_version}

    def listen(self, step: int, say: Callable[[str], None], save: Callable[[Asked], None] | None = None) -> None:
        """Hear what people ask for once `step` steps are done; returns when the run may go on, raises Stopped when it may not.

        say: told "paused" and "running".   save: writes a checkpoint that somebody asked for; given between two steps only.
        Everything but a pause and a stop waits until then.
        """
        paused = False
        while True:
            kinds = ("pause", "resume", "stop") if save is None else None  # the rest stays in the mailbox until it can be done
            for request in self.workers.broadcast(take(self.run_dir, kinds) if self.workers.is_main else None):
                asked = {"asked": request.detail} if request.detail else {}
                self.store.event(step, "request", request=request.kind, **asked)
                if request.kind == "stop":
                    self.store.status(stage=STOPPING, stage_share=None, stage_remaining=None)
                    raise Stopped
                if request.kind not in ("pause", "resume"):
                    self._asked.append(request)
                elif paused != (request.kind == "pause"):
                    paused = not paused
                    say("paused" if paused else "running")
            if save is not None:
                self.follow(step)
                while self._asked:
                    self._handle(self._asked.pop(0), step, save)
            if not paused:
                return
            time.sleep(0.05)

    def acknowledge_stop(self, step: int) -> None:
        """Record the stop requests that interrupted the run in the middle of `step` + 1."""
        for request in take(self.run_dir, ("stop",)) if self.workers.is_main else ():
            self.store.event(step, "request", request=request.kind)

    def follow(self, step: int, *, preparing: bool = False) -> None:
        """Make the changes again that were made up to here before the run was interrupted.

        preparing: the policy's weights are still those of the reference, and what was done up to here has its events already; which
        pairs are held out here is recorded.
        """
        while self._taken < len(self._changes) and self._changes[self._taken].after <= step:
            change = self._changes[self._taken]
            self._taken += 1
            if change.settings:
                self._use(changed(self.config, change.settings), None if preparing else change.after)
            if change.pairs_version is not None:
                self._take_version(change.pairs_version, change.after, untouched=preparing or step == 0, quiet=preparing)
        if preparing:
            self._record_division(step)

    def _handle(self, request: Request, step: int, save: Callable[[Asked], None]) -> None:
        """Do what somebody asked for. What cannot be done is refused in words, and the run goes on as before."""
        try:
            if request.kind == "checkpoint":
                save("keep" if request.detail.get("keep", True) else "look")
            elif request.kind == "set":
                self._set(request.detail.get("settings"), step, request.id)
            elif request.kind == "edits":
                self._edit(request.detail.get("version"), step)
            else:
                raise ConfigError(f"No run understands the request {request.kind!r} ({request.detail}).")
        except (ValueError, OSError, RuntimeError, sqlite3.Error) as error:
            message = " ".join(str(error).split())
            self.store.event(step, "refused", request=request.kind, id=request.id, message=message)
            log.warning("A request was refused: %s", message)

    def _set(self, settings: Any, step: int, id: str) -> None:
        if not isinstance(settings, dict):
            raise ConfigError("The request to set something names no settings.")
        after = changed(self.config, settings)
        self._remember(Change(step, settings=values(after, settings)))
        self._use(after, step, id=id)

    def _edit(self, version: Any, step: int) -> None:
        if not isinstance(version, int):
            raise ConfigError("The request to take edits names no version of the pair set.")
        self._take_version(version, step, untouched=step == 0, change=Change(step, pairs_version=version))

    def _remember(self, change: Change) -> None:
        """Write a change down. What lay ahead, because the run was taken up again before it, is not made again."""
        changes = [*self._changes[: self._taken], change]
        if self.workers.is_main:
            write_changes(self.run_dir, changes)
        self._changes, self._taken = changes, len(changes)

    def _use(self, config: TrainConfig, step: int | None, **more: Any) -> None:
        """step: where to record it, with more details, or None."""
        assert self.context is not None
        before = {path: value for path, (_, value) in changeable(self.config).items()}
        now = {path: value for path, (_, value) in changeable(config).items()}
        self.config = self.context.config = config
        self.context.degraded_spec = config.objective.degraded_spec()
        if step is not None:
            told = {path: [before.get(path), value] for path, value in now.items() if before.get(path) != value}
            self.store.event(step, "change", settings=told, **more)

    def _take_version(
        self, version: int, after: int, *, untouched: bool, change: Change | None = None, quiet: bool = False
    ) -> None:
        """change: to be remembered once nothing can go wrong any more."""
        context = self.context
        assert context is not None
        before = _division(context)
        edits = read_edits(context, self.pairs_at(version), after)
        computed = compute_references(context, edits, model=self.model, untouched=untouched)
        if change is not None:
            self._remember(change)
        take_edits(context, edits)
        self.pairs_version = version
        self.store.status(pairs_version=version)
        if not quiet:
            self.store.event(after, "edit", version=version, computed=computed, **edits.counts)
            if _division(context) != before:
                self._record_division(after)
            if edits.counts["cut"]:
                message = (
                    f"{edits.counts['cut']} of the edited pairs have an answer that does not fit into max_length; its end is cut."
                )
                self.store.event(after, "warning", message=message)

    def _record_division(self, step: int) -> None:
        """Which pairs of the version in use are not trained on; `lab.export` reads it."""
        assert self.context is not None
        told = _division(self.context)
        self.store.event(step, "held_out", version=self.pairs_version, looked_at=len(self.context.held_out), **told)


def _division(context: RunContext) -> dict[str, list[str]]:
    """Ids of the pairs that are not trained on: kept apart for looks, and left out because an answer does not fit."""
    return {"pairs": [pair.id for pair in context.kept_apart], "too_long": [pair.id for pair in context.dropped]}
