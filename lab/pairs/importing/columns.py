"""Which columns of a source hold what: guessed from their names, changed by a person, and remembered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from lab.errors import did_you_mean
from lab.pairs.pair import PairsError, json_type

from .answers.paths import is_given, listed, normal, root
from .answers.ranking import guess_ranking
from .answers.winners import guess_winner, two_answers

Layout = Literal["auto", "text", "conversation"]
LAYOUTS = ("auto", "text", "conversation")
Pairing = Literal["best_worst", "all"]
CHOICES = {"layout": LAYOUTS, "pairing": ("best_worst", "all")}
"""Entries of a mapping that are no columns -> their values."""
SEVERAL = ("prompt", "winner")
"""Entries of a mapping that may name several columns."""

ANSWERS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_answer", "rejected_answer"),
    ("answer_chosen", "answer_rejected"),
    ("chosen_output", "rejected_output"),
    ("chosen_text", "rejected_text"),
    ("preferred_output", "non_preferred_output"),
    ("preferred", "dispreferred"),
    ("preferred", "rejected"),
    ("accepted", "rejected"),
    ("winner", "loser"),
    ("better", "worse"),
    ("positive", "negative"),
    ("response_j", "response_k"),
    ("y_w", "y_l"),
    ("yw", "yl"),
)
PROMPTS = (
    ("prompt",),
    ("instruction", "input"),
    ("question",),
    ("query",),
    ("instruction",),
    ("conversations",),
    ("conversation",),
    ("dialogue",),
    ("messages",),
    ("user_prompt",),
    ("user",),
    ("problem",),
    ("context",),
    ("history",),
    ("input",),
    ("inputs",),
)
SYSTEMS = ("system", "system_prompt", "system_message")
TOOLS = ("tools", "functions")
HISTORIES = ("history",)
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_reward", "rejected_reward"),
    ("reward_chosen", "reward_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
MARGINS = ("margin", "score_margin", "score_diff")
PAIR_ID = "lab_pair_id"
"""Column of the id in files that `write_pairs` has written; rows that have it are read back exactly as they were."""
OWN = {"weight": "weight", "degree": "degree", "tags": "lab_tags", "note": "lab_note"}
"""Field of a pair -> the column that holds it. Columns called tags or note mean other things in other files."""


@dataclass(frozen=True)
class ColumnMapping:
    """Which columns of a source are read as what.

    prompt:   Columns of the prompt, joined by a line break (instruction and input); empty: what both answers begin with.
    chosen, rejected: Columns of the answers.
    system:   Column of the system message; empty for none.
    tools:    Column of the tools; empty for none.
    score_chosen, score_rejected: Columns of scores, whose difference gives the preference degree; empty for none.
    margin:   Column that holds that difference already; empty for none.
    layout:   "auto": as the columns are; "conversation": text prompts become a user's turn for the chat template; "text":
              transcripts and conversations written as text stay text.
    history:  Column of earlier turns, as pairs of a question and its answer (Alpaca); empty for none.
    winner:   Column that says which of the two answers is better, or two columns of scores; then `chosen` and `rejected` are the
              first and the second answer. Empty: `chosen` is the better one.
    ranked:   Column with a list of answers, in place of `chosen` and `rejected`; empty for none.
    rank_by:  What these answers are ordered by: a key of each, or a column with a list of numbers. Names with "rank" count from the
              best.
    pairing:  "best_worst" makes one pair of each such list, "all" one of every two answers that differ.

    Columns may be paths into nested values: "question.full_text", "summaries.0.text".
    """

    prompt: tuple[str, ...] = ()
    chosen: str = "chosen"
    rejected: str = "rejected"
    system: str = ""
    tools: str = ""
    score_chosen: str = ""
    score_rejected: str = ""
    margin: str = ""
    layout: Layout = "auto"
    history: str = ""
    winner: tuple[str, ...] = ()
    ranked: str = ""
    rank_by: str = ""
    pairing: Pairing = "best_worst"

    def used(self) -> set[str]:
        """Return the columns that are read."""
        single = {self.chosen, self.rejected, self.system, self.tools, self.history}
        single |= {self.score_chosen, self.score_rejected, self.margin}
        return (single | {self.ranked} | set(self.prompt) | set(self.winner)) - {""}

    def exchanged(self) -> ColumnMapping:
        """Return the mapping with the two answers, and their scores, in each other's place."""
        scored = replace(self, score_chosen=self.score_rejected, score_rejected=self.score_chosen)
        return replace(scored, chosen=self.rejected, rejected=self.chosen)

    def of_ranked(self, scored: bool) -> ColumnMapping:
        """Return the mapping of a row that `ranked_rows` has made."""
        made = replace(self, chosen="chosen", rejected="rejected", ranked="", rank_by="")
        return replace(made, score_chosen="score_chosen", score_rejected="score_rejected") if scored else made

    def answer_columns(self) -> tuple[str, ...]:
        """Return the columns that the two answers come from."""
        return (self.chosen, self.rejected, *self.winner, self.ranked, self.rank_by, self.pairing)

    def lines(self) -> list[str]:
        """Return what is read from where, a line for each."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        shown["prompt"] = " + ".join(self.prompt) or "what both answers begin with"
        shown["winner"] = " or ".join(self.winner)
        if self.winner:
            shown["chosen"] = shown["rejected"] = f"{self.chosen} or {self.rejected}"
        hidden = [("layout", "auto"), *([] if self.ranked else [("pairing", self.pairing)])]
        return [f"{name}: {column}" for name, column in shown.items() if column and (name, column) not in hidden]


def guess_mapping(columns: Sequence[str], sample: Iterable[Any] = ()) -> ColumnMapping:
    """Guess from their names which columns hold what; names are compared without case, spaces and hyphens.

    Args:
        columns: Names of the columns.
        sample: Some rows; where several names are possible for the prompt, the first that holds something counts.
    """
    named = {normal(column): column for column in reversed(columns)}
    rows = [row for row in sample if isinstance(row, Mapping)]

    def holds(column: str) -> bool:
        return not rows or any(is_given(row.get(column)) for row in rows)

    def first(names: Iterable[str]) -> str:
        return next((named[name] for name in names if name in named), "")

    answers = next((pair for pair in ANSWERS if set(pair) <= named.keys()), None)
    chosen, rejected = (named[name] for name in answers) if answers else ("chosen", "rejected")
    winner: list[tuple[str, ...]] = []
    ranking = None
    if not answers and (two := two_answers(named, rows)):
        chosen, rejected = two
        winner = guess_winner(named, two, holds)
    elif not answers and (ranking := guess_ranking(named, rows)):
        chosen = rejected = ""
    prompts = [tuple(named[name] for name in names) for names in PROMPTS if set(names) <= named.keys()]
    prompt = next((names for names in prompts if any(map(holds, names))), ())
    prompt = tuple(_text_inside(column, rows) for column in prompt)
    scores = next((tuple(named[name] for name in pair) for pair in SCORES if set(pair) <= named.keys()), ("", ""))
    if len(winner) == 1 and len(winner[0]) == 2 and "winner" not in normal(winner[0][0]):
        scores = winner[0]
    return ColumnMapping(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        system=first(SYSTEMS),
        tools=first(TOOLS),
        history="" if normal(prompt[0] if prompt else "") in HISTORIES else first(HISTORIES),
        score_chosen=scores[0],
        score_rejected=scores[1],
        margin="" if scores[0] else first(MARGINS),
        winner=winner[0] if len(winner) == 1 else (),
        ranked=ranking[0] if ranking else "",
        rank_by=ranking[1] if ranking else "",
    )


def _text_inside(column: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The path of the text in a column of objects that are no messages: "question.full_text"."""
    value = next((value for row in rows if is_given(value := row.get(column))), None)
    if isinstance(value, Mapping) and not {"role", "from", "messages"} & value.keys():
        return next((f"{column}.{key}" for key in ("full_text", "text", "content") if isinstance(value.get(key), str)), column)
    return column


