"""Preference pairs: schema, import and export, versioned store, checks, and degraded answers for SPO."""

from .addresses import is_url
from .checks import CHECKS, Check, Finding, LengthBias, check, findings, length_bias, write_findings
from .degrade import DECISION as DEGRADE_DECISION
from .degrade import degrade, removed_spans
from .fingerprint import content_hash
from .importing import (
    ColumnMapping,
    ImportReport,
    Limits,
    RefusedRows,
    forget_mapping,
    guess_mapping,
    pair_of,
    pairs_from_rows,
    places_in_source,
    read_pairs,
    remember_mapping,
    remembered_mapping,
)
from .known_sets import KnownSet, find_set, known_sets
from .open_store import import_pairs, is_store, open_pairs
from .pair import Answer, Message, Pair, PairsError, Prompt, ToolConversation, answer_text, message_text, prompt_text
from .pair_export import row_of, write_pairs
from .query import SORTS, NumberRange, PairQuery
from .rake import Phrase, key_phrases
from .remedies import apply_remedy
from .store import (
    KEEP,
    BulkChange,
    Difference,
    Edit,
    PairConflict,
    PairStore,
    Preview,
    Snapshot,
)
from .update_report import SourceConflict, UpdateReport

__all__ = [
    "CHECKS",
    "DEGRADE_DECISION",
    "KEEP",
    "SORTS",
    "Answer",
    "BulkChange",
    "Check",
    "ColumnMapping",
    "Difference",
    "Edit",
    "Finding",
    "ImportReport",
    "KnownSet",
    "LengthBias",
    "Limits",
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
    "RefusedRows",
    "Snapshot",
    "SourceConflict",
    "ToolConversation",
    "UpdateReport",
    "answer_text",
    "apply_remedy",
    "check",
    "content_hash",
    "degrade",
    "find_set",
    "findings",
    "forget_mapping",
    "guess_mapping",
    "import_pairs",
    "is_store",
    "is_url",
    "key_phrases",
    "known_sets",
    "length_bias",
    "message_text",
    "open_pairs",
    "pair_of",
    "pairs_from_rows",
    "places_in_source",
    "prompt_text",
    "read_pairs",
    "remember_mapping",
    "remembered_mapping",
    "removed_spans",
    "row_of",
    "write_findings",
    "write_pairs",
]
