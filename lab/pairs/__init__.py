"""Preference pairs: schema, import and export, versioned store, checks, and degraded answers for SPO."""

from .checks import CHECKS, Check, Finding, LengthBias, check, findings, length_bias, write_findings
from .degrade import DECISION as DEGRADE_DECISION
from .degrade import degrade, removed_spans
from .open_store import content_hash, open_pairs
from .pair import Message, Pair, PairsError, Prompt, answer_text, prompt_text
from .pair_export import row_of, write_pairs
from .pair_import import pair_of, pairs_from_rows, read_pairs
from .query import SORTS, NumberRange, PairQuery
from .rake import Phrase, key_phrases
from .remedies import apply_remedy
from .store import KEEP, BulkChange, Edit, PairConflict, PairStore, Preview

__all__ = [
    "CHECKS",
    "DEGRADE_DECISION",
    "KEEP",
    "SORTS",
    "BulkChange",
    "Check",
    "Edit",
    "Finding",
    "LengthBias",
    "Message",
    "NumberRange",
    "Pair",
    "PairConflict",
    "PairQuery",
    "PairStore",
    "PairsError",
    "Phrase",
    "Preview",
    "Prompt",
    "answer_text",
    "apply_remedy",
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
    "write_findings",
    "write_pairs",
]
