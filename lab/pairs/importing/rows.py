"""Convert one row of a source to a pair."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lab.pairs.pair import FIELDS, Answer, Message, Pair, PairsError, Prompt, content_id, is_id, json_type, validate

from .answers.choices import check_choices
from .answers.paths import is_given, listed, normal, root, value_at
from .answers.ranking import ranked_rows
from .answers.winners import second_is_better
from .beginnings import MARKER, begin_alike, is_short, split_beginning
from .columns import OWN, PAIR_ID, ColumnMapping, guess_mapping
from .limits import check_depth
from .messages import (
    as_python,
    begins,
    has_calls,
    last_text,
    parsed_list,
    plain_answer,
    to_messages,
    to_tools,
    transcript,
    without_lists,
    without_nulls,
    written_conversation,
)
from .values import MISSING_TEXTS, as_degree, as_note, as_number, as_plain, as_tags, as_weight, degree_of, missing_words

LONGEST_LABEL = 40
"""Characters of an answer up to which it is compared with the names of columns."""
ESCAPE = "'"
"""Put before a cell of an exported CSV that a spreadsheet, or this importer, would read as something else than text."""
OWN_VALUES = {"weight": as_weight, "degree": as_degree, "tags": as_tags, "note": as_note}
EXPORTED = ColumnMapping(prompt=("prompt",), tools="tools")
"""Mapping of rows that `write_pairs` has written."""
REPEATED_WORDS = 3
"""Words of a prompt from which on it is taken off answers that both repeat it."""


@dataclass
class RowReader:
    """Converts rows to pairs, and counts what was noteworthy.

    mapping: Which columns are read; None guesses for each row.
    as_text: Whether every value is text (CSV).
    fills_nulls: Whether missing keys come as null at any depth (Parquet).
    counts: What was done to how many rows, in words.
    kept: Columns that are not read, but kept with the pairs -> number of rows.
    left_out: Columns with values that cannot be kept -> number of rows.
    """

    mapping: ColumnMapping | None = None
    as_text: bool = False
    fills_nulls: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def pairs(self, row: Any) -> list[Pair]:
        """Convert one row to its pairs: one, or of a list of ranked answers as many as the mapping's `pairing` gives."""
        mapping = self.mapping
        if mapping is None or not mapping.ranked or not isinstance(row, Mapping) or is_exported(row):
            return [self(row)]
        rows = ranked_rows(row, mapping.ranked, mapping.rank_by, mapping.pairing, self.counts)
        reader = replace(self, mapping=mapping.of_ranked("score_chosen" in rows[0]))
        return [reader(each) for each in rows]

    def __call__(self, row: Any) -> Pair:
        """Convert one row (or pair) to a pair of version 1. Raises PairsError in a sentence that does not name the row's place."""
        if isinstance(row, Pair):
            return _again(row)
        if not isinstance(row, Mapping):
            raise PairsError(f"this is {json_type(row)}; give an object with prompt, chosen and rejected.")
        for value in row.values():
            check_depth(value)
        row = {str(key): value for key, value in row.items()}
        exported = is_exported(row)
        if exported and self.as_text:
            row = {key.removeprefix(ESCAPE): value for key, value in row.items()}
        mapping = EXPORTED if exported else self.mapping or _guessed(row)
        if mapping.ranked:
            return replace(self, mapping=mapping).pairs(row)[0]
        if mapping.winner and second_is_better(row, (mapping.chosen, mapping.rejected), mapping.winner):
            mapping = mapping.exchanged()
        read = _Row(self, row, mapping, exported)
        prompt, chosen, rejected, tools = read.texts()
        validate(prompt, chosen, rejected, tools)
        if missing := missing_words((prompt, chosen, rejected)):
            self.counts[MISSING_TEXTS] += missing
        own = read.own()
        if "degree" not in own and (degree := read.degree()) is not None:
            own["degree"] = degree
        id = row[PAIR_ID] if exported else content_id(prompt, chosen, rejected, tools)
        return Pair(id, prompt, chosen, rejected, meta=read.meta(set(own)), tools=tools, **own)


def is_exported(row: Mapping[str, Any]) -> bool:
    """Whether this lab has written a row, so that its texts are what they are."""
    return is_id(row.get(PAIR_ID)) and all(row.get(name) is not None for name in FIELDS)


def _guessed(row: Mapping[str, Any]) -> ColumnMapping:
    mapping = guess_mapping(list(row), [row])
    check_choices(mapping, [row])
    return mapping


