"""Read rows of JSON files: one object a line, a list, objects one after another, or rows under a key.

Everything is read as a stream: at most one row and a piece of the file are held. The standard decoder is used because it keeps lone
surrogates and numbers of any size, which streaming parsers replace or refuse.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.pairs.pair import PairsError

from .byte_source import BYTE_ORDER_MARK, CHUNK, ByteSource, open_bytes
from .limits import Limits

Rows = Iterator[tuple[int, Any]]
SPACE = re.compile(r"[ \t\r\n]*")
SPACE_AND_COMMAS = re.compile(r"[ \t\r\n,]*")
ROW_COLUMN = re.compile(r"chosen|rejected|preferred|prompt|messages|conversation|question|instruction", re.I)
"""Names by which an object is a row, and no container of rows."""


def json_layout(path: Path, limits: Limits) -> str:
    """Return how a file is laid out: "lines", "list", "objects" (one after another) or "key" (rows under a key)."""
    with open_bytes(path, limits) as source:
        first = next((line for _, line in source.lines() if isinstance(line, PairsError) or line.strip()), b"")
        more = any(isinstance(line, PairsError) or line.strip() for _, line in source.lines())
    if isinstance(first, PairsError):
        return _layout_of_long_line(path, limits)
    if first.lstrip().startswith(b"["):
        return "lines" if more and _complete(first) else "list"
    value = _complete(first)
    if isinstance(value, dict):
        return "key" if not more and _key_of_rows(value) else "lines"
    if not first.lstrip().startswith(b"{"):
        return "lines"
    try:
        with open_bytes(path, limits) as source:
            for kind, key, _ in _Stream(source, path, limits).members():
                if ROW_COLUMN.search(key):
                    break
                if kind == "rows":
                    return "key"
        with open_bytes(path, limits) as source:
            next(_Stream(source, path, limits).objects())
    except PairsError:
        return "lines"  # a broken first line: the others are read, and each is reported with its number
    return "objects"


def _layout_of_long_line(path: Path, limits: Limits) -> str:
    with open_bytes(path, limits) as source:
        head = source.read(CHUNK).removeprefix(BYTE_ORDER_MARK).lstrip()
    if head.startswith(b"["):
        return "list"
    return "key" if re.match(rb'\{\s*"[^"\\]*"\s*:\s*\[\s*\{', head) else "lines"


def _complete(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _key_of_rows(value: dict[str, Any]) -> bool:
    """Whether an object holds rows in a list, and is no row itself."""
    lists = [key for key, item in value.items() if isinstance(item, list) and item and all(isinstance(row, dict) for row in item)]
    return bool(lists) and not any(ROW_COLUMN.search(key) for key in value)


def json_rows(path: Path, layout: str, limits: Limits, key: str = "") -> Rows:
    """Read the rows of a JSON file, numbered by line ("lines", "objects") or from 1 ("list", or those under `key`).

    Broken lines become PairsErrors.
    """
    with open_bytes(path, limits) as source:
        if layout == "lines":
            for number, line in source.lines():
                if isinstance(line, PairsError):
                    yield number, line
                elif line.strip():
                    yield number, _parse_line(line)
            return
        stream = _Stream(source, path, limits)
        if layout == "list":
            yield from stream.top_list()
        elif layout == "objects":
            yield from stream.objects()
        else:
            for kind, name, rows in stream.members():
                if kind == "rows" and name == key:
                    yield from rows


def key_of_rows(path: Path, split: str, limits: Limits) -> str:
    """Return the key of a JSON file whose list of objects are the rows: that of the split, or the only one.

    Raises PairsError where there are several, or none of the split's name.
    """
    with open_bytes(path, limits) as source:
        keys = [key for kind, key, _ in _Stream(source, path, limits).members() if kind == "rows"]
    if split in keys:
        return split
    if len(keys) == 1 and split == "train":
        return keys[0]
    raise PairsError(f"{path} has rows under the keys {', '.join(keys)}, but none under {split!r}; say which with split.")


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises PairsError where a key stands twice, of which only one value would be read."""
    value = dict(items)
    if len(value) != len(items):
        keys = [key for key, _ in items]
        raise PairsError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice; keep one of the two.")
    return value


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line.rstrip().decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return PairsError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8.")
    except PairsError as error:
        return error
    except json.JSONDecodeError as error:
        return PairsError(f"this is not valid JSON ({error.msg} at column {error.colno}); write one JSON object a line.")
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits; thousands of nested brackets
        return PairsError(f"this JSON cannot be read ({error}); write one JSON object a line.")


