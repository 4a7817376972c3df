"""A PostgreSQL server for tests: in a folder of its own, on a Unix socket only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs; Debian installs them outside of PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


def missing() -> str:
    """Why no server can be started here, or ""."""
    names = [name for name in ("initdb", "pg_ctl", "postgres") if program(name) is None]
    if names:
        return f"no PostgreSQL here ({', '.join(names)} not found); install Debian's postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "postgres refuses to run as root, and there is no setpriv"
    return ""


@contextmanager
def server() -> Iterator[str]:
    """Start a server; yields the URL of its database, without a set."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="lab-postgres-"))
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    data, log = folder / "data", folder / "log"
    settings = f"-k {folder} -c listen_addresses= -c fsync=off"
    try:
        run(*user, program("initdb"), "-D", data, "-U", "lab", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        run(*user, program("pg_ctl"), "-D", data, "-l", log, "-o", settings, "-w", "start")
        try:
            yield f"postgresql://lab@/postgres?host={folder}"
        finally:
            run(*user, program("pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
