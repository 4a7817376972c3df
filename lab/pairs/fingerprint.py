"""Names of sources, and fingerprints that tell whether a source has changed since its import without parsing it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from . import importing
from .importing import ColumnMapping
from .pair import Pair, PairsError, to_bytes, to_json

CHUNK = 1 << 20


def source_key(source: Any, split: str, configuration: str, mapping: ColumnMapping) -> str | None:
    """Return 12 hex digits that name a source: its absolute path or hub id, the part, and the columns of its texts.

    The columns count because one file can hold several sets (answers of several models); those of scores, system messages and
    tools do not, so that a column that a file gains later does not make another set of it. None for data in memory.
    """
    if not isinstance(source, (str, Path)):
        return None
    path = Path(source).expanduser()
    place = str(path.parent.resolve() / path.name) if path.exists() else str(source)
    texts = [list(mapping.prompt), *mapping.answer_columns(), mapping.layout]
    return hashlib.sha256(to_bytes(to_json([place, split, configuration, texts]))).hexdigest()[:12]


def file_fingerprint(path: Path, mapping: ColumnMapping) -> str:
    """Return a hash of a file's or folder's bytes, the mapping, and the code of the importer, which may read it anew.

    Raises PairsError where a file cannot be read.
    """
    digest = hashlib.sha256(to_bytes(to_json([_code(), asdict(mapping)])))
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        digest.update(to_bytes(str(file.relative_to(path))))
        try:
            with file.open("rb") as opened:
                while data := opened.read(CHUNK):
                    digest.update(data)
        except OSError as error:
            raise PairsError(f"{file} cannot be opened ({error.strerror or error}); check the file.") from None
    return digest.hexdigest()


@cache
def _code() -> str:
    """Return a hash of the source code of the importer."""
    files = sorted(Path(str(importing.__file__)).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def content_hash(pairs: Iterable[Pair]) -> str:
    """Return 12 hex digits, a hash of ids, contents and meta of pairs in their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        more = [] if pair.tools is None else [pair.tools]
        digest.update(to_bytes(to_json([*pair.content, pair.meta, *more])) + b"\n")
    return digest.hexdigest()[:12]
