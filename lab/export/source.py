"""What an export begins with: the checkpoint, the step it stands for, and the model it was trained from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.monitor import RunError

if TYPE_CHECKING:
    from lab.run import Run

WORLD = "world"


class ExportError(RunError):
    """An export that cannot be made, in one sentence."""


@dataclass(frozen=True)
class Base:
    """The model a run began with: its name, and the folder or hub id it was loaded from ("world": the embedded one)."""

    name: str
    source: str

    @property
    def local(self) -> bool:
        """Whether it is no model of the hub, but one of this machine."""
        return self.source == WORLD or Path(self.source).is_absolute()

    def place(self) -> str:
        """The folder or hub id to load it from. Raises ExportError where it is not in its folder any more."""
        if self.source == WORLD:
            from lab.world import ensure

            return str(ensure(cache=home.cache()).model_dir)
        if self.local and not Path(self.source).is_dir():
            raise ExportError(f"The model that this run began with is not in {self.source} any more; put it back and export again.")
        return self.source


@dataclass(frozen=True)
class Source:
    """A checkpoint to export.

    folder: an ordinary model or peft folder beside the trainer's own files.   step: optimizer steps it has behind it.
    adapter: whether it holds a LoRA adapter.   base: the model under it.   pairs_version: the state of the pair set.
    """

    folder: Path
    step: int
    adapter: bool
    base: Base
    pairs_version: int


def find_source(run: Run, step: int | None = None) -> Source:
    """The checkpoint of `step`; without one the best that the run keeps, else the latest. Raises ExportError if there is none."""
    found = run.checkpoints()
    if not found:
        raise ExportError(f"The run {run.name} has no checkpoint yet, so there is nothing to export; it saves one when it ends.")
    steps = {folder: _numbers(folder)["step"] for folder in found}
    if step is None:
        folder = next((folder for folder in found if "best" in folder.name), found[-1])
    else:
        folder = next((folder for folder in found if steps[folder] == step), found[0])
        if steps[folder] != step:
            raise ExportError(
                f"The run {run.name} keeps no checkpoint of step {step}; "
                f"it has those of {', '.join(str(s) for s in sorted(set(steps.values())))}."
            )
    version = _numbers(folder).get("pairs_version", run.about["pairs_version"])  # another one where edits were taken in mid-run
    return Source(folder, steps[folder], (folder / "adapter_config.json").exists(), _base(run, folder), int(version))


def _numbers(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"The checkpoint {folder} cannot be read ({error}); choose another with step.") from None


def _base(run: Run, folder: Path) -> Base:
    """The base model. An adapter's own word counts where there is one: it is what it was trained on."""
    name = source = str(run.about["config"]["model"])
    config = folder / "adapter_config.json"
    if config.exists():
        source = str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    if name == WORLD:
        return Base("the embedded world's model", source)
    path = Path(source)
    return Base(path.name, str(path.resolve())) if path.is_absolute() or path.is_dir() else Base(source, source)
