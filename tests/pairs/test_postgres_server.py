"""The test server of PostgreSQL does not outlive the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pairs import postgres

pytestmark = pytest.mark.extended

TESTS = """
import time
from tests.pairs import postgres
with postgres.server() as url:
    print(url, flush=True)
    time.sleep(600)
"""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_server_stays_behind(end: signal.Signals) -> None:
    if reason := postgres.missing():
        pytest.skip(reason)
    tests = subprocess.Popen(
        [sys.executable, "-c", TESTS],
        cwd=postgres.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert tests.stdout is not None
    folder = Path(tests.stdout.readline().strip().partition("host=")[2])
    server = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    assert is_alive(server)
    os.killpg(tests.pid, end)
    tests.communicate()
    limit = time.monotonic() + 20
    while (folder.exists() or is_alive(server)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not folder.exists()
    assert not is_alive(server)
