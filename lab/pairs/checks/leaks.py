"""Checks for text that is where it does not belong: the prompt or another turn in an answer, held-out pairs in the training set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .finding import Finding
from .registry import Corpus, check_named
from .repeats import NearIndex
from .texts import OTHER, PairTexts, normal, shorten

SHORTEST_LEAK = 20
"""Characters; a shorter prompt may occur in an answer by chance, and counts only on a line of its own or in quotation marks."""
SHORTEST_LINE = 8


@check_named(
    "prompt_leak",
    "Prompt repeated",
    "An answer repeats the whole prompt, so the model learns to echo, and copied tokens fill the answer's log-prob.",
)
def prompt_leak(corpus: Corpus) -> Iterator[Finding]:
    """Find answers that contain the whole last turn of their prompt."""
    for texts in corpus.pairs:
        needle = normal(texts.question)
        if len(needle) < SHORTEST_LINE:
            continue
        alone = None
        if len(needle) < SHORTEST_LEAK:
            alone = re.compile(r"(?:^|\n|[\"“«])\s*" + _pattern(texts.question) + r"\s*(?:$|\n|[\"”»])", re.IGNORECASE)
        for side, answer in texts.answers():
            if needle not in normal(answer) or (alone is not None and not alone.search(answer)):
                continue
            rest = _without_leading(texts.question, answer)
            if rest and texts.editable(side) and rest != texts.answer(OTHER[side]):
                sentence = f"{side} begins with the prompt."
                yield Finding(texts.pair.id, "prompt_leak", sentence, remedy="edit", proposal={side: rest})
            else:
                yield Finding(texts.pair.id, "prompt_leak", f"{side} repeats the prompt.", remedy="drop")


def _without_leading(question: str, answer: str) -> str:
    """Return the answer without the question at its beginning, or "" where it does not begin with it."""
    match = re.match(r"\W*" + _pattern(question) + r"\W*", answer, re.IGNORECASE)
    return answer[match.end() :].strip() if match else ""


def _pattern(question: str) -> str:
    return r"\s+".join(map(re.escape, question.split()))


_TURN = re.compile(
    r"(?:^|\n)[ \t]*(?:\*\*)?(?:Human|User|Assistant|System|Chatbot|ChatGPT|AI|Bot)(?:\*\*)?[ \t]*:"
    r"|(?:^|\n)[ \t]*#{2,4} ?(?:Instruction|Response|Input|Human|Assistant|User|System)\b:?"
    r"|<\|(?:im_start|im_end|im_sep|eot_id|start_header_id|end_header_id|begin_of_text|end_of_text|endoftext|user|assistant|system|end)\|>"
    r"|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad)>"
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_DIALOGUE = re.compile(
    r"\b(?:dialog(?:ue)?|conversation|script|transcript|chat ?log|template|yaml|role[- ]?play|interview|play)\b", re.I
)


@check_named(
    "role_marker",
    "Role marker",
    "An answer contains a role marker or a chat template's special token, mostly because a transcript was split wrongly.",
)
def role_marker(corpus: Corpus) -> Iterator[Finding]:
    """Find answers that contain the beginning of another turn or special tokens, outside code and requested dialogues."""
    for texts in corpus.pairs:
        for side, answer in texts.answers():
            match = find_marker(answer, texts.prompt)
            if match is None:
                continue
            marker = match.group().strip()
            before, after = answer[: match.start()].rstrip(), answer[match.end() :].lstrip(" :*")
            kept = before if before.strip() else after.strip()
            sentence = f'{side} contains "{shorten(marker)}", which belongs to a chat template or begins another turn.'
            usable = kept and find_marker(kept, texts.prompt) is None and kept != texts.answer(OTHER[side])
            if usable and texts.editable(side):
                yield Finding(texts.pair.id, "role_marker", sentence, remedy="edit", proposal={side: kept})
            else:
                yield Finding(texts.pair.id, "role_marker", sentence, remedy="drop")


def find_marker(answer: str, prompt: str = "") -> re.Match[str] | None:
    """Return the first role marker of an answer outside code; None too where the prompt asks for a dialogue."""
    if not _TURN.search(answer):
        return None
    blank = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), answer)
    for match in _TURN.finditer(blank):
        special = match.group().lstrip()[0] in "<["
        if special or not _DIALOGUE.search(prompt):
            return match
    return None


@check_named(
    "held_out_leak",
    "Held-out pair in the training set",
    "The pair, or its prompt, is also in the held-out set, so the evaluation measures memory and looks too good.",
)
def held_out_leak(corpus: Corpus) -> Iterator[Finding]:
    """Find pairs whose prompt, or nearly whose prompt and answers, a held-out pair has too."""
    if not corpus.held_out:
        return
    prompts: dict[str, PairTexts] = {}
    index = NearIndex()
    for texts in corpus.held_out:
        prompts.setdefault(normal(texts.prompt), texts)
        index.add(texts)
    own = {texts.pair.id for texts in corpus.held_out}
    for texts in corpus.pairs:
        if texts.pair.id in own:
            yield Finding(texts.pair.id, "held_out_leak", "This pair is held out as well.", texts.pair.id, "drop")
        elif (same := prompts.get(normal(texts.prompt))) is not None:
            yield Finding(
                texts.pair.id, "held_out_leak", f"The held-out pair {same.pair.id} has the same prompt.", same.pair.id, "drop"
            )
        elif (near := index.match(texts)) is not None:
            other, share = near
            sentence = f"This pair shares {share:.0%} of its word triples with the held-out pair {other}."
            yield Finding(texts.pair.id, "held_out_leak", sentence, other, "drop")
