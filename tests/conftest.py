"""What every test stands on: no hub, a home of its own, one cache for all, and tiny models in local folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as lab/__init__.py has it, but here torch may be loaded first

import pytest
import torch
from filelock import FileLock

from tests.models import make_model
from tests.pairs import postgres

# Two test processes share two cores: more threads each would only make them wait for one another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for all test processes of a session."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    cache = Path(os.environ.get("LAB_TEST_CACHE") or root / "cache")
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@pytest.fixture(autouse=True)
def lab_home(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs and pair stores of this test alone."""
    home = tmp_path / "lab-home"
    monkeypatch.setenv("LAB_HOME", str(home))
    monkeypatch.setenv("LAB_CACHE", str(shared_cache))
    return home


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Streamlit puts a page in the place of the main program; a child process of a later test would begin by running that page."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(scope="session")
def model_folder(shared_cache: Path) -> Callable[[str], Path]:
    """model_folder("gpt2") is a folder with a tiny random model of that shape and a byte-level tokenizer."""

    def folder(kind: str) -> Path:
        path = shared_cache / "models" / kind
        with FileLock(str(shared_cache / f"{kind}.lock")):
            if not (path / "config.json").exists():
                make_model(kind, path)
        return path

    return folder


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Fifty pairs that anybody can tell apart."""
    steps = [
        "mix the flour and the water",
        "knead the soft dough",
        "warm the old oven",
        "bake the round bread",
        "cut a thick slice",
    ]
    return [
        {
            "prompt": f"Question {i}: how do I bake bread?\n",
            "chosen": f"First {steps[i % 5]}, then {steps[(i + 1) % 5]}, and wait {i} minutes.",
            "rejected": f"No idea, ask somebody else {i}.",
        }
        for i in range(50)
    ]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a database on a server of this session's own."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as url:
        yield url
