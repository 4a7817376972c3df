"""Changes of a run while it trains: settings, and versions of its pair set.

A change is written to the run's folder before it takes effect and is applied again at the same step when the run resumes from an
earlier checkpoint. The settings of a step therefore follow from the run's folder alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.pairs import Pair
from lab.policy import reference_model
from lab.run.changeable import changeable, changed, values
from lab.run.config import ConfigError, TrainConfig
from lab.run.pair_versions import FIXED, FOLLOW, is_fixed
from lab.store import Change, StoreWriter, read_changes, write_changes
from lab.store.changes import plain_changes
from lab.training.data.encoded_pairs import EncodedPair
from lab.training.data.training_pairs import edit_pairs
from lab.training.distributed import ALONE, Workers
from lab.training.run_context import RunContext

from .edit_follower import EditFollower


class RunChanges:
    """The changes of one run: those in use, and those still ahead when a run is resumed.

    Args:
        run_dir: Folder of the run.
        store: The run's store.
        pairs_version: Version of the pair set that the run was made with.
        pairs_at: Returns the pair set of a version.
        newest_version: Returns the newest version of the pair set, for a run that follows it.
        model: Folder or hub id of the model, loaded again for reference log-probs of edited pairs under full fine-tuning.
        workers: The processes that train together.
    """

    def __init__(
        self,
        run_dir: Path,
        store: StoreWriter,
        *,
        pairs_version: int,
        pairs_at: Callable[[int], list[Pair]],
        newest_version: Callable[[], int],
        model: str,
        workers: Workers = ALONE,
    ) -> None:
        self.run_dir, self.store, self.workers = run_dir, store, workers
        self.pairs_version, self.pairs_at, self.model = pairs_version, pairs_at, model
        self._follower = EditFollower(newest_version, lambda message: store.event(self._step, "warning", message=message))
        self._step = 0
        self._changes = read_changes(run_dir)
        self._applied = 0

    def applied(self) -> list[dict[str, Any]]:
        """Return the changes in use as plain values, for a checkpoint."""
        return plain_changes(self._changes[: self._applied])

    def set(self, context: RunContext, settings: Mapping[str, Any], step: int, request_id: str) -> None:
        """Change settings once `step` steps are done. Raises ConfigError for what cannot be changed."""
        config = changed(context.config, dict(settings))
        self._remember(Change(step, settings=values(config, dict(settings))))
        self._use(context, config, step, id=request_id)

    def take_version(self, context: RunContext, version: int, step: int) -> None:
        """Train on another version of the pair set once `step` steps are done.

        Raises ConfigError for a run that is set to one version, and ValueError for pairs that do not fit.
        """
        if is_fixed(wanted := context.config.pairs_version):
            raise ConfigError(FIXED.format(name="This run", wanted=wanted))
        self._take_version(context, version, step, untouched=step == 0, change=Change(step, pairs_version=version))

    def follow(self, context: RunContext, step: int) -> None:
        """Take the edits made since the version in use, if the run is set to follow its pairs; call it between two steps.

        While changes of an interrupted run are still ahead it takes none, so that the run is repeated as it was. Errors are those
        of `take_version`; the version that caused one is not tried again.
        """
        if context.config.pairs_version != FOLLOW or self._applied < len(self._changes):
            return
        self._step = step
        version = self.workers.broadcast(self._follower.version_to_take(self.pairs_version) if self.workers.is_main else None)
        if version is None:
            return
        began = time.monotonic()
        try:
            self.take_version(context, version, step)
        except BaseException:
            self._follower.refuse(version)
            raise
        finally:
            self._follower.took(time.monotonic() - began)

    def replay(self, context: RunContext, step: int, *, preparing: bool = False) -> None:
        """Apply the changes again that were made up to `step` before the run was interrupted.

        preparing: The policy still has the reference's weights, and the events up to here are recorded already; only the pairs
            that are held out now are recorded.
        """
        while self._applied < len(self._changes) and self._changes[self._applied].after <= step:
            change = self._changes[self._applied]
            self._applied += 1
            if change.settings:
                self._use(context, changed(context.config, change.settings), None if preparing else change.after)
            if change.pairs_version is not None:
                untouched = preparing or step == 0
                self._take_version(context, change.pairs_version, change.after, untouched=untouched, quiet=preparing)
        if preparing:
            self._record_excluded(context, step)

    def _remember(self, change: Change) -> None:
        """Write a change down; changes ahead of it, made before the run went back to a checkpoint, are dropped."""
        changes = [*self._changes[: self._applied], change]
        if self.workers.is_main:
            write_changes(self.run_dir, changes)
        self._changes, self._applied = changes, len(changes)

    def _use(self, context: RunContext, config: TrainConfig, step: int | None, **detail: Any) -> None:
        """Put settings into use; recorded at `step` unless that is None."""
        before, after = changeable_values(context.config), changeable_values(config)
        context.config = config
        context.degraded_spec = config.objective.degraded_spec()
        if step is not None:
            settings = {path: [before.get(path), value] for path, value in after.items() if before.get(path) != value}
            self.store.event(step, "change", settings=settings, **detail)

    def _take_version(
        self,
        context: RunContext,
        version: int,
        after: int,
        *,
        untouched: bool,
        change: Change | None = None,
        quiet: bool = False,
    ) -> None:
        """Train on a version of the pair store after a step: encode its edits, complete the reference, record what changed.

        Args:
            context: Run context, whose data are replaced.
            version: Version of the pair store.
            after: Step after which the version is in use.
            untouched: Whether the policy has the weights it was loaded with.
            change: Change to remember once nothing can fail any more.
            quiet: Record no event.
        """
        began = time.monotonic()
        before, from_version = context.data.excluded(), self.pairs_version
        policy = context.policy
        edited = edit_pairs(context.data, self.pairs_at(version), after, context.config, context.encoder, policy.vocabulary)
        computed = compute_references(context, edited.encoded, model=self.model, untouched=untouched)
        if change is not None:
            self._remember(change)
        context.data = edited.pairs
        self.pairs_version = version
        self.store.status(pairs_version=version)
        if quiet:
            return
        self.store.event(
            after,
            "edit",
            from_version=from_version,
            version=version,
            computed=computed,
            seconds=round(time.monotonic() - began, 3),
            **edited.counts,
        )
        if context.data.excluded() != before:
            self._record_excluded(context, after)
        if cut := edited.counts["cut"]:
            message = f"{cut} of the edited pairs have an answer that does not fit into max_length; its end is cut."
            self.store.event(after, "warning", message=message)

    def _record_excluded(self, context: RunContext, step: int) -> None:
        """Record which pairs of the version in use are not trained on; `lab.export` reads it."""
        held_out = len(context.data.held_out)
        self.store.event(step, "held_out", version=self.pairs_version, evaluated=held_out, **context.data.excluded())


def compute_references(context: RunContext, pairs: tuple[EncodedPair, ...], *, model: str, untouched: bool) -> int:
    """Compute the reference log-probs of pairs where they are missing; return the number of completions computed.

    With an adapter it is switched off; under full fine-tuning the model is loaded once more, unless the policy is still untouched.
    Raises ModelError if the model is no longer what it was when the run began.
    """
    completions = [c for pair in pairs for c in pair.completions() if not context.cache.holds(c)]
    if not completions:
        return 0
    if untouched:
        return context.cache.prepare(context.policy, completions)
    with reference_model(context.policy, model) as policy:
        return context.cache.prepare(policy, completions)


def changeable_values(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that may change while a run trains, by path."""
    return {path: value for path, (_, value) in changeable(config).items()}


def require_settings(settings: Any) -> Mapping[str, Any]:
    """Return the settings of a request. Raises ConfigError where it names none."""
    if not isinstance(settings, dict):
        raise ConfigError("The request to set something names no settings.")
    return settings


def require_version(version: Any) -> int:
    """Return the pair set version of a request. Raises ConfigError where it names none."""
    if not isinstance(version, int):
        raise ConfigError("The request to take edits names no version of the pair set.")
    return version
