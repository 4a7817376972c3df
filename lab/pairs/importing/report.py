"""Report of an import: rows that were read, refused, counted and left unread."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field

from lab.pairs.pair import PairsError
from lab.pairs.update_report import UpdateReport

from .columns import ColumnMapping, as_mapping
from .values import MISSING_TEXTS

KEPT = "The columns are read by a mapping that was kept for files with these columns"
FORGET = "choose others with --map, or forget it with --forget-map"
LISTED = 10
"""Refused rows that an error message lists; the report has all."""
MOST_KEPT = 100_000
"""Refused rows that a report keeps with their reasons; further ones are counted."""


@dataclass(frozen=True)
class Refusal:
    """A row that is no pair: its number in the source, and why, in a sentence."""

    number: int
    reason: str


@dataclass
class ImportReport:
    """The result of reading a source.

    source:   Path, hub id or type of the source.
    unit:     What numbers of rows count: "line" or "row".
    format:   What was recognised: "CSV, separated by semicolons".
    mapping:  Which columns were read as what.
    columns:  Names of the columns of the first rows.
    read:     Number of pairs.
    refused:  Rows that are no pairs; at most 100,000 are listed, `refused_count` counts all.
    counts:   What was done to how many rows: "transcripts read as conversations".
    kept:     Columns that are not read but kept with the pairs -> number of rows.
    left_out: Columns with values that JSON cannot hold, which are not kept -> number of rows.
    kept_mapping: Whether the columns are read by a mapping that was kept for these names and differs from what is guessed.
    update:   What was done to a set that had been imported before; None for a new set.
    """

    source: str
    unit: str = "row"
    format: str = ""
    mapping: ColumnMapping = field(default_factory=ColumnMapping)
    columns: tuple[str, ...] = ()
    read: int = 0
    refused: list[Refusal] = field(default_factory=list)
    refused_count: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    kept_mapping: bool = False
    update: UpdateReport | None = None

    def to_json(self) -> str:
        """Return the report as JSON, without `update`."""
        refused = [asdict(each) for each in self.refused]
        return json.dumps(vars(self) | {"mapping": asdict(self.mapping), "refused": refused, "update": None})

    @classmethod
    def from_json(cls, text: str) -> ImportReport:
        """Return the report that `to_json` was given."""
        value = json.loads(text)
        value |= {name: Counter(value[name]) for name in ("counts", "kept", "left_out")}
        value |= {"mapping": as_mapping(value["mapping"], ColumnMapping()), "columns": tuple(value["columns"])}
        return cls(**value | {"refused": [Refusal(**each) for each in value["refused"]]})

    def refuse(self, number: int, reason: str) -> None:
        """Count a refused row."""
        self.refused_count += 1
        if len(self.refused) < MOST_KEPT:
            self.refused.append(Refusal(number, reason))

    def lines(self, imported: bool = True) -> list[str]:
        """Return the report as lines of text, without the refused rows. imported: False where nothing was stored."""
        done = "read" if imported else "could be read"
        rows = f"{self.read:,} pairs {done} from {self.source}" + (f" ({self.format})" if self.format else "")
        lines = [rows, *(f"  {line}" for line in self.mapping.lines())]
        if self.kept_mapping:
            lines.append(f"{KEPT} ({FORGET}).")
        lines += [f"{count:,} x {what}" for what, count in sorted(self.counts.items())]
        if self.kept:
            lines.append(f"Not read, but kept with the pairs: {', '.join(sorted(self.kept))}.")
        if self.left_out:
            lines.append(f"Left out, because the values are no JSON: {', '.join(sorted(self.left_out))}.")
        if self.refused_count:
            lines.append(f"{self.refused_count:,} {self.units(self.refused_count)} refused.")
        if self.update is not None:
            lines += [f"The set, since the last import: {self.update.summary()}.", *self.update.details()]
        return lines

    def refusals(self) -> list[str]:
        """Return one line for each refused row."""
        lines = [f"{self.unit} {each.number}: {each.reason}" for each in self.refused]
        more = self.refused_count - len(self.refused)
        return [*lines, f"{more:,} more {self.units(more)}"] if more else lines

    def warning(self) -> str:
        """Return what a person should know although the import went well, in a sentence; empty if there is nothing."""
        few = self.counts["prompts of only a few words taken from what both answers begin with"]
        parts = [f"{self.refused_count:,} {self.units(self.refused_count)} of {self.source} left out"] if self.refused_count else []
        if self.update is not None and self.update.changed():
            parts.append(f"{self.source} differs from its last import, so its set was updated: {self.update.summary()}")
        if self.kept_mapping:
            parts.append(f"{self.source}: {KEPT[0].lower()}{KEPT[1:]} ({', '.join(self.mapping.lines())}; {FORGET})")
        if few:
            parts.append(
                f"{few:,} of {self.read:,} prompts of {self.source} are the few words that both answers begin with, because no "
                "column holds a prompt: is that what is meant?"
            )
        if missing := self.counts[MISSING_TEXTS]:
            parts.append(f"{missing:,} {MISSING_TEXTS} in {self.source}: are these texts meant?")
        return "; ".join(parts)

    def units(self, count: int) -> str:
        """Return the unit in singular or plural."""
        return self.unit if count == 1 else f"{self.unit}s"


class RefusedRows(PairsError):
    """Rows of a source are no pairs; `report` has all of them."""

    def __init__(self, report: ImportReport) -> None:
        self.report = report
        super().__init__(_sentence(report))


def _sentence(report: ImportReport) -> str:
    listed = " ".join(
        f"{report.unit if not number else report.unit.capitalize()} {each.number}: {each.reason}"
        for number, each in enumerate(report.refused[:LISTED])
    )
    more = report.refused_count - min(LISTED, len(report.refused))
    others = f" ({more:,} more {report.units(more)} {'is' if more == 1 else 'are'} wrong.)" if more else ""
    offer = ' To read the other rows, leave these out with on_error="skip" (of a run: skip_bad_rows).'
    return f"{report.source}, {listed}{others}{offer if report.read else ''}"
