"""Open embedded worlds by their names, in the lab's cache."""

from __future__ import annotations

from lab import home
from lab.progress import StageProgress

from .build import ensure
from .kinds import PLAIN
from .spec import WorldSpec, is_world_name
from .world import World


def open_world(name: str = PLAIN.name, progress: StageProgress | None = None) -> World:
    """Load the world of a name ("world", "world:3", "world-hard"); the first time, build it.

    Raises:
        WorldError: There is no world of this name.
        OSError: The cache cannot be written.
    """
    return ensure(WorldSpec.named(name), cache=home.cache(), progress=progress)


def model_source(model: str, progress: StageProgress | None = None) -> str:
    """Return the folder of a world's model, which is built the first time; any other model as it is. Errors as `open_world`."""
    return str(open_world(model, progress).model_dir) if is_world_name(model) else model
