"""Checks of single answers: without content, cut off, or a refusal that is preferred."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from .characters import without_invisible
from .finding import Finding
from .registry import Corpus, check_named
from .texts import OTHER, shorten

_PLACEHOLDER = re.compile(
    r"\W*(?:n/?a|none|null|nan|nil|undefined|todo|tbd|empty|blank|no (?:answer|response|output)|(?:answer|response) missing)\W*",
    re.IGNORECASE,
)


@check_named(
    "empty_answer",
    "Answer without content",
    "An answer is blank, invisible, a dash or a placeholder such as N/A, so the pair teaches nothing but to answer at all.",
)
def empty_answer(corpus: Corpus) -> Iterator[Finding]:
    """Find answers without a letter, digit or symbol, and placeholders that the question does not ask for."""
    for texts in corpus.pairs:
        for side, answer in texts.answers():
            if not any(unicodedata.category(c)[0] in "LNS" for c in answer):
                yield Finding(texts.pair.id, "empty_answer", f"{side} has no letter or digit.", remedy="drop")
            elif _PLACEHOLDER.fullmatch(without_invisible(answer)):
                sentence = f'{side} is the placeholder "{shorten(answer.strip())}".'
                yield Finding(texts.pair.id, "empty_answer", sentence, remedy="drop")


_SENTENCE_END = re.compile(r"[.!?](?=[\s\"'”’)]|$)|[。！？।؟]")
_CLOSING = "\"'”’»)]}*_`"
_UNFINISHED = re.compile(
    r"a|an|the|and|or|but|because|of|to|in|on|at|for|with|from|by|into|than|that|which|who|whose|if|when|while|as|is|are|was|were|be|"
    r"has|have|had|will|would|can|could|should|must|may|might|your|my|his|her|its|our|their|this|these|those|such|very|not|"
    r"der|die|das|den|dem|ein|eine|einen|und|oder|aber|weil|von|zu|mit|für|auf|bei|aus|ist|sind|war|dass|wenn|"
    r"le|la|les|un|une|et|ou|mais|de|du|des|pour|avec|dans|sur|est|sont|que|qui|el|los|las|una|y|pero|con|por|para|en|es|son|del|al"
)
"""Words that no sentence ends with (English, German, French, Spanish), except in rare cases."""
_LIST_ITEM = re.compile(r"\s*(?:[-*•–]|\d{1,3}[.)]|[a-zA-Z][.)])\s")
LEAST_WORDS = 12
"""An answer without a full stop at its end counts as cut off from this length on, if a sentence or list item before has one."""


@check_named(
    "truncated_answer",
    "Answer cut off",
    "An answer stops in the middle of a sentence, so the model learns to stop there, or that stopping there is what was rejected.",
)
def truncated_answer(corpus: Corpus) -> Iterator[Finding]:
    """Find answers that end in the middle of a sentence, a bracket or a block of code."""
    for texts in corpus.pairs:
        for side, answer in texts.answers():
            reason = cut_off(answer)
            if reason is None:
                continue
            sentence = f'{side} ends with "{shorten(answer.rstrip()[-40:], 40)}", {reason}.'
            shortened = _to_last_sentence(answer)
            if shortened is not None and texts.editable(side) and shortened != texts.answer(OTHER[side]):
                yield Finding(texts.pair.id, "truncated_answer", sentence, remedy="edit", proposal={side: shortened})
            else:
                yield Finding(texts.pair.id, "truncated_answer", sentence, remedy="drop")


def cut_off(answer: str) -> str | None:
    """Return why an answer seems to be cut off, as a clause; None where it does not."""
    text = answer.rstrip()
    words = text.split()
    if len(words) < 4:
        return None
    if text.count("```") % 2:
        return "and its block of code is not closed"
    core = text.rstrip(_CLOSING)
    last = core[-1:] or text[-1]
    if last in ",;([{–-" or (last == ":" and not text.endswith("```")):
        return "which is no end of a sentence"
    final = re.sub(r"\W+$", "", words[-1]).casefold()
    if _UNFINISHED.fullmatch(final) and last.isalnum():
        return "a word that no sentence ends with"
    if not last.isalpha() or len(words) < LEAST_WORDS:
        return None
    *before, line = text.split("\n")
    if _LIST_ITEM.match(line):
        others = [other.rstrip() for other in before if _LIST_ITEM.match(other)]
        if len(others) >= 2 and all(_SENTENCE_END.search(other[-2:]) for other in others):
            return "without the full stop that the other items of its list have"
    elif len(line.split()) > 3 and _SENTENCE_END.search(text):
        return "without the full stop that its other sentences have"
    return None


def _to_last_sentence(answer: str) -> str | None:
    """Return an answer up to its last full stop, if more than half of it is left."""
    ends = [match.end() for match in _SENTENCE_END.finditer(answer)]
    if not ends or ends[-1] < len(answer.rstrip()) / 2 or answer.count("```") % 2:
        return None
    return answer[: ends[-1]].rstrip() or None


_NOT_ABLE = (
    r"can\s?not|can['’]t|could not|couldn['’]t|won['’]t|will not|must decline|have to decline|"
    r"(?:am|['’]m) (?:not able|unable|not allowed|not permitted|not comfortable|not going)|do(?: not|n['’]t) feel comfortable"
)
_ACT = (
    r"help|assist|answer|provide|give|do|comply|fulfill|discuss|share|engage|write|create|generate|support|respond|offer|participate|"
    r"produce|tell|say|with"
)
_REFUSAL = re.compile(
    rf"(?:^|[.!,]\s+|\bbut\s+)(?:(?:i|we) ?(?:{_NOT_ABLE})(?: to)?(?: \w+ly)? (?:{_ACT})\b|i refuse to\b"
    rf"|(?:not something|nothing) (?:that )?(?:i|we) can (?:{_ACT})\b"
    rf"|i (?:{_NOT_ABLE})(?: \w+ing\b|\.)"
    r"|as an ai(?: language model)?,? i (?:can|do|am)(?:\s?n[o'’]t| not| unable)"
    r"|(?:es )?tut mir leid, (?:aber )?(?:ich|dabei)|ich kann (?:dir|ihnen) (?:dabei|damit) nicht helfen"
    r"|je (?:suis désolée?|ne peux pas (?:vous|t['’])? ?aider)|lo siento, (?:pero )?no puedo)",
    re.IGNORECASE,
)
_APOLOGY = re.compile(
    r"(?:i['’]?m|i am|my apologies|sorry)\b[^.!?\n]{0,40}\bbut\b[^.!?\n]{0,30}\b(?:can['’]?t|cannot|unable|not able|won['’]t)\b",
    re.IGNORECASE,
)
REFUSAL_WITHIN = 160
"""Characters at the beginning of an answer in which a refusal is looked for."""


@check_named(
    "refusal_chosen",
    "Refusal preferred",
    "The chosen answer refuses where the rejected one answers: right for harmful requests, else the way to a model that refuses.",
)
def refusal_chosen(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs that prefer a refusal to an answer."""
    for texts in corpus.pairs:
        if refuses(texts.chosen) and not refuses(texts.rejected):
            sentence = f'chosen refuses ("{shorten(texts.chosen)}") where rejected answers.'
            yield Finding(texts.pair.id, "refusal_chosen", sentence, **_tag("refusal"))


def refuses(answer: str) -> bool:
    """Whether an answer begins with a refusal (English; common forms of German, French and Spanish)."""
    beginning = " ".join(answer[:REFUSAL_WITHIN].split())
    return bool(_REFUSAL.search(beginning) or _APOLOGY.match(beginning))


def _tag(tag: str) -> dict[str, Any]:
    return {"remedy": "tag", "proposal": {"tag": tag}}
