"""RAKE (rapid automatic keyword extraction): the key phrases of a text.

Rose, Engel, Cramer, Cowley: "Automatic keyword extraction from individual documents", in Text Mining: Applications and
Theory, Wiley 2010, section 1.2, without "adjoining keywords" (section 1.2.3: phrases joined by stop words that occur twice),
which need longer texts than answers are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

# English function words, which end a candidate phrase.
_LIST = """
a an the this that these those such same other another each every either neither both all any some no none most more
much many few fewer less least several enough own i me my mine myself we us our ours ourselves you your yours
yourself yourselves he him his himself she her hers herself it its itself they them their theirs themselves one ones
someone somebody something anyone anybody anything everyone everybody everything nobody nothing who whom whose which
what whatever whoever whichever about above across after against along alongside amid among around as at before
behind below beneath beside besides between beyond by concerning despite down during except for from in inside into
like near of off on onto out outside over past per regarding round since than through throughout till to toward
towards under underneath unlike until up upon via with within without and but or nor so yet if unless although
though because while whereas whether when whenever where wherever why how once then therefore thus hence however
moreover furthermore otherwise instead am is are was were be been being have has had having do does did doing done
can could may might must shall should will would ought cannot let lets get gets got make makes made isn't aren't
wasn't weren't haven't hasn't hadn't don't doesn't didn't can't couldn't mightn't mustn't shan't shouldn't won't
wouldn't i'm i've i'd i'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd it'll we're we've
we'd we'll they're they've they'd they'll that's there's here's what's who's let's not never also too very just only
even still already again ever always often sometimes usually rather quite almost perhaps maybe really well here
there now soon later first next finally lastly else away back together given used using use uses considered etc ie
eg
"""
STOP_WORDS = frozenset(_LIST.split())

# Letters with their combining marks, decimals whole.
_LETTER = r"(?:[^\W_][\u0300-\u036f\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963]*)"
_WORD = re.compile(rf"\d+(?:[.,]\d+)+|{_LETTER}+(?:['’-]{_LETTER}+)*")


@dataclass(frozen=True)
class Phrase:
    """One occurrence of a key phrase, text[start:end] in characters, with its RAKE score (no unit)."""

    text: str
    score: float
    start: int
    end: int

    @property
    def key(self) -> str:
        """The words in lower case, equal for all occurrences of a phrase."""
        return " ".join(_words(self.text))


def key_phrases(text: str) -> list[Phrase]:
    """Find every occurrence of every key phrase, highest score first, equal scores in the order of the text.

    Candidates are runs of words between stop words and phrase delimiters (anything but spaces between two words, so also a
    new line). With freq(w) the occurrences of a word in the candidates and deg(w) the total length in words of the
    candidates that contain it, a word scores deg(w) / freq(w) and a phrase the sum of its words. Phrases without a letter
    are left out.
    """
    spans = list(_candidates(text))
    freq: Counter[str] = Counter()
    deg: Counter[str] = Counter()
    for start, end in spans:
        words = _words(text[start:end])
        for word in words:
            freq[word] += 1
            deg[word] += len(words)
    phrases = []
    for start, end in spans:
        score = sum(deg[word] / freq[word] for word in _words(text[start:end]))
        phrases.append(Phrase(text[start:end], score, start, end))
    return sorted(phrases, key=lambda phrase: (-phrase.score, phrase.start))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _candidates(text: str) -> Iterator[tuple[int, int]]:
    start = end = None
    for match in _WORD.finditer(text):
        is_stop = match.group().lower().replace("’", "'") in STOP_WORDS
        joined = end is not None and text[end : match.start()].strip(" \t") == ""
        if start is not None and end is not None and (is_stop or not joined):
            yield from _if_lettered(text, start, end)
            start = end = None
        if not is_stop:
            start, end = match.start() if start is None else start, match.end()
    if start is not None and end is not None:
        yield from _if_lettered(text, start, end)


def _if_lettered(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    if any(character.isalpha() for character in text[start:end]):
        yield start, end
