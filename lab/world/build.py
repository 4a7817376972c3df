"""Building the world once and finding it again: everything follows from a spec, and lies in a folder named by its content."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from .language import Task, split_tasks
from .sampling import sample_demonstrations, sample_pairs
from .spec import WorldSpec
from .tasks import NEW_PHRASINGS, PHRASINGS
from .world import World

Progress = Callable[[str, float], None]
"""(what is being done, share of the whole work done, 0 to 1)."""

# What the content of a world depends on; a change in one of these makes another world.
SOURCES = ("tasks.py", "language.py", "oracle.py", "sampling.py", "spec.py", "tuning.py", "build.py")


def ensure(spec: WorldSpec | None = None, *, cache: Path | None = None, progress: Progress | None = None) -> World:
    """The world of a spec: loaded from the cache, or built there first (once, however many processes ask at a time).

    cache: folder; by default $LAB_CACHE or the user's cache folder.   progress(what, share) is called while building.
    A half-made or damaged world is never trusted: it is built again. Raises OSError where the folder cannot be written.
    """
    spec = spec or WorldSpec()
    root = Path(cache or os.environ.get("LAB_CACHE") or platformdirs.user_cache_path("preference-lab"))
    folder = root / f"world-{content_hash(spec)}"
    if (world := World.load(folder)) is not None:
        return world
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if (world := World.load(folder)) is None:
            for remains in (folder, *root.glob(f".{folder.name}-*")):
                shutil.rmtree(remains, ignore_errors=True)
            making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
            try:
                _build(spec, making, progress or (lambda what, share: None))
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
            world = World.load(folder)
    if world is None:
        raise OSError(
            f"The world was built but cannot be read from {folder}; check the disk, or choose another folder with LAB_CACHE."
        )
    return world


def content_hash(spec: WorldSpec) -> str:
    """16 hex digits that change when the spec or the code that makes a world changes."""
    digest = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:16]


def _build(spec: WorldSpec, folder: Path, progress: Progress) -> None:
    started = time.perf_counter()
    stages: dict[str, float] = {}

    def stage(what: str, share: float) -> None:
        stages[what] = time.perf_counter() - started
        progress(what, share)

    stage("writing the pairs", 0.0)
    # One generator for each part, so that another number of pairs leaves the held-out set and the model as they are.
    train_tasks, new_tasks = split_tasks(_rng(spec, "tasks"))
    questions = [(task, task.question(phrasing)) for task in train_tasks for phrasing in PHRASINGS]
    _write_rows(folder / "world.jsonl", sample_pairs(questions, spec.pairs, _rng(spec, "pairs"), **_annotator(spec)))
    held_out = held_out_questions(train_tasks, new_tasks, spec.held_out_prompts, _rng(spec, "prompts"))
    rows = sample_pairs([(t, p) for t, p, _ in held_out], spec.held_out_pairs, _rng(spec, "held-out"), **_annotator(spec))
    _write_rows(folder / "held_out.jsonl", rows)
    _write_rows(folder / "prompts.jsonl", [{"prompt": prompt, "group": group} for _, prompt, group in held_out])

    stage("loading torch and transformers", 0.04)
    from . import tuning  # here, because it takes seconds to import and a world that is there already needs none of it

    stage("training the tokenizer", 0.1)
    examples = sample_demonstrations(train_tasks, _rng(spec, "tokenizer"))
    texts = [text for _ in range(2000) for text in next(examples)]
    tokenizer = tuning.train_tokenizer(texts, spec.vocabulary)

    stage("tuning the model", 0.12)
    demonstrations = sample_demonstrations(train_tasks, _rng(spec, "demonstrations"))
    model, losses = tuning.tune(spec, demonstrations, tokenizer, lambda share: progress("tuning the model", 0.12 + 0.87 * share))
    stage("saving the world", 0.99)
    tuning.save(model, tokenizer, folder / "model")
    stages["end"] = time.perf_counter() - started
    names = list(stages)
    facts = {
        "spec": asdict(spec),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "final_loss": sum(losses[-20:]) / len(losses[-20:]),
        "seconds": {name: round(stages[after] - stages[name], 2) for name, after in pairwise(names)},
    }
    World.seal(folder, facts)
    progress("the world is ready", 1.0)


def held_out_questions(
    train_tasks: list[Task], new_tasks: list[Task], count: int, rng: random.Random
) -> list[tuple[Task, str, str]]:
    """`count` prompts of no training pair, as (task, prompt, group): three fifths are a "new phrasing" of training tasks,
    the others training phrasings of a "new task"."""
    rephrased = [(task, task.question(phrasing), "new phrasing") for task in train_tasks for phrasing in NEW_PHRASINGS]
    unseen = [(task, task.question(phrasing), "new task") for task in new_tasks for phrasing in PHRASINGS]
    many = round(count * 0.6)
    return rng.sample(rephrased, many) + rng.sample(unseen, count - many)


def _rng(spec: WorldSpec, part: str) -> random.Random:
    return random.Random(f"{part} {spec.seed}")


def _annotator(spec: WorldSpec) -> dict[str, Any]:
    return {"temperature": spec.temperature, "least_gap": spec.least_gap}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
