"""Read rows of CSV files with any of the usual delimiters."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from lab.pairs.pair import PairsError

from .byte_source import open_bytes
from .columnar import check_names
from .json_files import Rows
from .limits import Limits

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
SEPARATOR_LINE = re.compile(rb"""["']?sep=(.)["']?\s*""")
"""First line by which Excel names the delimiter."""
KNOWN = ("prompt", "chosen", "rejected", "question", "instruction", "input", "system")


def csv_delimiter(path: Path, limits: Limits) -> str:
    """Return the delimiter of a file: the one that splits its first row into the most known column names, else the most columns."""
    with open_bytes(path, limits) as source:
        header = next((line for _, line in source.lines() if isinstance(line, PairsError) or line.strip()), b"")
    if isinstance(header, PairsError):
        return ","
    if named := SEPARATOR_LINE.fullmatch(header):
        return named[1].decode("utf-8", "replace")
    text = header.decode("utf-8", "replace")

    def score(delimiter: str) -> tuple[int, int]:
        try:
            cells = [cell.strip().lower() for cell in next(csv.reader([text], delimiter=delimiter), [])]
        except csv.Error:
            return 0, 0
        return sum(cell in KNOWN for cell in cells), len(cells)

    return max(DELIMITERS, key=score)


def csv_rows(path: Path, delimiter: str, limits: Limits) -> Rows:
    """Read rows by column name, numbered by the line on which a row ends; every cell is text, an empty one too."""
    csv.field_size_limit(limits.row_bytes)  # of the whole process; the module's default is too low for long answers
    with open_bytes(path, limits) as source:

        def lines() -> Iterator[str]:
            for number, line in source.lines():
                if isinstance(line, PairsError):
                    raise PairsError(f"{path}, line {number}: {line}")
                if number == 1 and SEPARATOR_LINE.fullmatch(line):
                    yield "\n"
                    continue
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    message = f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8."
                    raise PairsError(message) from None

        text = lines()
        try:
            head = list(_to_first_row(text))
            spaced = bool(head) and all(name.startswith(" ") for name in head[-1].split(delimiter)[1:])  # prompt, chosen, rejected
            reader = csv.reader(chain(head, text), delimiter=delimiter, strict=True, skipinitialspace=spaced)
            header = next((cells for cells in reader if cells), None)
            if header is None:
                raise PairsError(f"{path} is empty; it must contain a line of column names and at least one pair.")
            check_names(header, str(path))
            for cells in reader:
                if len(cells) == len(header):
                    yield reader.line_num, dict(zip(header, cells))
                elif cells:
                    hint = (
                        f"a delimiter ({DELIMITERS.get(delimiter, delimiter)}) is missing; an empty cell needs its own"
                        if len(cells) < len(header)
                        else "put quotes around cells with delimiters"
                    )
                    problem = f"there are {len(cells)} cells but {len(header)} columns; {hint}."
                    yield reader.line_num, PairsError(problem)
        except csv.Error as error:
            place = f"{path}, line {reader.line_num}"
            if "new-line character" in str(error):
                raise PairsError(f"{place}: a line ends with a carriage return alone; save it with line feeds (LF).") from None
            raise PairsError(f"{place}: this is not valid CSV ({error}); check the quotes.") from None


def _to_first_row(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines up to the first that is not blank."""
    for line in lines:
        yield line
        if line.strip():
            return
