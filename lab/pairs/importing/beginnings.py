"""Find the prompt that two answers begin with, where a source has no column for it.

The rules are those of TRL's `maybe_extract_prompt`, except that a prompt never ends inside a word, nor inside an answer whose turn
begins with a known marker.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lab.pairs.pair import PairsError, Prompt, json_type

MARKER = re.compile(
    r"\n\s*(?:Assistant|AI|Bot|Response|Answer)\s*:|(?-i:\bASSISTANT:)|\[/INST\]|<\|im_start\|>assistant\s*|<\|assistant\|>\s*"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>\s*|<start_of_turn>model\s*|###\s*(?:Response|Assistant|Answer)\s*:\n?",
    re.IGNORECASE,
)
"""Where an assistant's turn begins in text that is already formatted."""
SHORT_WORDS, SHORT_CHARACTERS = 12, 80
"""A common beginning below both is more likely chance than a prompt."""


def split_beginning(chosen: Any, rejected: Any, counts: Counter[str]) -> tuple[Prompt, Any, Any]:
    """Split off the common beginning of two texts or conversations: (prompt, rest of chosen, rest of rejected).

    Raises PairsError where there is none.
    """
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side in ("", []):
            raise PairsError(f"{name} is empty; give an answer, or leave the pair out.")
    if chosen == rejected:
        raise PairsError("chosen and rejected are identical, so they show no preference; change one, or leave the pair out.")
    if isinstance(chosen, str):
        cut = _text_cut(chosen, rejected, counts)
    elif isinstance(chosen, list):
        cut = _common(chosen, rejected)
    else:
        raise PairsError(f"chosen is {json_type(chosen)}; give text or a list of messages.")
    if cut <= 0 or not chosen[:cut]:
        raise PairsError("there is no prompt: chosen and rejected have no common beginning; give a prompt field.")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def is_short(prompt: str) -> bool:
    """Whether a common beginning is so short that it is probably no prompt."""
    return len(prompt.split()) < SHORT_WORDS and len(prompt.strip()) < SHORT_CHARACTERS


def begin_alike(chosen: Any, rejected: Any) -> bool:
    """Whether two answers begin with the same word."""
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return False
    one, other = chosen.split(maxsplit=1), rejected.split(maxsplit=1)
    return bool(one and other) and one[0] == other[0]


def _common(chosen: Sequence[Any], rejected: Sequence[Any]) -> int:
    """Length of the common prefix."""
    shorter = min(len(chosen), len(rejected))
    return next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter)


def _text_cut(chosen: str, rejected: str, counts: Counter[str]) -> int:
    """Length of the common prompt of two texts.

    It ends behind the last marker of an assistant's turn in the common beginning. Without one it ends where the texts first
    differ, moved back to the start of that word and before one space, which (as in TRL) belongs to the answer. Where one text is a
    prefix of the other, its last word goes to the answer, so that no answer is empty.
    """
    cut = _common(chosen, rejected)
    marked = [match.end() for match in MARKER.finditer(chosen, 0, cut)]
    for name, side, other in (("chosen", chosen, rejected), ("rejected", rejected, chosen)):
        if (marked and not side[marked[-1] :].strip()) or (cut == len(side) and _ends_with_marker(side, other[cut:])):
            raise PairsError(f"{name} is empty after {side.strip()[-20:]!a}; give an answer, or leave the pair out.")
    if marked:
        if chosen[marked[-1] : cut].strip():
            counts["answers begin alike"] += 1
        return marked[-1]
    if cut == min(len(chosen), len(rejected)):
        while cut and not chosen[cut - 1].isalnum():
            cut -= 1
        cut = max(cut - 1, 0)
    if any(_in_word(side[cut]) for side in (chosen, rejected)):
        while cut and _in_word(chosen[cut - 1]):
            cut -= 1
    return cut - 1 if cut > 1 and chosen[cut - 1] == " " else cut


def _ends_with_marker(side: str, rest: str) -> bool:
    """Whether a text, which the other continues with `rest`, ends with a marker of unknown form: "A:", "[/ANSWER]", "<bot>"."""
    return rest.lstrip().startswith(":") or re.search(r"(?:^|\s)(?:\S{1,20}\s?:|\[/?[A-Z_]+\]|<\S+>)\s*$", side) is not None


def _in_word(character: str) -> bool:
    """True for letters, digits and marks, except wide (Chinese, Japanese, ...) ones, where a prompt may end anywhere."""
    part_of_word = character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"
    return part_of_word and unicodedata.east_asian_width(character) not in "WF"
