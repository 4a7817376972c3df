"""The source of an export: a checkpoint, its step, and the model that the run began with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.policy.sources.adapter_source import is_adapter
from lab.policy.sources.converted import is_converted, is_gguf, loadable
from lab.policy.sources.model_error import ModelError
from lab.run.checkpoints import not_kept
from lab.run.config import TrainConfig
from lab.run.settings import checkpoint_settings
from lab.store import RunError
from lab.world import PLAIN, is_world_name, model_source

if TYPE_CHECKING:
    from lab.run.handle import Run


class ExportError(RunError):
    """A run cannot be exported as requested."""


@dataclass(frozen=True)
class Base:
    """The model that a run began with.

    Attributes:
        name: Its name.
        source: The folder or hub id it was loaded from, or the name of an embedded world.
        origin: The adapter's folder or GGUF file that `source` was converted from, or "".
    """

    name: str
    source: str
    origin: str = ""

    @property
    def local(self) -> bool:
        """Whether it is a model of this machine and not of the hub."""
        return is_world_name(self.source) or Path(self.source).is_absolute()

    def place(self) -> str:
        """Return the folder or hub id to load it from. Raises ExportError if it is missing."""
        if is_world_name(self.source):
            return model_source(self.source)
        if self.local and not Path(self.source).exists():
            return self._converted_again()
        try:
            return loadable(self.source)
        except ModelError as error:
            raise ExportError(f"The model that this run began with cannot be loaded: {error}") from error

    def _converted_again(self) -> str:
        """Convert the model again, after the cache with the first conversion was deleted or moved."""
        place = self.origin or self.source
        if self.origin and Path(self.origin).exists():
            try:
                again = loadable(self.origin)
            except ModelError as error:
                raise ExportError(f"The model that this run began with cannot be loaded: {error}") from error
            if Path(again).name == Path(self.source).name:
                return again
            raise ExportError(f"{place} has changed since this run began with it; restore the original and export again.")
        raise ExportError(f"The model that this run began with is no longer in {place}; restore it and export again.")


@dataclass(frozen=True)
class Source:
    """A checkpoint to export.

    Attributes:
        folder: The checkpoint: a transformers or peft folder with the trainer's own files.
        step: Optimizer steps done.
        adapter: Whether it contains a LoRA adapter.
        base: The model that the run began with.
        config: The settings in use at this step.
        pairs_version: Version of the pair set in use at this step.
        changes: (step, kind, detail) of the changes made up to this step; kind is "change" (settings) or "edit" (pairs).
    """

    folder: Path
    step: int
    adapter: bool
    base: Base
    config: TrainConfig
    pairs_version: int
    changes: tuple[tuple[int, str, dict[str, Any]], ...] = ()


def one_line(value: Any) -> str:
    """Return a value as text without line breaks and other unprintable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def find_source(run: Run, step: int | None = None) -> Source:
    """Return the checkpoint of a step; None for the best one, else the latest. Raises ExportError if there is none."""
    kept = run.checkpoints()
    if not kept:
        raise ExportError(f"The run {run.name} has no checkpoint yet, so there is nothing to export; it saves one when it ends.")
    steps = {_metadata(folder)["step"]: folder for folder in kept}
    if step is None:
        folder = run.best_checkpoint() or kept[-1]
    elif step in steps:
        folder = steps[step]
    else:
        raise ExportError(not_kept(run.name, step, steps))
    metadata, events = _metadata(folder), run.events("change", "edit")
    changes = [(int(after), kind, detail) for after, kind, detail in zip(events["step"], events["kind"], events["detail"])]
    return Source(
        folder,
        int(metadata["step"]),
        (folder / "adapter_config.json").exists(),
        _base(run, folder),
        checkpoint_settings(folder),
        int(metadata["pairs_version"]),
        tuple(change for change in changes if change[0] < metadata["step"]),
    )


def adapter_configuration(source: Source) -> dict[str, Any]:
    """Return peft's configuration of the checkpoint's adapter. Raises ExportError if it cannot be read."""
    try:
        return json.loads((source.folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"The checkpoint {source.folder} cannot be read ({error}); choose another with step.") from None


def _metadata(folder: Path) -> dict[str, Any]:
    """The checkpoint's metadata."""
    try:
        return json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"The checkpoint {folder} cannot be read ({error}); choose another with step.") from None


def _base(run: Run, folder: Path) -> Base:
    """The base model; for an adapter, the one named in its configuration."""
    name = source = str(run.manifest["config"]["model"])
    config = folder / "adapter_config.json"
    if config.exists():
        source = str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if is_world_name(name):
        return Base("the embedded world's model" if name == PLAIN.name else f"the model of the embedded world {name}", source)
    if is_converted(source) or is_adapter(name) or is_gguf(name):
        return Base(Path(name).name, source, name)
    path = Path(source)
    return Base(path.name, str(path.resolve())) if path.is_absolute() or path.is_dir() else Base(source, source)