def _again(pair: Pair) -> Pair:
    validate(*pair.content, pair.tools)
    id = content_id(*pair.content, pair.tools)
    return Pair(id, *pair.content, 1, False, pair.meta, pair.tools, pair.weight, pair.degree, pair.tags, pair.note)


@dataclass
class _Row:
    """One row with what it takes to read it."""

    reader: RowReader
    row: dict[str, Any]
    mapping: ColumnMapping
    exported: bool

    def texts(self) -> tuple[Prompt, Answer, Answer, list[dict[str, Any]] | None]:
        """Return (prompt, chosen, rejected, tools)."""
        sides = [
            self._side(name, column) for name, column in (("chosen", self.mapping.chosen), ("rejected", self.mapping.rejected))
        ]
        chosen, rejected = sides
        prompt, tools = self._prompt()
        if not self.exported and self.mapping.layout != "text":
            prompt, chosen, rejected = without_lists(prompt, chosen, rejected, self.reader.counts)
        if type(chosen) is not type(rejected):
            raise PairsError(f"chosen is {json_type(chosen)} but rejected is {json_type(rejected)}; give both in the same form.")
        count = self.reader.counts
        if isinstance(chosen, list):
            chosen, rejected = (to_messages(side, name) for side, name in ((chosen, "chosen"), (rejected, "rejected")))
        if isinstance(prompt, list):
            prompt = to_messages(prompt, "prompt")
        if isinstance(chosen, str) and not self.exported and self.mapping.layout != "text" and not _repeated(prompt, chosen):
            turns = transcript(chosen), transcript(rejected)
            if all(turns):
                count["transcripts read as conversations"] += 1
                chosen, rejected = turns
        if isinstance(prompt, str) and isinstance(chosen, list):
            prompt = self._beside_messages(prompt, chosen)
        if prompt is None:
            prompt, chosen, rejected = self._from_beginning(chosen, rejected)
        elif not self.exported:
            prompt, chosen, rejected = self._without_repetition(prompt, chosen, rejected)
        chosen, rejected = plain_answer(chosen), plain_answer(rejected)
        tools = tools or self._tools()
        prompt = self._with_system(self._with_history(prompt))
        if isinstance(prompt, str) and (self.mapping.layout == "conversation" or tools):
            count["text prompts made a user's turn"] += 1
            prompt = [{"role": "user", "content": prompt}]
        return prompt, chosen, rejected, tools

    def _side(self, name: str, column: str) -> Any:
        value = self._value(column, name)
        if value is None:
            fields = listed([key for key, other in self.row.items() if other is not None]) or "nothing"
            known = "give prompt, chosen and rejected, or say which columns hold them (mapping, --map chosen=COLUMN)"
            raise PairsError(f"the field {column or name!r} is missing (found: {fields}); {known}.")
        if isinstance(value, str) and not self.exported and (named := self._named_columns(value.strip())):
            raise PairsError(
                f"{name} is {value.strip()!a}, which seems to name the column {' or '.join(named)}; give the text of that column, "
                'or choose the layout "text" (--map layout=text) if this is the answer.'
            )
        return [value] if isinstance(value, dict) else value

    def _named_columns(self, label: str) -> list[str]:
        """Columns that an answer names in place of its text: response_a for "A", or a column's whole name."""
        if not label or len(label) > LONGEST_LABEL or self.mapping.layout == "text":
            return []
        label = normal(label)
        endings = tuple(f"{stem}_{label}" for stem in ("response", "answer", "output", "completion", "text", "model"))
        return [key for key in self.row if normal(key) in (label, *endings) and key not in self.mapping.used()]

    def _value(self, column: str, name: str) -> Any:
        """The value of a column as Python lists and dicts, with conversations that were written as text parsed."""
        value = as_python(value_at(self.row, column))
        if isinstance(value, float) and math.isnan(value):
            return None
        if self.reader.fills_nulls and not (self.exported and (name == "tools" or has_calls(value))):  # these were JSON
            value = without_nulls(value)
        if isinstance(value, str):
            if self.exported and self.reader.as_text:
                return value[1:] if value.startswith(ESCAPE) else written_conversation(value, name)
            if not self.exported and self.mapping.layout != "text":
                parsed = written_conversation(value, name)
                if parsed is not value:
                    self.reader.counts["conversations written as text parsed"] += 1
                return parsed
        return value

    def _prompt(self) -> tuple[Any, list[dict[str, Any]] | None]:
        """The prompt as it stands in its columns (None: nowhere), and tools that stand in it."""
        values = [self._value(column, "prompt") for column in self.mapping.prompt]
        values = [value for value in values if value is not None and (len(self.mapping.prompt) == 1 or value not in ("", []))]
        if not values:
            return None, None
        if all(isinstance(value, str) for value in values):
            return "\n".join(values), None
        if len(values) > 1:
            raise PairsError(f"the prompt's columns {' and '.join(self.mapping.prompt)} hold more than text; map only one of them.")
        value = values[0]
        if isinstance(value, dict) and isinstance(value.get("messages"), list):  # OpenAI's preference format
            return value["messages"], to_tools(value.get("tools"))
        return ([value] if isinstance(value, dict) else value), None

    def _beside_messages(self, prompt: str, chosen: list[Message]) -> Prompt | None:
        """A text prompt beside answers in messages: a user's turn; None where the messages contain the prompt."""
        first = chosen[0] if chosen and isinstance(chosen[0], dict) else {}
        if first.get("role", "assistant") == "assistant" or not chosen:
            self.reader.counts["text prompts made a user's turn"] += 1
            return [{"role": "user", "content": prompt}]
        if not any(isinstance(m, dict) and prompt.strip() and prompt.strip() in str(m.get("content")) for m in chosen):
            self.reader.counts[f"prompts read from the conversations, which differ from the column {self.mapping.prompt[0]}"] += 1
        return None

    def _from_beginning(self, chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
        count: Counter[str] = Counter()
        marked = isinstance(chosen, str) and MARKER.search(chosen)
        prompt, chosen, rejected = split_beginning(chosen, rejected, count)
        if self.mapping.prompt and isinstance(prompt, str) and not marked:
            raise PairsError(f"there is no prompt in {' + '.join(self.mapping.prompt)}; give one, or leave the pair out.")
        if isinstance(prompt, list):
            if begin_alike(*(plain_answer(side) for side in (chosen, rejected))):
                count["answers begin alike"] += 1
            count["prompts read from what both conversations begin with"] += 1
        elif is_short(prompt):
            if others := self._possible_prompts():
                raise PairsError(
                    f"there is no prompt column: the answers begin with {prompt.strip()[:40]!a}, which is too short to be one, and "
                    f"{listed(others)} would not be read; say which column is the prompt (mapping, --map prompt={others[0]})."
                )
            count["prompts of only a few words taken from what both answers begin with"] += 1
        else:
            count["prompts taken from what both answers begin with"] += 1
        self.reader.counts.update(count)
        return prompt, chosen, rejected

    def _possible_prompts(self) -> list[str]:
        """Columns that are not read, but hold text of some words or a list."""
        others = {key: value for key, value in self.row.items() if key not in self.mapping.used() | set(OWN.values())}
        return [
            key
            for key, value in others.items()
            if (isinstance(value, str) and len(value.split()) >= 3) or (value and isinstance(value, list))
        ]

    def _without_repetition(self, prompt: Any, chosen: Any, rejected: Any) -> tuple[Any, Any, Any]:
        """Take the prompt off answers that repeat it, and the answer off a prompt that ends with it."""
        count = self.reader.counts
        if isinstance(prompt, list) and len(prompt) > 1 and not (begins(chosen, prompt) and begins(rejected, prompt)):
            last = prompt[-1].get("content") if isinstance(prompt[-1], dict) and prompt[-1].get("role") == "assistant" else None
            if last and last in (last_text(chosen), last_text(rejected)):
                count["answers taken off the end of the prompt"] += 1
                prompt = prompt[:-1]
        if isinstance(prompt, list) and isinstance(chosen, list):
            chosen, rejected = (side[len(prompt) :] if begins(side, prompt) else side for side in (chosen, rejected))
        elif isinstance(prompt, str) and isinstance(chosen, str) and len(prompt.split()) >= REPEATED_WORDS:
            rest = [side.removeprefix(prompt) for side in (chosen, rejected)]
            if chosen.startswith(prompt) and rejected.startswith(prompt) and all(side.strip() for side in rest):
                count["prompts taken off answers that repeat them"] += 1
                chosen, rejected = rest
        return prompt, chosen, rejected

    def _tools(self) -> list[dict[str, Any]] | None:
        value = self._value(self.mapping.tools, "tools") if self.mapping.tools else None
        tools = to_tools(value)
        if tools:
            self.reader.counts["tools read"] += 1
        return tools

    def _with_history(self, prompt: Prompt) -> Prompt:
        """Put earlier turns, given as pairs of a question and its answer, before the prompt."""
        column = self.mapping.history
        value = as_python(self.row.get(column)) if column else None
        if isinstance(value, str):
            value = parsed_list(value, column)
        if not is_given(value) or value != value:
            return prompt
        if not isinstance(value, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in value):
            raise PairsError(f"{column} is no list of [question, answer]; write the earlier turns like that, or leave them out.")
        self.reader.counts["earlier turns read"] += 1
        earlier = [{"role": role, "content": text} for turn in value for role, text in zip(("user", "assistant"), turn)]
        return [*earlier, *(prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}])]

    def _with_system(self, prompt: Prompt) -> Prompt:
        system = self.row.get(self.mapping.system) if self.mapping.system else None
        if not isinstance(system, str) or not system.strip():
            if system not in (None, "") and not (isinstance(system, float) and math.isnan(system)):
                if isinstance(system, str):  # white space alone
                    return prompt
                raise PairsError(f"{self.mapping.system} is {json_type(system)}; give the system message as text.")
            return prompt
        if isinstance(prompt, str):
            self.reader.counts["system messages read"] += 1
            if self.mapping.layout == "text":
                return f"{system}\n\n{prompt}"
            return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        first = prompt[0] if prompt and isinstance(prompt[0], dict) else {}
        if first.get("role") not in ("system", "developer"):
            self.reader.counts["system messages read"] += 1
            return [{"role": "system", "content": system}, *prompt]
        if first.get("content") != system:
            raise PairsError(f"{self.mapping.system} differs from the conversation's own system message; leave one of them out.")
        return prompt

    # What is no text.

    def own(self) -> dict[str, Any]:
        """Return the pair's own fields that the row has in a form that can be used."""
        own: dict[str, Any] = {}
        for name, column in OWN.items():
            value = as_python(self.row[column]) if column in self.row else None
            if isinstance(value, str) and self.reader.as_text:
                value = self._cell(value) if name != "note" else value.removeprefix(ESCAPE)
            if value in (None, "", []) or column in self.mapping.used():
                continue
            checked = OWN_VALUES[name](value)
            if checked is not None:
                own[name] = checked
                self.reader.counts[f"{name} read"] += 1
            elif column in (name, OWN["tags"]):
                self.reader.counts[f"values of {column} that are no {name} and only kept"] += 1
        return own

    def degree(self) -> float | None:
        """Return the preference degree that the scores give, or None."""
        mapping, count = self.mapping, self.reader.counts
        if mapping.margin:
            difference = as_number(value_at(self.row, mapping.margin))
        elif mapping.score_chosen and mapping.score_rejected:
            one, other = (as_number(value_at(self.row, name)) for name in (mapping.score_chosen, mapping.score_rejected))
            difference = None if one is None or other is None else one - other
        else:
            return None
        if difference is None:
            count["rows without usable scores"] += 1
        elif difference <= 0:
            count["scores that do not prefer the chosen answer (no degree)" if difference < 0 else "equal scores (no degree)"] += 1
        else:
            count["degrees from scores"] += 1
            return degree_of(difference)
        return None

    def meta(self, own: set[str]) -> dict[str, Any]:
        """Return the columns that are not read, as JSON values: null, NaN and infinity count as absent."""
        scores = {self.mapping.score_chosen, self.mapping.score_rejected, self.mapping.margin, *self.mapping.winner}
        read = (
            {root(column, self.row) for column in self.mapping.used() - scores}
            | {OWN[name] for name in own}
            | ({PAIR_ID} if self.exported else set())
        )
        meta = {}
        for key, value in self.row.items():
            if key in read:
                continue
            value = self._cell(value)
            plain = as_plain(value)
            if plain is not None:
                meta[key] = plain
                if key not in scores:
                    self.reader.kept[key] += 1
            elif value is not None and not isinstance(value, float):
                self.reader.left_out[key] += 1
        return meta

    def _cell(self, value: Any) -> Any:
        """A cell of CSV as the number, list or object that it is; other values unchanged."""
        if not self.reader.as_text or not isinstance(value, str):
            return value
        if self.exported and value.startswith(ESCAPE):
            return value[1:]
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value or None
        containers = (list, dict) if self.exported else ()
        if self.exported and isinstance(parsed, bool):
            return parsed
        finite = type(parsed) is int or (type(parsed) is float and math.isfinite(parsed))
        return parsed if finite or isinstance(parsed, containers) else value


def _repeated(prompt: Any, chosen: str) -> bool:
    """Whether a prompt makes a transcript in the answer a text: where it is no text itself, or the answer repeats it."""
    return prompt is not None and (not isinstance(prompt, str) or not prompt.strip() or chosen.startswith(prompt))
