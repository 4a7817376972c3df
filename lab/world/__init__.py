"""The embedded worlds: small readable languages with an oracle, preference pairs with known rewards, and tiny tuned models."""

from .build import content_hash, ensure, folder_name
from .kinds import HARD, KINDS, PLAIN, Kind
from .opening import model_source, open_world
from .oracle import Score, score
from .pair_sampling import annotator, preference_probability, sample_pairs
from .spec import WorldError, WorldSpec, is_world_name
from .world import World, pairs_file, world_of

__all__ = [
    "HARD",
    "KINDS",
    "PLAIN",
    "Kind",
    "Score",
    "World",
    "WorldError",
    "WorldSpec",
    "annotator",
    "content_hash",
    "ensure",
    "folder_name",
    "is_world_name",
    "model_source",
    "open_world",
    "pairs_file",
    "preference_probability",
    "sample_pairs",
    "score",
    "world_of",
]
