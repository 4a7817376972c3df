"""Run the checks on a pair set, and write what they find."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import did_you_mean
from lab.pairs.pair import Pair, PairsError
from lab.progress import StageProgress

from . import answers, characters, languages, leaks, repeats, sides  # noqa: F401 - each registers its checks
from .finding import Finding
from .measured import MEASURED
from .registry import CHECKS, Corpus
from .texts import PairTexts

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [field.name for field in fields(Finding)]


def check(pairs: Iterable[Pair], held_out: Iterable[Pair] = (), names: Sequence[str] | None = None) -> pd.DataFrame:
    """Check pairs; returns one row per finding, with the fields of `Finding` as columns. Arguments are those of `findings`."""
    import pandas as pd

    return pd.DataFrame([finding.as_row() for finding in findings(pairs, held_out, names)], columns=COLUMNS)


def findings(
    pairs: Iterable[Pair],
    held_out: Iterable[Pair] = (),
    names: Sequence[str] | None = None,
    progress: StageProgress | None = None,
    imports: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Return what the checks find, check by check, in the order of the pairs.

    Args:
        pairs: The pair set.
        held_out: Pairs that must not be trained on, for the check "held_out_leak".
        names: Names of the checks to run; None for all of `CHECKS`.
        progress: Called as progress(title of the check, share done).
        imports: Number of the later import that added a pair, by its id (`PairStore.later_imports`): of two pairs that repeat each
            other, the one of the earlier import is then found.

    Raises:
        PairsError: There is no check of a name.
    """
    chosen = list(CHECKS) if names is None else list(names)
    for name in chosen:
        if name not in CHECKS:
            raise PairsError(f"There is no check {name!r}; choose from {', '.join(CHECKS)}.{did_you_mean(name, CHECKS)}")
    corpus = Corpus([PairTexts.of(pair) for pair in pairs], [PairTexts.of(pair) for pair in held_out], imports or {})
    findings: list[Finding] = []
    for number, name in enumerate(chosen):
        if progress is not None:
            progress(CHECKS[name].title, number / len(chosen))
        confidence = MEASURED[name].precision
        findings += (replace(finding, confidence=confidence) for finding in CHECKS[name].run(corpus))
    return findings


def write_findings(path: str | Path, findings: Iterable[Finding]) -> Path:
    """Write findings as JSON Lines (.jsonl) or CSV (.csv, safe to open in a spreadsheet).

    Raises:
        PairsError: The file name has another ending, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise PairsError(f"Findings are written as .jsonl or .csv; {path.name or path} is neither.")
    rows = [finding.as_row() for finding in findings]
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    except OSError as error:
        raise PairsError(f"The findings could not be written to {path} ({error.strerror}); check the folder.") from None
    return path


def _cell(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    if isinstance(value, dict):
        return json.dumps(value) if value else ""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value
