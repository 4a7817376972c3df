"""From a cold interpreter: pairs and runs are opened, checked and listed without the libraries that train."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.run_folder import create_run
from lab.world import ensure

HEAVY = ("torch", "transformers", "datasets", "peft", "plotly", "streamlit", "huggingface_hub", "pydantic")
FRAMES = ("pandas", "pyarrow")

PAIRS = "import lab; store = lab.open_pairs({pairs!r}); store.page(limit=5); store.all(); assert len(store) == 2"
CALLS = {
    "jsonl": (PAIRS, FRAMES),
    "runs": ("import lab; (run,) = lab.runs(); run.state, run.step, run.name, run.status, run.error, run.manifest", FRAMES),
    "open_run": ("import lab; run = lab.open_run('mine'); run.state, run.step, run.place, run.twins, run.checkpoints()", FRAMES),
    "queue": ("import lab; lab.queue()", FRAMES),
    "python -m lab pairs": ("from lab.cli import main; assert main(['pairs', {pairs!r}]) == 0", FRAMES),
    "python -m lab pairs --check": ("from lab.cli import main; assert main(['pairs', {pairs!r}, '--check']) == 0", FRAMES),
    "python -m lab pairs --export": (
        "from lab.cli import main; assert main(['pairs', {pairs!r}, '--export', {out!r}]) == 0",
        FRAMES,
    ),
    "python -m lab runs": ("from lab.cli import main; assert main(['runs']) == 0", FRAMES),
    "python -m lab queue": ("from lab.cli import main; assert main(['queue']) == 0", FRAMES),
    "check": ("import lab; from lab.pairs import check; check(lab.open_pairs({pairs!r}).all())", ()),
}
"""Name -> what a program does, and what else it must not load."""

COMMANDS = {
    "lab.open_pairs": ("-c", PAIRS),
    "lab.runs": ("-c", CALLS["runs"][0]),
    "lab.open_run": ("-c", CALLS["open_run"][0]),
    "python -m lab runs": ("-m", "lab", "runs"),
    "python -m lab pairs FILE --check": ("-m", "lab", "pairs", "{pairs}", "--check"),
}
"""Name -> arguments of the interpreter."""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"How {i}?", "chosen": f"Mix it well, {i}.", "rejected": "No idea."} for i in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def listed_run(lab_home: Path) -> None:
    make_run(lab_home)


def make_run(lab_home: Path) -> None:
    """A finished run called mine, as far as listing needs it."""
    folder = lab_home / "runs" / "mine"
    create_run(folder, TrainConfig.parse(objective="dpo"), pairs_name="pairs", pairs_store="nowhere", pairs_version=1)
    with_status = StoreWriter(folder)
    with_status.status(state="finished", stage="finished", step=3)
    with_status.close()


@pytest.mark.parametrize("name", CALLS)
def test_what_needs_no_model_loads_none(name: str, pairs: Path, listed_run: None, tmp_path: Path) -> None:
    program, more = CALLS[name]
    program = program.format(pairs=str(pairs), out=str(tmp_path / "out.jsonl"))
    told = f"{program}\nimport sys; print(sorted(set({(*HEAVY, *more)!r}) & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


IN_MAIN_THREAD = """
import importlib.abc, os, sys, threading
imported = set()

class Recorder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            imported.add(name.partition(".")[0])

sys.meta_path.insert(0, Recorder())
{program}
print(sorted({{"torch", "transformers", "peft", "pandas", "plotly"}} & imported), flush=True)
os._exit(0)
"""
STARTS = {
    "lab.train": "import lab; lab.train('sgdpo', {pairs!r}, steps=1, r1=0.7, queue=False)",
    "python -m lab train --detach": (
        "import lab.training.setup.child_process as child; from types import SimpleNamespace as Child; "
        "child.subprocess.Popen = lambda *a, **k: Child(wait=lambda: 0); from lab.cli import main; "
        "assert main(['train', '--objective', 'dpo', '--pairs', {pairs!r}, '--detach']) == 0"
    ),
    "a refused setting": "from lab.cli import main; assert main(['train', '--objective', 'dpo', '--steps', 'x', '--detach']) == 1",
    "a refused parameter": "from lab.cli import main; assert main(['train', '--objective', 'dpo', '--set', 'beta=-1']) == 1",
    "a dry run without config.json": (
        "from lab.cli import main; assert main(['train', '--objective', 'dpo', '--model', {folder!r}, '--dry-run']) == 1"
    ),
}
"""Name -> a program that starts a run of the embedded world, or is refused."""


@pytest.mark.parametrize("name", STARTS)
def test_a_run_starts_before_torch_is_imported(name: str, pairs: Path, lab_home: Path, shared_cache: Path) -> None:
    ensure(cache=shared_cache)  # building the world needs torch
    program = STARTS[name].format(pairs=str(pairs), folder=str(pairs.parent))
    done = subprocess.run(
        [sys.executable, "-c", IN_MAIN_THREAD.format(program=program)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    if name.startswith("a "):
        assert done.stderr.startswith("error: ")
    if "config.json" in name:
        assert "config.json" in done.stderr


@pytest.fixture(scope="module")
def seconds_of_torch() -> float:
    return min(seconds("-c", "import torch") for _ in range(2))


@pytest.mark.extended
@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_quick_beside_the_import_of_torch(name: str, seconds_of_torch: float, pairs: Path, listed_run: None) -> None:
    """Seconds depend on the machine (tests/bench/bench_cold_start.py prints them); the import of torch, which was part of them, is
    measured beside them."""
    command = [part.format(pairs=str(pairs)) for part in COMMANDS[name]]
    assert min(seconds(*command) for _ in range(3)) < 0.7 * seconds_of_torch


def seconds(*arguments: str) -> float:
    """Of a new interpreter with these arguments."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, timeout=120, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
