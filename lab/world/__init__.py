"""The embedded default: a small readable language with an oracle, preference pairs of known truth, and a tiny tuned model."""

from .build import content_hash, ensure
from .evaluation import Evaluation, evaluate_answers
from .oracle import BEST, FLOOR, Score, score
from .sampling import oracle_reward, preference_probability, sample_pairs
from .spec import WorldSpec
from .world import World, is_world

__all__ = [
    "BEST",
    "FLOOR",
    "Evaluation",
    "Score",
    "World",
    "WorldSpec",
    "content_hash",
    "ensure",
    "evaluate_answers",
    "is_world",
    "oracle_reward",
    "preference_probability",
    "sample_pairs",
    "score",
]