@dataclass
class _Stream:
    """Text of a file, read on as values need it; everything before `at` is dropped between values."""

    source: ByteSource
    path: Path
    limits: Limits

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(object_pairs_hook=_object)
        self.text, self.at, self.line, self.ended, self._bytes = "", 0, 1, False, b""
        self._first = True

    def top_list(self) -> Rows:
        """Yield (number from 1, value) of a list that is the whole file."""
        self._expect("[")
        yield from self._items("]")
        self._end()

    def objects(self) -> Rows:
        """Yield (line where it begins, value) of values that follow one another."""
        while self._peek(SPACE_AND_COMMAS):
            line = self.line
            yield line, self._value()

    def members(self) -> Iterator[tuple[str, str, Rows]]:
        """Yield ("rows", key, rows) for each list of objects in the object that is the whole file; other values are passed over."""
        self._expect("{")
        while (character := self._peek(SPACE_AND_COMMAS)) != "}":
            if character != '"':
                raise self._error(f"a key or }} is missing before {character!r}" if character else "it ends early")
            key = str(self._value())
            self._expect(":")
            if self._peek() == "[" and self._begins_with_object():
                self._expect("[")
                rows = self._items("]")
                yield "rows", key, rows
                for _ in rows:  # what the reader left
                    pass
            else:
                self._value()
                yield "value", key, iter(())
        self.at += 1
        self._end()

    def _items(self, closing: str) -> Rows:
        number = 0
        while (character := self._peek()) != closing:
            if number:
                if character != ",":
                    raise self._error("a comma or ] is missing" if character else "the list has no end")
                self.at += 1
                if self._peek() == closing:
                    raise self._error("a value is missing after the comma")
            number += 1
            yield number, self._value()
        self.at += 1

    def _begins_with_object(self) -> bool:
        mark = self.at
        match = re.compile(r"\[\s*(\S)").match(self.text, mark)
        while match is None and self._more():
            match = re.compile(r"\[\s*(\S)").match(self.text, self.at)
        return match is not None and match.group(1) == "{"

    def _value(self) -> Any:
        """Decode the value at this place, reading on until it is complete."""
        self._peek()
        size = CHUNK
        while True:
            try:
                value, end = self._json.raw_decode(self.text, self.at)
                if isinstance(value, (dict, list, str)) or end < len(self.text) or not self._more(size):
                    self._advance(end)
                    return value
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > self.limits.row_bytes:
                    raise PairsError(f"{self.path}, line {self.line}: {self.limits.row_too_long()}") from None
                if not self._more(size):
                    self._advance(error.pos)
                    column = error.pos - (self.text.rfind("\n", 0, error.pos) + 1) + 1
                    raise self._error(f"{error.msg} at column {column}") from None
            except PairsError as error:
                raise PairsError(f"{self.path}, line {self.line}: {error}") from None
            except (ValueError, RecursionError) as error:
                raise PairsError(f"{self.path}, line {self.line}: this JSON cannot be read ({error}).") from None
            size *= 2

    def _advance(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end
        if self.at > CHUNK:
            keep = self.text.rfind("\n", 0, self.at) + 1 if self.at - self.text.rfind("\n", 0, self.at) < CHUNK else self.at
            self.text, self.at = self.text[keep:], self.at - keep

    def _peek(self, skip: re.Pattern[str] = SPACE) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            match = skip.match(self.text, self.at)
            assert match is not None
            self._advance(match.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self._error(f"{character} is missing")
        self.at += 1

    def _end(self) -> None:
        if character := self._peek():
            raise self._error(f"there is more after the end, from {character!r} on")

    def _more(self, size: int = CHUNK) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        data = self.source.read(size)
        if self._first:
            data, self._first = data.removeprefix(BYTE_ORDER_MARK), False
        try:
            self.text += self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            before = self.text + error.object[: error.start].decode("utf-8")
            line, byte = self.line + before.count("\n", self.at), len(before.rpartition("\n")[2].encode()) + 1
            raise PairsError(f"{self.path}, line {line}: byte {byte} is not UTF-8; save the file as UTF-8.") from None
        self.ended = not data
        return bool(data)

    def _error(self, problem: str) -> PairsError:
        return PairsError(f"{self.path}, line {self.line}: this is not valid JSON ({problem}).")
