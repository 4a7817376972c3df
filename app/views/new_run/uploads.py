"""Uploaded files of pairs as pair sets."""

from __future__ import annotations

from app.widgets.import_form.uploads import forget_upload, keep_upload
from lab.opening import import_pairs
from lab.pairs import ImportReport, PairsError, PairStore, RefusedRows
from lab.pairs.importing import OnError


def store_upload(name: str, data: bytes, on_error: OnError = "refuse") -> tuple[PairStore, ImportReport]:
    """Store an uploaded file as a set of pairs; also return the report of the import.

    Raises:
        RefusedRows: Rows are no pairs, and `on_error` is "refuse"; nothing of the file is kept.
        PairsError: The file has no known ending, is too large, or cannot be read or stored; nothing of it is kept.
    """
    path, new = keep_upload(name, data)
    try:
        stored = import_pairs(str(path), on_error=on_error)
        new = False
        return stored
    except RefusedRows as error:
        error.args = (str(error).replace(str(path), name),)
        raise
    except PairsError as error:
        raise PairsError(str(error).replace(str(path), name)) from None
    finally:
        if new:
            forget_upload(path)
