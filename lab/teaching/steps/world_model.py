"""The embedded world's model before training, with its pairs and reference log-probs; loaded once per process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.objectives import DPO
from lab.pairs import Pair, pairs_from_rows, read_pairs
from lab.policy import Policy, ReferenceCache, choose_layout
from lab.progress import StageProgress
from lab.run.config import TrainConfig
from lab.training.data.encoded_pairs import EncodedPair, encode_known
from lab.training.setup.prepare import load_configured
from lab.world import World


@dataclass(eq=False)
class WorldModel:
    """The untrained model of an embedded world.

    Attributes:
        model: Folder of the model.
        pairs: The training pairs, in the order in which `lab.train` numbers them.
        held_out: Pairs of held-out prompts.
        frozen: The model as it is before training; it is the reference and is never trained.
        references: Its token log-probs of the completions that were passed to `prepare`.
        folder: Folder of `references`, deleted with this object.
        lock: Held while a model of this world computes: passes of several threads at once would only delay one another.
    """

    model: str
    pairs: list[Pair]
    held_out: list[Pair]
    frozen: Policy
    references: ReferenceCache
    folder: TemporaryDirectory[str] = field(repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def policy(self, config: TrainConfig) -> Policy:
        """Load the model to train it, with the batch layout that was checked on the frozen one."""
        policy = load_configured(config, self.model)
        policy.use_layout_of(self.frozen)
        return policy

    def prepare(self, pairs: Sequence[EncodedPair]) -> None:
        """Compute the reference log-probs that are missing, of all completions of the pairs."""
        self.references.prepare(self.frozen, [completion for pair in pairs for completion in pair.completions()])


_loaded: dict[Path, WorldModel] = {}
_lock = threading.Lock()


def world_model(world: World | None = None, *, progress: StageProgress | None = None) -> WorldModel:
    """Return the model of a world, loaded once per process.

    Args:
        world: None for the world of `lab.world.open_world`, which is built the first time (minutes).
        progress: Called as progress(stage, share).
    """
    from lab.world import open_world

    report = progress or (lambda stage, share: None)
    with _lock:
        world = world or open_world(progress=report)
        if world.folder not in _loaded:
            report("loading the model", 0.0)
            _loaded[world.folder] = _load(world)
        return _loaded[world.folder]


def _load(world: World) -> WorldModel:
    config = TrainConfig.parse(objective=DPO(), device="cpu")
    frozen = load_configured(config, str(world.model_dir))
    encoder, pairs = frozen.encoder(config.max_length), read_pairs(world.pairs_path)
    first = [encode_known(pair, encoder, None, frozen.vocabulary) for pair in pairs[:2]]
    choose_layout(frozen, [completion for pair in first for completion in pair.completions()])
    # Not the cache that runs share: a run's numbers must not depend on which pairs were computed here before.
    folder = TemporaryDirectory(prefix="lab-teaching-")
    references = ReferenceCache(Path(folder.name), frozen)
    return WorldModel(str(world.model_dir), pairs, pairs_from_rows(world.held_out_pairs()), frozen, references, folder)
