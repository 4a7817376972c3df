"""A pair's texts, prepared once for all checks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from sys import intern
from typing import TYPE_CHECKING

from lab.pairs.pair import Pair, answer_text, prompt_text

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash

    Numbers = np.ndarray[tuple[int, ...], np.dtype[np.uint32]]

PERMUTATIONS = 128
"""Hash functions of a MinHash."""

Side = str
SIDES: tuple[Side, Side] = ("chosen", "rejected")
OTHER = {"chosen": "rejected", "rejected": "chosen"}

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class PairTexts:
    """Texts of a pair, prepared for the checks.

    pair:     The pair itself.
    question: Text of the last turn of the prompt, which the answers reply to.
    prompt, chosen, rejected: Whole texts.
    """

    pair: Pair
    question: str
    prompt: str
    chosen: str
    rejected: str

    @classmethod
    def of(cls, pair: Pair) -> PairTexts:
        """Read the texts of a pair."""
        prompt = prompt_text(pair.prompt)
        question = prompt if isinstance(pair.prompt, str) else str(pair.prompt[-1].get("content") or "")
        return cls(pair, question, prompt, answer_text(pair.chosen), answer_text(pair.rejected))

    def answer(self, side: Side) -> str:
        """Return one answer's text."""
        return self.chosen if side == "chosen" else self.rejected

    def answers(self) -> Iterator[tuple[Side, str]]:
        """Yield (side, text) of both answers."""
        yield "chosen", self.chosen
        yield "rejected", self.rejected

    def editable(self, side: Side) -> bool:
        """Whether the answer is one text, so that an edited text can take its place."""
        return isinstance(getattr(self.pair, side), str)

    @cached_property
    def words(self) -> dict[str, list[str]]:
        """Words of "prompt", "chosen" and "rejected", in lower case, without punctuation."""
        texts = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        return {name: words(text) for name, text in texts.items()}

    @cached_property
    def triples(self) -> dict[str, Numbers]:
        """Hashes of the triples of neighbouring words of "prompt", "chosen" and "rejected", without repetition, uint32."""
        import numpy as np

        return {name: np.unique(np.fromiter(word_triples(words), np.uint32)) for name, words in self.words.items()}

    @cached_property
    def min_hash(self) -> MinHash:
        """MinHash of the word triples of all three texts."""
        import numpy as np

        hashes = _no_hashes().copy()  # drawing the permutations again would take a third of the time
        hashes.update_batch(np.unique(np.concatenate(list(self.triples.values()))))
        return hashes


@cache
def _no_hashes() -> MinHash:
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, hashfunc=int, scheme="affine32")


def word_triples(words: Sequence[str]) -> Iterator[int]:
    """Yield hashes of the triples of neighbouring words, with both ends of the text, in [0, 2^32)."""
    padded = ["", *words, ""]
    for start in range(max(len(padded) - 2, 1)):
        yield zlib.crc32("\0".join(padded[start : start + 3]).encode("utf-8", "surrogatepass"))


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; characters of scripts without spaces count as words."""
    spaced = _WITHOUT_SPACES.sub(r" \g<0> ", text) if _WITHOUT_SPACES.search(text) else text
    return [intern(word) for word in _WORD.findall(spaced.casefold())]  # a word once in memory, not once a text


_WITHOUT_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese."""


def normal(text: str) -> str:
    """Return a text in lower case with single spaces."""
    return " ".join(text.casefold().split())


def shorten(text: str, most: int = 60) -> str:
    """Return a text in one line of at most `most` characters, with escapes for what cannot be printed."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."
