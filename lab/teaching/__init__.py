"""Teaching material without a dashboard: numbers and figures of objectives at single points, and the exercises of the lessons.

plane = Plane(tokens=(8, 12), seed=3)
arrays = field_arrays(make_objective("sgdpo"), plane)          # what the Learn page draws
reading = read_point(make_objective("sgdpo"), plane, (1, -2))  # exact numbers at one point
table = batch_table(make_objective("alpha_dpo"), parse_pairs("1,-1,8,8,-2,-2; 2,3,8,8,-2,-2"))
"""

from .cells import cell_source, objective_source
from .degrees import ScoredPhrase, degraded_answers, head_probabilities
from .field_arrays import FieldArrays, field_arrays
from .pair_numbers import MOST_PAIRS, PairNumbers, Point, format_pairs, pair_logps, parse_pairs
from .pair_tokens import PairTokens, tokens_of_pair, tokens_of_world
from .partials import compare_partials
from .pilots import CurrentDraw, current_draw, has_draws, pilot_distribution
from .plane import Landscape, Plane, along, descent, landscape
from .reading import Reading, read_point
from .run_pairs import pair_of_run, pairs_of_run
from .small_batch import USUAL_BATCH, Statistics, batch_table, couples_pairs, influence, influence_note, state_of
from .world_pairs import WorldPairs, world_pairs

__all__ = [
    "MOST_PAIRS",
    "USUAL_BATCH",
    "CurrentDraw",
    "FieldArrays",
    "Landscape",
    "PairNumbers",
    "PairTokens",
    "Plane",
    "Point",
    "Reading",
    "ScoredPhrase",
    "Statistics",
    "WorldPairs",
    "along",
    "batch_table",
    "cell_source",
    "compare_partials",
    "couples_pairs",
    "current_draw",
    "degraded_answers",
    "descent",
    "field_arrays",
    "format_pairs",
    "has_draws",
    "head_probabilities",
    "influence",
    "influence_note",
    "landscape",
    "objective_source",
    "pair_logps",
    "pair_of_run",
    "pairs_of_run",
    "parse_pairs",
    "pilot_distribution",
    "read_point",
    "state_of",
    "tokens_of_pair",
    "tokens_of_world",
    "world_pairs",
]
