"""What an export begins with: the checkpoint, the step it stands for, and the model it was trained from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.policy.sources import ModelError, is_adapter, is_converted, is_gguf, loadable
from lab.run.checkpoints import not_kept
from lab.run.config import TrainConfig
from lab.run.settings import checkpoint_settings
from lab.store import RunError

if TYPE_CHECKING:
    from lab.run.handle import Run

WORLD = "world"


class ExportError(RunError):
    """An export that cannot be made, in one sentence."""


@dataclass(frozen=True)
class Base:
    """The model a run began with: its name, and the folder or hub id it was loaded from ("world": the embedded one).

    origin: the adapter's folder or the GGUF file that `source` was converted from, or empty.
    """

    name: str
    source: str
    origin: str = ""

    @property
    def local(self) -> bool:
        """Whether it is no model of the hub, but one of this machine."""
        return self.source == WORLD or Path(self.source).is_absolute()

    def place(self) -> str:
        """The folder or hub id to load it from. Raises ExportError where it is not there any more."""
        if self.source == WORLD:
            from lab.world import ensure

            return str(ensure(cache=home.cache()).model_dir)
        if self.local and not Path(self.source).exists():
            return self._converted_again()
        try:
            return loadable(self.source)
        except ModelError as error:
            raise ExportError(f"The model that this run began with cannot be loaded: {error}") from error

    def _converted_again(self) -> str:
        """The folder that a start is converted to, where the cache with the first one was deleted or moved."""
        place = self.origin or self.source
        if self.origin and Path(self.origin).exists():
            try:
                again = loadable(self.origin)
            except ModelError as error:
                raise ExportError(f"The model that this run began with cannot be loaded: {error}") from error
            if Path(again).name == Path(self.source).name:
                return again
            raise ExportError(f"{place} is not what this run began with any more; put the old one back and export again.")
        raise ExportError(f"The model that this run began with is not in {place} any more; put it back and export again.")


@dataclass(frozen=True)
class Source:
    """A checkpoint to export.

    folder: an ordinary model or peft folder beside the trainer's own files.   step: optimizer steps it has behind it.
    adapter: whether it holds a LoRA adapter.   base: the model under it.
    config, pairs_version: the settings and the state of the pair set in use at that step.
    changes: what people changed up to there: after which step, "change" (of settings) or "edit" (of the pairs), and how.
    """

    folder: Path
    step: int
    adapter: bool
    base: Base
    config: TrainConfig
    pairs_version: int
    changes: tuple[tuple[int, str, dict[str, Any]], ...] = ()


def one_line(value: Any) -> str:
    """A value as text without line breaks and other characters that do not print."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def find_source(run: Run, step: int | None = None) -> Source:
    """The checkpoint of `step`; without one the best that the run keeps, else the latest. Raises ExportError if there is none."""
    found = run.checkpoints()
    if not found:
        raise ExportError(f"The run {run.name} has no checkpoint yet, so there is nothing to export; it saves one when it ends.")
    steps = {_facts(folder)["step"]: folder for folder in found}
    if step is None:
        folder = run.best_checkpoint() or found[-1]
    elif step in steps:
        folder = steps[step]
    else:
        raise ExportError(not_kept(run.name, step, steps))
    metadata, events = _facts(folder), run.events("change", "edit")
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
    """What peft wrote beside the checkpoint's adapter. Raises ExportError where it cannot be read."""
    try:
        return json.loads((source.folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"The checkpoint {source.folder} cannot be read ({error}); choose another with step.") from None


def _facts(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    try:
        return json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"The checkpoint {folder} cannot be read ({error}); choose another with step.") from None


def _base(run: Run, folder: Path) -> Base:
    """The base model. An adapter's own word counts where there is one: it is what it was trained on."""
    name = source = str(run.manifest["config"]["model"])
    config = folder / "adapter_config.json"
    if config.exists():
        source = str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if name == WORLD:
        return Base("the embedded world's model", source)
    if is_converted(source) or is_adapter(name) or is_gguf(name):
        return Base(Path(name).name, source, name)
    path = Path(source)
    return Base(path.name, str(path.resolve())) if path.is_absolute() or path.is_dir() else Base(source, source)
