"""Runs filled by hand, and a JupyterLab of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.run.handle import Run
from tests.app.conftest import StoreRun
from tests.helpers import free_port, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store_run() -> Iterator[Callable[..., Run]]:
    """Make runs that were filled by hand; see `StoreRun`."""
    make = StoreRun()
    yield make
    for lock in make.locks:
        lock.release()


@dataclass(frozen=True)
class Jupyter:
    """A JupyterLab server: its address, and the folder of its notebooks."""

    address: str
    folder: Path


@pytest.fixture
def jupyter(lab_home: Path, tmp_path: Path) -> Iterator[Jupyter]:
    """A JupyterLab on a free port of this machine, with folders of its own, started as `make notebook` starts it."""
    folder, log, port = tmp_path / "notebooks", tmp_path / "jupyter.txt", free_port()
    folder.mkdir()
    places = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
    )
    own = {name: str(tmp_path / name.lower()) for name in (*places, "IPYTHONDIR")}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token="]
    command = [sys.executable, "-m", "jupyterlab", str(folder), *notebook_options(), *options]
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=os.environ | own | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: _answers(port), 120, log.read_text)
        yield Jupyter(f"http://127.0.0.1:{port}", folder)
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def notebook_options() -> list[str]:
    """The options of JupyterLab that `make notebook` gives."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "jupyter lab" in line and line.startswith("\t"))
    return line.split("jupyter lab notebooks", 1)[1].split()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False
