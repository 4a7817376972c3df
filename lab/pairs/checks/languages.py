"""The check for mixed languages, by py3langid (97 languages, naive Bayes on byte n-grams; Lui & Baldwin 2012)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

from .finding import Finding
from .registry import Corpus, check_named

SHORTEST = 40
"""Letters; the language of a shorter text is too uncertain."""
SHORTEST_SCRIPT = 8
"""Letters from which a script other than the Latin one counts."""
LEAST_SHARE = 0.7
"""Share of the letters in one script from which a text counts as written in it."""
SURE = 0.9
"""Probability from which a text counts as being in a language."""
LONGEST = 600
"""Characters at the beginning of a text that are looked at."""

_ENGLISH = re.compile(r"the|a|an|and|or|of|to|in|is|are|it|you|that|for|on|with|as|be|this|have|i|not|can|your|was|will|do|if")
_ENGLISH_SHARE = 0.2
"""Share of these words from which a text is taken for English without asking the model, which takes most of the time."""
_ABOUT_LANGUAGE = re.compile(
    r"\b(?:translat|übersetz|tradu|перев|english|german|deutsch|french|français|spanish|español|italian|portuguese|dutch|russian|polish|"
    r"chinese|japanese|korean|arabic|hindi|turkish|swedish|latin|greek|hebrew|language|sprache|langue|idioma)|翻译|翻訳|英语|中文",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)


@check_named(
    "mixed_languages",
    "Mixed languages",
    "Prompt and answers are in different languages, so the preference may be about the language alone.",
)
def mixed_languages(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs with an answer in another language than the other answer and the prompt, unless the prompt is about languages."""
    for texts in corpus.pairs:
        if _ABOUT_LANGUAGE.search(texts.prompt):
            continue
        languages = {name: language(text) for name, text in (("prompt", texts.prompt), *texts.answers())}
        known = {name: found for name, found in languages.items() if found is not None}
        if not any(a.differs(b) for a, b in combinations(known.values(), 2)):
            continue
        yield Finding(
            texts.pair.id, "mixed_languages", _sentence({name: str(found) for name, found in known.items()}), remedy="drop"
        )


def _sentence(known: dict[str, str]) -> str:
    usual, times = Counter(known.values()).most_common(1)[0]
    if times > 1:
        odd = next(name for name, language in known.items() if language != usual)
        return f"{odd} is in another language ({known[odd]}) than the rest of the pair ({usual})."
    return "; ".join(f"{name} is in {language}" for name, language in known.items()) + "."


@dataclass(frozen=True)
class Language:
    """Script and language of a text, as far as they are certain.

    script: Of most of its letters: "LATIN", "CYRILLIC", "CJK" (Japanese included), ...
    code:   ISO 639-1, or None where the text is too short for it or the language uncertain.
    """

    script: str
    code: str | None

    def differs(self, other: Language) -> bool:
        """Whether two texts are certainly in different languages."""
        if self.script != other.script:
            return True
        return self.code is not None and other.code is not None and self.code != other.code

    def __str__(self) -> str:
        return self.code or f"{self.script.capitalize()} script"


def language(text: str) -> Language | None:
    """Return what is certain about a text's language; None for a text with few letters."""
    sample = _CODE.sub(" ", text[:LONGEST])
    words = re.findall(r"[^\W\d_]+", sample.casefold())
    letters = "".join(words)
    if not letters:
        return None
    if sample.isascii():
        script, share = "LATIN", 1.0
    else:
        script, count = Counter(map(_script, letters)).most_common(1)[0]
        share = count / len(letters)
    if share < LEAST_SHARE or len(letters) < (SHORTEST_SCRIPT if script != "LATIN" else SHORTEST):
        return None
    if script == "LATIN" and sum(_ENGLISH.fullmatch(word) is not None for word in words) / len(words) >= _ENGLISH_SHARE:
        return Language(script, "en")
    code, probability = _identifier().classify(sample)
    return Language(script, str(code) if probability >= SURE and len(letters) >= SHORTEST else None)


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
