"""Files of pairs that people upload: kept under the lab's home, and stored like any other set of pairs."""

from __future__ import annotations

import hashlib
import re

from lab import api, home
from lab.pairs import PairsError, PairStore

MEGABYTES = 50


def store_upload(name: str, data: bytes) -> PairStore:
    """The store of an uploaded JSON Lines file. Raises PairsError that names the line, and then keeps nothing."""
    if len(data) > MEGABYTES * 2**20:
        raise PairsError(
            f"{name} has more than {MEGABYTES} MB; give its path instead, or import it with `python -m lab pairs FILE`."
        )
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix(".jsonl")).strip("-.")[:60] or "pairs"
    # One folder for each content: the file keeps its name, which the set is called by.
    path = home.home() / "uploads" / hashlib.sha256(data).hexdigest()[:12] / f"{stem}.jsonl"
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return api.open_pairs(str(path))
    except PairsError as error:
        if new:
            path.unlink()
            path.parent.rmdir()
        raise PairsError(str(error).replace(str(path), name)) from None
    except OSError as error:
        raise PairsError(f"{name} could not be stored ({error.strerror}); check the disk.") from None
