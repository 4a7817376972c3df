"""The launcher: the port, the demo run where there is no run yet, and how the lab is closed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lab
import lab.world
from app import demo, launch
from lab.run.handle import Run
from tests.helpers import free_port, open_tiny_worlds, until

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
SMALL = """
import sys
import lab.world.opening
lab.world.opening.ensure = lambda spec, **given: lab.world.ensure(lab.world.WorldSpec.tiny(spec.seed, spec.kind), **given)
from app.launch import main
sys.exit(main(sys.argv[1:]))
"""
"""The launcher on the small edition of the embedded world."""


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((launch.ADDRESS, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_said_in_one_sentence(taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert launch.main(["--port", str(taken_port)]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert said.startswith(f"error: Port {taken_port} cannot be used")
    assert "--port" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(OSError, match="choose one from 1 to 65535"):
        launch.require_free(port)


@pytest.mark.parametrize("state", ["queued", "running", "finished", "failed", "crashed"])
def test_no_demo_where_there_is_a_run(state: str, store_run: Callable[..., Run]) -> None:
    run = store_run("mine", state=state)
    assert demo.start_demo(5) is None
    assert [r.dir for r in lab.runs()] == [run.dir]


@pytest.mark.parametrize(("given", "flag"), [([], False), (["DEMO=0"], True), (["DEMO=1"], False)])
def test_make_passes_on_that_no_demo_is_wanted(given: list[str], flag: bool) -> None:
    done = subprocess.run(["make", "-n", "-o", ".venv/.lab", "lab", *given], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("--no-demo" in done.stdout) == flag


@pytest.fixture
def tiny_world(monkeypatch: pytest.MonkeyPatch) -> None:
    open_tiny_worlds(monkeypatch)


def test_closing_the_lab_saves_the_runs_of_this_process_alone(
    tiny_world: None, store_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = store_run("elsewhere", state="running", executor="process")
    run = lab.train("sgdpo", name="here", steps=100_000, evaluate=False, save_every=0)
    while run.step < 3 and run.state not in ("failed", "crashed"):
        time.sleep(0.05)
    assert [r.name for r in launch.runs_here()] == ["here"]
    launch.stop_runs(300)
    assert run.state == "stopped", run.error
    assert run.checkpoints()
    assert elsewhere.state == "running"
    said = capsys.readouterr().out
    assert f"here: stopped at step {run.step}" in said
    assert "elsewhere continues in its separate process." in said
    deadline = time.monotonic() + 60
    while launch.runs_here() and time.monotonic() < deadline:
        time.sleep(0.02)  # its last word is read before its thread has ended
    assert launch.runs_here() == []


def test_the_launcher_serves_trains_and_closes(lab_home: Path, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        lab_process = subprocess.Popen(
            [sys.executable, "-c", SMALL, "--port", str(port), "--steps", "100000"], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: f"The lab is at http://127.0.0.1:{port}\n" in log.read_text(), 300, log.read_text)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=60) as answer:
            assert answer.read() == b"ok"
        until(lambda: any(run.step > 0 for run in lab.runs()), 300, log.read_text)  # nobody has opened a browser
        (run,) = lab.runs()
        assert (run.name, run.config.objective.name, run.config.steps) == ("demo", "sgdpo", 100_000)
        assert lab.queue() == []  # nobody's own run has to wait for the demo
        lab_process.send_signal(signal.SIGTERM)
        assert lab_process.wait(300) == 0
    finally:
        lab_process.kill()
    assert run.state == "stopped"
    assert run.checkpoints()
    said = log.read_text()
    assert "Traceback" not in said, said
    assert "config option" not in said, said
    assert said.rstrip().endswith("The lab is closed.")


def test_help_says_what_there_is() -> None:
    done = subprocess.run([sys.executable, "-m", "app", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert all(flag in done.stdout for flag in ("--port", "--no-demo", "--steps", "--home"))
