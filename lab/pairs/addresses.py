"""Addresses of pair sets in PostgreSQL: recognised, free of passwords, and listed once a set was opened by one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

from .pair import PairsError

SUFFIX = ".postgresql"
"""Ending of a file in a folder of stores that contains the address of a set in a database."""
PASSWORD = (
    "The address of the pairs holds a password, which runs would record; leave it out, and put the password into ~/.pgpass "
    "(one line host:port:database:user:password, chmod 600) or PGPASSWORD of the process that runs the lab."
)
LONGEST_SHOWN = 150
"""Characters of a path that a message shows."""
_URL = re.compile(r"\s*postgres(ql)?(\+\w+)?://", re.IGNORECASE)
_SECRET = re.compile(r"\s*[a-z][\w+.-]+:/+[^/?#]*:.*@|\s*[a-z][\w+.-]+:/.*[?&][^=&]*password[^=&]*=", re.IGNORECASE | re.DOTALL)


def is_url(location: object) -> bool:
    """Return whether a location names a PostgreSQL database by its URL, not a file."""
    return isinstance(location, str) and _URL.match(location) is not None


def holds_password(location: object) -> bool:
    """Return whether a location is an address of any kind that holds a password."""
    return isinstance(location, str) and any(_SECRET.match(text) for text in (location, unquote(location)))


def refuse_password(location: object) -> None:
    """Raise PairsError, whose message does not have the address, if a location is an address that holds a password."""
    if holds_password(location):
        raise PairsError(PASSWORD)


def address_file(folder: Path, url: str) -> Path:
    """Return the file in a folder of stores that lists the set of an address; it need not exist."""
    url = url.strip()
    name = re.search(r"[?&]set=([A-Za-z0-9_.-]+)", url)
    stem = name[1] if name else "pairs"
    return folder / f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:12]}{SUFFIX}"


def remember_address(folder: Path, url: str) -> None:
    """List the set of an address, without a password, in a folder of stores.

    Raises:
        PairsError: The address holds a password, or the folder cannot be written.
    """
    refuse_password(url)
    file = address_file(folder, url)
    if file.exists():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{url.strip()}\n", encoding="utf-8")
    except OSError as error:
        raise PairsError(f"The address could not be stored in {folder} ({error.strerror}); check the folder.") from None


def known_addresses(folder: Path) -> dict[Path, str]:
    """Return the addresses that are listed in a folder of stores, by their file; a file without one is left out."""
    files = folder.glob(f"*{SUFFIX}")
    addresses = {file: file.read_text(encoding="utf-8", errors="replace").strip() for file in files}
    return {file: address for file, address in addresses.items() if is_url(address)}


def usable_path(location: str | Path) -> Path:
    """Return the absolute path of a file to read or write. Raises PairsError where no file can have this path."""
    shown = ascii(str(location) if len(str(location)) <= LONGEST_SHOWN else f"{str(location)[:LONGEST_SHOWN]} ...")
    try:
        path = Path(location).expanduser().absolute()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # it can be made, or whoever opens it says why not
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # too long, no such user, no path, NUL or half a character
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise PairsError(f"{shown} cannot be the path of a file ({reason}); give another one.") from None
    return path
