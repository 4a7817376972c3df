"""Descriptions of runs, objectives and recorded numbers. Text from data is escaped with `plain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from app.text.plain import plain
from lab.glossary import lesson_of
from lab.pairs import Pair
from lab.plots import entry
from lab.run.pair_versions import CURRENT, FOLLOW

Colour = Literal["gray", "green", "orange", "blue", "red"]

STATES: dict[str, tuple[str, Colour, str]] = {
    "queued": ("Preparing", "gray", "hourglass_top"),
    "running": ("Training", "green", "play_arrow"),
    "paused": ("Paused", "orange", "pause"),
    "finished": ("Finished", "blue", "check"),
    "stopped": ("Stopped", "gray", "stop"),
    "failed": ("Failed", "red", "error"),
    "crashed": ("Crashed", "red", "heart_broken"),
}
"""Label, colour and icon of each state of a run."""


def duration(seconds: float) -> str:
    """Format a duration in at most two units: "45 s", "2 min 10 s", "1 h 5 min"."""
    left = round(max(0.0, seconds))
    units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
    for position, (name, size) in enumerate(units):
        if left >= size:
            text = f"{left // size} {name}"
            rest = left % size
            if position + 1 < len(units) and rest // units[position + 1][1]:
                text += f" {rest // units[position + 1][1]} {units[position + 1][0]}"
            return text
    return "0 s"


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun: "1 run", "1,000 runs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


SPELLINGS = {"simpo": "SimPO", "discopop": "DiscoPOP", "cal": "Cal"}
"""Parts of objectives' names whose small letters matter."""


def objective_name(name: str) -> str:
    """Return an objective's name as papers write it: SGDPO for "sgdpo", alpha-DPO for "alpha_dpo"."""
    parts = name.split("_")
    upper = [part.upper() if len(part) <= 3 or part.endswith(("po", "dpop")) else part for part in parts]
    return "-".join(SPELLINGS.get(part, word) for part, word in zip(parts, upper))


def parameters(spec: Mapping[str, Any]) -> str:
    """Format an objective and its parameters on one line: "sgdpo: beta 0.1, r1 0.6"."""
    given = {key: value for key, value in spec.items() if key != "name"}
    listed = [
        f"{key} ({parameters(value)})" if isinstance(value, Mapping) else f"{key} {_short(value)}" for key, value in given.items()
    ]
    return f"{spec['name']}: {', '.join(listed)}" if listed else str(spec["name"])


def _short(value: Any) -> str:
    if isinstance(value, Mapping):  # SPO's base objective
        return f"({parameters(value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def preparing(status: Mapping[str, Any]) -> str:
    """Describe a run's stage before its first step, with its progress."""
    stage = str(status.get("stage") or "waiting in the queue")
    share, remaining = status.get("stage_share"), status.get("stage_remaining")
    message = stage[0].upper() + stage[1:]
    if share is not None:
        message += f": {share:.0%}"
    if remaining:
        message += f", about {duration(remaining)} left"
    return message


GLOSSARY_LINK = "[Glossary](guide?chapter=glossary)"
"""Link in help texts, which are Markdown."""


def meaning(name: str) -> str:
    """Return symbol, unit, meaning and lesson of a scalar or term, with a link to the glossary, as Markdown for a help text."""
    return f"{_sentence(name)} {GLOSSARY_LINK}"


def _sentence(name: str) -> str:
    known, lesson = entry(name), lesson_of(name)
    unit = f" [{known.unit}]" if known.unit else ""
    return plain(f"{known.symbol}{unit}: {known.meaning}") + (f" See {lesson.label}." if lesson else "")


def meanings(names: Mapping[str, str]) -> str:
    """Return the meanings of several scalars as a Markdown list. names: their titles by name."""
    return "\n".join([*(f"- **{plain(title)}** {_sentence(name)}" for name, title in names.items()), f"- {GLOSSARY_LINK}"])


def meanings_in_halves(names: Sequence[str]) -> tuple[str, str]:
    """Return the numbered meanings of a table's rows in two halves, for the help texts of its first two columns."""
    lines = [f"{row}. {_sentence(name)}" for row, name in enumerate(names, 1)]
    half = -(-len(lines) // 2)
    return "\n".join(lines[:half]), "\n".join([*lines[half:], "", GLOSSARY_LINK])


def pair_annotations(pair: Pair) -> list[str]:
    """Describe the weight of a pair where it is not 1, and its degree where it has one: ["weight 2", "degree 0.67"]."""
    weight = [] if pair.weight == 1 else [f"weight {pair.weight:g}"]
    return weight if pair.degree is None else [*weight, f"degree {pair.degree:.2g}"]


def taking_edits(setting: str, *, paused: bool) -> str:
    """Return when a live run trains on saved edits of its pairs, to be put behind the run's name.

    Args:
        setting: The run's setting `pairs_version`.
        paused: Whether the run is paused.
    """
    if setting == FOLLOW:
        when = "once it is resumed" if paused else "between two of its next steps"
        return f"follows its pairs and takes saved edits {when}."
    if setting == CURRENT:
        return "takes saved edits when asked: under Take edits on Live, or on Inspect, What if."
    return f"is set to version {setting} of its pairs and takes no edits."


def edit_sentences(edits: pd.DataFrame) -> list[str]:
    """Describe what each edit of a pair did to it, from `lab.plots.edits_of`: margin, or else loss, before and after."""
    sentences = []
    for edit in edits.to_dict("records"):
        numbers = [
            f"{term} {edit[f'{term}_before']:.3g} before, {edit[f'{term}_after']:.3g} after"
            for term in ("margin", "loss")
            if pd.notna(edit.get(f"{term}_after"))
        ]
        sentences.append(
            f"Version {edit['version']:,} of the pair since step {edit['step_after']:,}, the one before until step "
            f"{edit['step_before']:,}: {' and '.join(numbers) or 'no numbers recorded'}."
        )
    return sentences
