"""The guided stories of the Learn page, read from `app/guide/stories/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "guide" / "stories"

STEPS, CHOICES = (4, 6), (2, 4)
"""Smallest and largest number of steps in a story, and of choices in a step."""

STATE = (
    *("A", "B", "C", "log_x1", "log_x2", "tokens", "ref", "seed", "statistics", "batch"),
    *("point", "quantity", "rate", "view", "along", "text", "degrees"),
)
"""Address parameters of the page that a step may set. Those it leaves out have the page's defaults."""

_STORY = {"id": str, "title": str, "summary": str, "lesson": int, "step": list}
_STEP = {"title": str, "look": str, "question": str, "choices": list, "answer": int, "because": str, "state": dict}
_KIND = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class Step:
    """One step of a story: a state of the page and a question about it.

    Attributes:
        title: Heading.
        look: What to look at.
        question: A question that an experiment on the page answers.
        choices: Two to four answers, of which one is right.
        answer: Index of the right choice, from 0.
        because: Explanation, shown after a guess, right or wrong.
        state: Address parameters of the page, by name.
    """

    title: str
    look: str
    question: str
    choices: tuple[str, ...]
    answer: int
    because: str
    state: Mapping[str, str]


@dataclass(frozen=True)
class Story:
    """A sequence of four to six steps about one idea.

    Attributes:
        id: Name in the address.
        title: Heading.
        summary: One sentence for the list of stories.
        lesson: Number of the notebook on the same subject.
        steps: The steps in order.
    """

    id: str
    title: str
    summary: str
    lesson: int
    steps: tuple[Step, ...]


@cache
def load_stories() -> tuple[Story, ...]:
    """Read the stories of the package in the order of their file names. Raises ValueError for a malformed file."""
    return read_folder(FOLDER)


def read_folder(folder: Path) -> tuple[Story, ...]:
    """Read every `*.toml` of a folder as a story.

    Raises:
        ValueError: A file is malformed, or two files have the same id.
    """
    stories: dict[str, Story] = {}
    for path in sorted(folder.glob("*.toml")):
        story = read_story(path)
        if story.id in stories:
            raise ValueError(f"{path.name}: another story has the id {story.id!r} as well; choose a different one.")
        stories[story.id] = story
    return tuple(stories.values())


def read_story(path: Path) -> Story:
    """Read one story. Raises ValueError with one sentence: the file, the step and what to correct."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not valid TOML ({error}); correct it.") from error
    _check_keys(path.name, content, _STORY)
    steps = content.pop("step")
    _check_count(path.name, "steps", steps, STEPS)
    return Story(**content, steps=tuple(_step(f"{path.name}, step {number}", step) for number, step in enumerate(steps, 1)))


def _step(place: str, content: Any) -> Step:
    if not isinstance(content, dict):
        raise ValueError(f"{place} is not a table; write it below [[step]].")
    _check_keys(place, content, _STEP)
    choices, state = content["choices"], content["state"]
    _check_count(place, "choices", choices, CHOICES)
    if not all(isinstance(choice, str) and choice for choice in choices) or len(set(choices)) < len(choices):
        raise ValueError(f"{place}: choices must be different texts that are not empty.")
    if not 0 <= content["answer"] < len(choices):
        raise ValueError(f"{place}: answer = {content['answer']}; give the index of a choice, from 0 to {len(choices) - 1}.")
    for name, value in state.items():
        if name not in STATE:
            raise ValueError(f"{place}: state has {name!r}, which is no parameter of the page; use {', '.join(STATE)}.")
        if not isinstance(value, str):
            raise ValueError(f"{place}: state has {name} = {value!r}; write it as a text, as in the page's address.")
    if "A" not in state:
        raise ValueError(f"{place}: state has no objective A; name one.")
    return Step(**content | {"choices": tuple(choices), "state": dict(state)})


def _check_keys(place: str, content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    if unknown := sorted(content.keys() - kinds.keys()):
        raise ValueError(f"{place} has the unknown key {unknown[0]!r}; use {', '.join(kinds)}.")
    for key, kind in kinds.items():
        if key not in content:
            raise ValueError(f"{place} has no {key}; add it.")
        value = content[key]
        if type(value) is not kind or (isinstance(value, str) and not value.strip()):
            raise ValueError(
                f"{place}: {key} = {value!r} is not {_KIND[kind]}{' with content' if kind is str else ''}; correct it."
            )


def _check_count(place: str, name: str, items: list[Any], limits: tuple[int, int]) -> None:
    low, high = limits
    if not low <= len(items) <= high:
        raise ValueError(f"{place} has {len(items)} {name}; give {low} to {high}.")
