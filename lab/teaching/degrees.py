"""SPO on one answer: its key phrases, its degraded versions, and the prediction of a run's degree head for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.pairs import Pair, degrade, key_phrases, removed_spans

if TYPE_CHECKING:
    import pandas as pd

    from lab.whatif import Examined

LONGEST_TEXT = 20_000
"""Characters of a text that is degraded."""


@dataclass(frozen=True)
class ScoredPhrase:
    """One occurrence of a key phrase in the intact answer.

    Attributes:
        text: The phrase.
        score: Its RAKE score.
        start: Its first character in the intact answer.
        end: The character behind its last one.
        removed: Whether the degraded answer lacks it.
    """

    text: str
    score: float
    start: int
    end: int
    removed: bool


def degraded_answers(text: str, degrees: int = 4) -> pd.DataFrame:
    """Degrade an answer as SPO does, with the key phrases that each degree removes (number and shares of degrees: OURS).

    Args:
        text: The answer.
        degrees: N, the number of degrees with the intact answer.

    Returns:
        One row per degree, index `degree` from 0: text; share, k/(N-1); phrases, a tuple of `ScoredPhrase`, highest score first;
        removed, the number of distinct phrases that are removed.

    Raises:
        ValueError: Fewer than 2 degrees, a text that is too long, or one with too few key phrases for so many degrees.
    """
    import pandas as pd

    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The text has {len(text):,} characters; give at most {LONGEST_TEXT:,}.")
    spans = removed_spans(text, degrees)
    phrases = key_phrases(text)
    if not spans:
        count = len({phrase.key for phrase in phrases})
        raise ValueError(
            f"The text has {count} different key phrases, too few for {degrees} different answers; write a longer text or choose "
            "fewer degrees."
        )
    rows = []
    for degree, (answer, gaps) in enumerate(zip(degrade(text, degrees), spans)):
        gone = set(gaps)
        scored = tuple(ScoredPhrase(p.text, p.score, p.start, p.end, (p.start, p.end) in gone) for p in phrases)
        removed = len({p.key for p in phrases if (p.start, p.end) in gone})
        rows.append({"text": answer, "share": degree / (degrees - 1), "phrases": scored, "removed": removed})
    return pd.DataFrame(rows).rename_axis("degree")


def head_probabilities(model: Examined, text: str) -> pd.DataFrame:
    """Return the probability that a run's degree head gives to each degree, for every degraded version of an answer.

    The answer is put behind the prompt of the run's first pair.

    Args:
        model: The model of a run with SPO, from `lab.examine`.
        text: The answer.

    Returns:
        One row per true degree, index `degree`; a column p0, p1, ... for each predicted degree, and `predicted`, the most probable.

    Raises:
        ValueError: The run has no degree head, or the text has too few key phrases for its number of degrees.
    """
    import numpy as np
    import pandas as pd

    from lab.whatif.degrees import SOURCES, degree_guesses

    spec = model.degraded_spec
    if spec is None or model.degree_head is None:
        raise ValueError(f"The run {model.run_dir.name} has no degree head; choose a run with the objective spo.")
    sides = SOURCES.get(spec.source, ())
    if not sides:
        raise ValueError(
            f"The run {model.run_dir.name} degrades answers that it samples, not given ones; choose a run with another "
            "degraded_source."
        )
    degraded_answers(text, spec.degrees)  # raises for a text with too few phrases
    first = next(iter(model.pairs()), None)
    if first is None:
        raise ValueError(f"The run {model.run_dir.name} has no pair whose prompt the answer could follow.")
    pair = Pair("learn", first.prompt, text, text)
    guesses = [guess for guess in degree_guesses(model, pair) if guess.side == sides[0]]
    table = np.stack([guess.probabilities for guess in guesses])
    frame = pd.DataFrame(table, columns=[f"p{k}" for k in range(table.shape[1])], index=[guess.degree for guess in guesses])
    return frame.assign(predicted=table.argmax(1)).rename_axis("degree")
