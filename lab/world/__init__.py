"""The embedded world: a small readable language with an oracle, preference pairs with known rewards, and a tiny tuned model."""

from .build import content_hash, ensure
from .oracle import BEST, FLOOR, Score, score
from .pair_sampling import oracle_reward, preference_probability, sample_pairs
from .spec import WorldSpec
from .world import World, is_world

__all__ = [
    "BEST",
    "FLOOR",
    "Score",
    "World",
    "WorldSpec",
    "content_hash",
    "ensure",
    "is_world",
    "oracle_reward",
    "preference_probability",
    "sample_pairs",
    "score",
]