def as_mapping(given: ColumnMapping | Mapping[str, Any], guessed: ColumnMapping) -> ColumnMapping:
    """Return a mapping from a person's choice; a dict changes the guessed one. Raises PairsError for an unknown entry."""
    if isinstance(given, ColumnMapping):
        return given
    if not isinstance(given, Mapping):
        raise PairsError(f'A mapping is a dict of entries and columns, not {json_type(given)}: {{"prompt": "question"}}.')
    changes: dict[str, Any] = {}
    names = [field.name for field in fields(ColumnMapping)]
    for name, value in given.items():
        if name not in names:
            raise PairsError(f"A mapping has no entry {name!r}; it has {', '.join(names)}.{did_you_mean(name, names)}")
        if name in SEVERAL:
            value = [part for part in value.split("+") if part] if isinstance(value, str) else value or ()
            if not isinstance(value, (list, tuple)) or not all(isinstance(part, str) for part in value):
                raise PairsError(f"The {name} of a mapping is {value!r}; give the name of a column, or a list of names.")
            value = tuple(value)
        if name in CHOICES and value not in CHOICES[name]:
            raise PairsError(f"The {name} of a mapping cannot be {value!r}; choose {', '.join(CHOICES[name])}.")
        if name not in SEVERAL and not isinstance(value, str | None):
            raise PairsError(f"The {name} of a mapping is {json_type(value)}; give the name of one column.")
        changes[name] = value if name in SEVERAL else value or ""
    if changes.get("ranked"):  # the answers come from that list
        changes = {"chosen": "", "rejected": ""} | changes
    return replace(guessed, **changes)


