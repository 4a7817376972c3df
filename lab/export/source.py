"""What an export begins with: the checkpoint, the step it stands for, and the model it was trained from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import extensions, home
from lab.monitor import RunError
from lab.training import TrainConfig

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
        raise ExportError(
            f"The run {run.name} keeps no checkpoint of step {step}; it has those of {', '.join(map(str, sorted(steps)))}."
        )
    about, facts, events = run.about, _facts(folder), run.events("change", "edit")
    changes = [(int(after), kind, detail) for after, kind, detail in zip(events["step"], events["kind"], events["detail"])]
    extensions.load()
    return Source(
        folder,
        int(facts["step"]),
        (folder / "adapter_config.json").exists(),
        _base(run, folder),
        # Others than at the start where people changed them.
        TrainConfig.parse(**facts.get("settings", about["config"])).made_at(about["created"]),
        int(facts.get("pairs_version", about["pairs_version"])),
        tuple(change for change in changes if change[0] < facts["step"]),
    )


def _facts(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself."""
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
