"""A PostgreSQL server for tests: in a folder of its own, on a Unix socket only, and never longer there than the process it is for.

`python -m tests.pairs.postgres` is the keeper: it starts the server, prints its URL, and stops it when its input ends or its parent
process is gone, however that ended.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.3


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
def server(*, durable: bool = False) -> Iterator[str]:
    """Start a server; yields the URL of its database, without a set. `durable`: commits wait for the disk, as in real use."""
    command = [sys.executable, "-m", __name__, "on" if durable else "off", str(os.getpid())]
    # A session of its own: what ends the tests by their process group leaves it time to stop the server.
    keeper = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment()
    )
    try:
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        assert url, f"no server: {keeper.wait()}"
        yield url
    finally:
        keeper.communicate()  # ends its input, and waits


def environment() -> dict[str, str]:
    """The environment of the keeper, which finds this package and nothing of a user's own PostgreSQL."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def keep(fsync: str, parent: int) -> None:
    """Run a server until standard input ends or the parent process is gone."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="lab-postgres-"))
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    data, log = folder / "data", folder / "log"
    settings = f"-k {folder} -c listen_addresses= -c fsync={fsync}"
    try:
        run(*user, program("initdb"), "-D", data, "-U", "lab", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        run(*user, program("pg_ctl"), "-D", data, "-l", log, "-o", settings, "-w", "start")
        try:
            print(f"postgresql://lab@/postgres?host={folder}", flush=True)
            while os.getppid() == parent and not select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
                pass
        finally:
            run(*user, program("pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stop)  # as an exception, so that the server is stopped
    keep(sys.argv[1], int(sys.argv[2]))