def check_mapping(mapping: ColumnMapping, columns: Iterable[str], guessed: ColumnMapping | None = None) -> None:
    """Raise PairsError where a mapping names a column that the source does not have.

    Args:
        mapping: What a person chose, completed by what is guessed.
        columns: Names of the columns.
        guessed: What was guessed; columns that a person named are checked first.
    """
    known = list(columns)
    unnamed = guessed.used() if guessed is not None else set()
    if mapping.ranked and not mapping.rank_by:
        raise PairsError(f"Nothing says how the answers in {mapping.ranked} are ordered; name it (mapping, --map rank_by=COLUMN).")
    for column in sorted(mapping.used(), key=lambda name: (name in unnamed, name)):
        if root(column, known) not in known:
            if column in unnamed and column in (mapping.chosen, mapping.rejected):
                raise PairsError(
                    f"No column is known to hold the {column} answer; name it (mapping, --map {column}=COLUMN). "
                    f"There are {listed(known) or 'none'}."
                )
            raise PairsError(
                f"The mapping names a column {column!r}, but there are {listed(known) or 'none'}.{did_you_mean(column, known)}"
            )


# Remembered mappings.


def remembered_mapping(home: Path, columns: Iterable[str]) -> ColumnMapping | None:
    """Return the mapping that was kept for these column names, or None."""
    entry = _remembered(home).get(_fingerprint(columns))
    try:
        return as_mapping(entry, ColumnMapping()) if isinstance(entry, dict) else None
    except PairsError:  # of another version of the lab
        return None


def remember_mapping(home: Path, columns: Iterable[str], mapping: ColumnMapping) -> None:
    """Keep a mapping for all sources with these column names. Raises PairsError where it cannot be written."""
    _write(home, _remembered(home) | {_fingerprint(columns): asdict(mapping)})


def _write(home: Path, content: dict[str, Any]) -> None:
    path = _file(home)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise PairsError(f"{path} could not be written ({error.strerror or error}); check the folder and the disk.") from None


def forget_mapping(home: Path, columns: Iterable[str]) -> bool:
    """Forget the mapping kept for these column names; return whether there was one. Raises PairsError as `remember_mapping`."""
    content = _remembered(home)
    if content.pop(_fingerprint(columns), None) is None:
        return False
    _write(home, content)
    return True


def _file(home: Path) -> Path:
    return home / "column-mappings.json"


def _remembered(home: Path) -> dict[str, Any]:
    try:
        content = json.loads(_file(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fingerprint(columns: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(sorted(columns)).encode()).hexdigest()[:16]
