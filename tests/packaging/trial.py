"""Build a wheel, install it into an empty environment, train on the embedded world and serve the dashboard.

    make wheel

Run with the Python that the environment is made of. Ends with exit code 1 and one sentence at the first thing that does not work.
Dependencies are installed at the versions of requirements.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVING = 120.0
"""Seconds that the dashboard may take to answer."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; SystemExit with its last lines where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def build(place: Path) -> Path:
    """Build the wheel from a clean copy of the tracked files."""
    source = place / "source"
    files = run("git", "ls-files", cwd=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, source, cwd=place)
    (wheel,) = place.glob("*.whl")
    return wheel


def install(wheel: Path, place: Path) -> Path:
    """Install the wheel into an empty environment; return its folder of programs."""
    venv.create(place / "env", with_pip=True)
    programs = place / "env" / "bin"
    run(programs / "pip", "install", "--quiet", "--constraint", ROOT / "requirements.txt", wheel, cwd=place)
    return programs


def train(programs: Path, place: Path, env: dict[str, str]) -> None:
    """Import the library and train five steps by the library and by the command line."""
    code = (
        "import lab, app, pathlib; assert 'site-packages' in lab.__file__, lab.__file__; "
        "assert (pathlib.Path(lab.__file__).parent / 'py.typed').exists(); "
        "run = lab.train(objective='sgdpo', steps=5, batch_size=4, evaluate=False, background=False); "
        "assert run.state == 'finished', run.error"
    )
    run(programs / "python", "-c", code, cwd=place, env=env)
    run(programs / "preference-lab", "train", "--objective", "dpo", "--steps", "5", "--batch-size", "4", cwd=place, env=env)
    listed = run(programs / "preference-lab", "runs", cwd=place, env=env)
    if listed.count("finished") != 2:
        raise SystemExit(f"Two finished runs were expected:\n{listed}")


def serve(command: list[str | Path], place: Path, env: dict[str, str]) -> None:
    """Start the dashboard, wait for its health check and its page, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([*map(str, command), "--port", str(port), "--no-demo"], cwd=place, env=env)
    try:
        deadline = time.monotonic() + SERVING
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    if answer.read().strip() == b"ok":
                        break
            except (urllib.error.URLError, OSError):
                pass
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"The dashboard did not answer its health check (exit code {server.poll()}).")
            time.sleep(0.5)
        for page in ("", "live", "inspect", "guide"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=30) as answer:
                if b"streamlit" not in answer.read().lower():
                    raise SystemExit(f"/{page} is not a page of the dashboard.")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def main() -> None:
    """Do all of it in a temporary folder."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        env |= {"LAB_HOME": str(place / "home"), "HF_HUB_OFFLINE": "1"}
        env.setdefault("LAB_CACHE", str(place / "cache"))
        began = time.monotonic()

        def done(what: str) -> None:
            print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

        wheel = build(place)
        done(f"built {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
        programs = install(wheel, place)
        done("installed into an empty environment")
        train(programs, place, env)
        done("trained by the library and by preference-lab")
        serve([programs / "preference-lab-app"], place, env)
        serve([programs / "python", "-m", "app"], place, env)
        done("served by preference-lab-app and python -m app")
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
