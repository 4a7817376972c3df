"""Labels that people give a run: a name, tags, a note, and whether it is archived. They are kept in a small file in its folder.

The folder's name stays: twins, branches, queues and addresses refer to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import home
from lab.store.durable import disk_errors_as_run_errors, write_json
from lab.store.folder import RUN_FILE, RunError

FILE_NAME = "labels.json"
LONGEST_NAME = 200
LONGEST_TAG = 50
LONGEST_NOTE = 20_000


@dataclass(frozen=True)
class LabelChange:
    """The latest change of a label.

    Attributes:
        author: Who changed it.
        time: When, ISO 8601 with the time zone.
    """

    author: str
    time: str


@dataclass(frozen=True)
class RunLabels:
    """Labels of a run.

    Attributes:
        name: The name that it was given after it was made; "" for none.
        tags: Tags, sorted.
        note: A note.
        archived: Whether lists leave it out.
        changes: The latest change of each label, by the label's name.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False
    changes: Mapping[str, LabelChange] = field(default_factory=dict)


def read_labels(folder: Path) -> RunLabels:
    """Return the labels of the run in a folder. Raises RunError if their file is damaged."""
    file = folder / FILE_NAME
    try:
        return parse_labels(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return RunLabels()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error}); delete the file to open the run without its name, tags and note.") from None


def parse_labels(content: Mapping[str, Any]) -> RunLabels:
    """Return labels from the JSON of `asdict(labels)`. Raises KeyError, TypeError or AttributeError for other content."""
    changes = {str(label): LabelChange(str(each["author"]), str(each["time"])) for label, each in content["changes"].items()}
    tags = tuple(str(tag) for tag in content["tags"])
    return RunLabels(str(content["name"]), tags, str(content["note"]), bool(content["archived"]), changes)


def rename(folder: Path, name: str, *, author: str | None = None) -> RunLabels:
    """Give the run in a folder another name; "" returns to the one that it was made with. The folder's name stays.

    Raises RunError if the name is too long, or the file cannot be written.
    """
    tidy = " ".join(name.split())
    if len(tidy) > LONGEST_NAME:
        raise RunError(f"A run's name has at most {LONGEST_NAME} characters, and this one has {len(tidy):,}; shorten it.")
    return _change(folder, author, lambda labels: replace(labels, name=tidy))


def add_tags(folder: Path, tags: Iterable[str], *, author: str | None = None) -> RunLabels:
    """Add tags to the run in a folder. Raises RunError if a tag is empty or too long, or the file cannot be written."""
    added = {_tag(tag) for tag in _each(tags)}
    return _change(folder, author, lambda labels: replace(labels, tags=tuple(sorted({*labels.tags, *added}))))


def remove_tags(folder: Path, tags: Iterable[str], *, author: str | None = None) -> RunLabels:
    """Remove tags from the run in a folder; tags that it does not have are ignored. Raises RunError as `add_tags` does."""
    removed = {_tag(tag) for tag in _each(tags)}
    return _change(folder, author, lambda labels: replace(labels, tags=tuple(tag for tag in labels.tags if tag not in removed)))


def write_note(folder: Path, note: str, *, author: str | None = None) -> RunLabels:
    """Replace the note of the run in a folder. Raises RunError if it is too long, or the file cannot be written."""
    if len(note) > LONGEST_NOTE:
        raise RunError(f"A run's note has at most {LONGEST_NOTE:,} characters, and this one has {len(note):,}; shorten it.")
    return _change(folder, author, lambda labels: replace(labels, note=note.strip()))


def set_archived(folder: Path, archived: bool, *, author: str | None = None) -> RunLabels:
    """Archive the run in a folder, or take it out of the archive. Raises RunError if the file cannot be written."""
    return _change(folder, author, lambda labels: replace(labels, archived=archived))


def _each(tags: Iterable[str]) -> Iterable[str]:
    return [tags] if isinstance(tags, str) else tags


def _tag(tag: str) -> str:
    tidy = " ".join(tag.split()).removeprefix("#")
    if not tidy or len(tidy) > LONGEST_TAG or "," in tidy:
        raise RunError(f"{tag[:60]!r} cannot be a tag; give a word of at most {LONGEST_TAG} characters without a comma.")
    return tidy


@disk_errors_as_run_errors()
def _change(folder: Path, author: str | None, change: Callable[[RunLabels], RunLabels]) -> RunLabels:
    """Change the labels of a run, one process at a time; nothing is written where nothing changes."""
    if not (folder / RUN_FILE).exists():
        raise RunError(f"{folder} holds no run ({RUN_FILE} is missing); it was deleted or moved.")
    with _locked(folder):
        before = read_labels(folder)
        after = change(before)
        changed = [name for name in ("name", "tags", "note", "archived") if getattr(before, name) != getattr(after, name)]
        if not changed:
            return before
        now = LabelChange(author or home.author(), datetime.now().astimezone().isoformat(timespec="seconds"))
        after = replace(after, changes={**before.changes, **dict.fromkeys(changed, now)})
        write_json(folder / FILE_NAME, asdict(after))
    return after


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, which needs no file of its own."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
