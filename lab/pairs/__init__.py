"""Preference pairs: what they are, where they come from, how they are kept, edited, checked and weakened."""

from .checks import LengthBias, check, findings, length_bias
from .degrade import DECISION as DEGRADE_DECISION
from .degrade import degrade, removed_spans
from .exporting import row_of, write_pairs
from .importing import pair_of, pairs_from_rows, read_pairs
from .opening import content_hash, open_pairs
from .rake import Phrase, key_phrases
from .schema import Message, Pair, PairsError, Prompt, prompt_text
from .store import PairStore
from .tables import Edit

__all__ = [
    "DEGRADE_DECISION",
    "Edit",
    "LengthBias",
    "Message",
    "Pair",
    "PairStore",
    "PairsError",
    "Phrase",
    "Prompt",
    "check",
    "content_hash",
    "degrade",
    "findings",
    "key_phrases",
    "length_bias",
    "open_pairs",
    "pair_of",
    "pairs_from_rows",
    "prompt_text",
    "read_pairs",
    "removed_spans",
    "row_of",
    "write_pairs",
]
