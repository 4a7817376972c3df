"""Opening preference pairs by their source, including those of the embedded world, without importing torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import home
from lab.pairs import ColumnMapping, ImportReport, PairsError, PairStore, find_set, remembered_mapping
from lab.pairs import import_pairs as import_stored_pairs
from lab.pairs.importing import OnError
from lab.progress import StageProgress
from lab.world import WorldError, is_world_name, open_world

if TYPE_CHECKING:
    from lab.run.config import TrainConfig  # imports pydantic

log = logging.getLogger(__name__)

WORLD = "world"


def open_pairs(
    source: Any = WORLD,
    *,
    split: str = "train",
    configuration: str = "",
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    on_error: OnError = "refuse",
    update: bool = True,
    progress: StageProgress | None = None,
) -> PairStore:
    """Open preference pairs as a versioned, editable store.

    Opening a file (folder, data set of the hub) again returns the same store, with the edits made before. If the file has changed,
    the store is updated first, with a warning that says so: new rows are added at the end, rows that are no longer in the file
    are dropped, and edits, tags, notes and versions stay; a run of a fixed version never changes. Data in memory gives the store of
    its content.

    Args:
        source: "world" for the pairs of the embedded world, "world-hard" for those of the hard one, after a colon the seed of
            another world ("world:3"); a JSONL, JSON, CSV, TSV or Parquet file, packed or not; a folder of
            `datasets`; a hub id; a `datasets.Dataset`; a data frame; a list of dicts; a store's own .sqlite file; or the name of a
            set that was imported before, or of its file, where no file has this name.
        split: Split of a hub data set or DatasetDict; key of a JSON file with rows under several keys.
        configuration: Configuration (subset) of a hub data set.
        mapping: Which columns hold what: {"prompt": "question", "chosen": "good", "rejected": "bad"}. None uses the mapping
            that was kept for these column names, with a warning that says so, else guesses from the names.
        on_error: "refuse" raises an error that lists all rows that are no pairs; "skip" leaves them out, with a warning.
        update: False opens the file's content as a set of its own, without the edits and the order of the set that the file had
            before: the same content always gives the same set.
        progress: Called as progress(stage, share) while the embedded world is built, the first time.

    Raises:
        PairsError: If the source cannot be read as pairs; the message names the lines.
    """
    store, report = import_pairs(
        source, split=split, configuration=configuration, mapping=mapping, on_error=on_error, update=update, progress=progress
    )
    if warning := report.warning():
        log.warning("%s.", warning.rstrip("."))
    return store


def open_configured(pairs: Any, config: TrainConfig, *, progress: StageProgress | None = None) -> PairStore:
    """Open the pairs of a run, with the split, configuration and treatment of bad rows of its settings."""
    on_error: OnError = "skip" if config.skip_bad_rows else "refuse"
    return open_pairs(pairs, split=config.split, configuration=config.configuration, on_error=on_error, progress=progress)


def import_pairs(
    source: Any = WORLD,
    *,
    split: str = "train",
    configuration: str = "",
    mapping: ColumnMapping | Mapping[str, Any] | None = None,
    on_error: OnError = "refuse",
    update: bool = True,
    drop_vanished: bool = True,
    progress: StageProgress | None = None,
) -> tuple[PairStore, ImportReport]:
    """Open preference pairs as `open_pairs`, and also return the report of the import: read, refused and unread.

    `drop_vanished=False` keeps pairs whose rows are no longer in a file that has changed.
    """
    source = stored_place(source)
    if is_world_name(source):
        try:
            source = open_world(source, progress).pairs_path
        except WorldError as error:
            raise PairsError(str(error)) from None
        update = False  # its file is in a cache, which has other places
    return import_stored_pairs(
        source,
        split=split,
        configuration=configuration,
        mapping=mapping,
        remembered=partial(remembered_mapping, home.home()),
        on_error=on_error,
        update=update,
        drop_vanished=drop_vanished,
        home=home.home() / "pairs",
    )


def stored_place(source: Any) -> Any:
    """Return the location of the imported set that a text names, by its name or that of its file; any other source as it is.

    A file or folder of this name comes first, and a text with a slash is a path or a hub id, so it never names a set.

    Raises:
        PairsError: Several sets have this name.
    """
    if not isinstance(source, str) or source == "" or is_world_name(source) or "/" in source:
        return source
    try:
        exists = Path(source).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # no name of a file: opening the source says why
        return source
    known = None if exists else find_set(home.home() / "pairs", source)
    return known.location if known else source
