"""Build a world from its spec, once, in a folder of the cache that is named by a hash of spec and code."""

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
from .pair_sampling import annotator, sample_demonstrations, sample_pairs
from .spec import WorldSpec
from .tasks import NEW_PHRASINGS, PHRASINGS
from .world import World, pairs_file

StageProgress = Callable[[str, float], None]
"""Called with (current stage, share of the whole work done, 0 to 1)."""

SOURCES = ("tasks.py", "kinds.py", "language.py", "oracle.py", "pair_sampling.py", "spec.py", "tuning.py", "build.py")
"""Files on which the content of a world depends; a change in one of them makes another world."""


def ensure(spec: WorldSpec | None = None, *, cache: Path | None = None, progress: StageProgress | None = None) -> World:
    """Load the world of a spec from the cache, or build it there; one process builds, others wait.

    An incomplete or damaged world is built again.

    Args:
        spec: By default `WorldSpec()`.
        cache: Folder of the cache; by default $LAB_CACHE or the user's cache folder.
        progress: Called while building.

    Raises:
        OSError: The folder cannot be written.
    """
    spec = spec or WorldSpec()
    root = Path(cache or os.environ.get("LAB_CACHE") or platformdirs.user_cache_path("preference-lab"))
    folder = root / folder_name(spec)
    if (world := World.load(folder)) is not None:
        return world
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if (world := World.load(folder)) is None:
            for remains in (folder, *root.glob(f".{folder.name}-*")):
                shutil.rmtree(remains, ignore_errors=True)
            making = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=root))
            try:
                _build(spec, making, progress or (lambda stage, share: None))
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
            world = World.load(folder)
    if world is None:
        raise OSError(
            f"The world was built but cannot be read from {folder}; check the disk, or choose another folder with LAB_CACHE."
        )
    return world


def folder_name(spec: WorldSpec) -> str:
    """Return the name of a world's folder: "world-3-" and a hash of its spec and code."""
    return f"{spec.name.replace(':', '-')}-{content_hash(spec)}"


def content_hash(spec: WorldSpec) -> str:
    """Return 16 hex digits, a hash of the spec and of the code that makes a world."""
    digest = hashlib.sha256(json.dumps(asdict(spec), sort_keys=True).encode())
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()[:16]


def _build(spec: WorldSpec, folder: Path, progress: StageProgress) -> None:
    started = time.perf_counter()
    stages: dict[str, float] = {}

    def stage(name: str, share: float) -> None:
        stages[name] = time.perf_counter() - started
        progress(name, share)

    stage("writing the pairs", 0.0)
    train_tasks = write_texts(spec, folder)

    stage("loading torch and transformers", 0.04)
    from . import tuning  # imported here, because it takes seconds and loading an existing world does not need it

    stage("training the tokenizer", 0.1)
    examples = sample_demonstrations(train_tasks, _rng(spec, "tokenizer"), spec.rules)
    texts = [text for _ in range(2000) for text in next(examples)]
    tokenizer = tuning.train_tokenizer(texts, spec.vocabulary)

    stage("tuning the model", 0.12)
    demonstrations = sample_demonstrations(train_tasks, _rng(spec, "demonstrations"), spec.rules)
    model, losses = tuning.tune(spec, demonstrations, tokenizer, lambda share: progress("tuning the model", 0.12 + 0.87 * share))
    stage("saving the world", 0.99)
    tuning.save(model, tokenizer, folder / "model")
    stages["end"] = time.perf_counter() - started
    names = list(stages)
    metadata = {
        "spec": asdict(spec),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "final_loss": sum(losses[-20:]) / len(losses[-20:]),
        "seconds": {name: round(stages[after] - stages[name], 2) for name, after in pairwise(names)},
    }
    World.seal(folder, metadata)
    progress("the world is ready", 1.0)


def write_texts(spec: WorldSpec, folder: Path) -> list[Task]:
    """Write the pairs, the held-out pairs and the held-out prompts of a world; return the training tasks."""
    # One generator per part, so that another number of pairs does not change the held-out set and the model.
    train_tasks, new_tasks = split_tasks(_rng(spec, "tasks"))
    questions = [(task, task.question(phrasing)) for task in train_tasks for phrasing in PHRASINGS]
    _write_rows(folder / pairs_file(spec), sample_pairs(questions, spec.pairs, _rng(spec, "pairs"), **_annotator(spec)))
    held_out = held_out_questions(train_tasks, new_tasks, spec.held_out_prompts, _rng(spec, "prompts"))
    rows = sample_pairs([(t, p) for t, p, _ in held_out], spec.held_out_pairs, _rng(spec, "held-out"), **_annotator(spec))
    _write_rows(folder / "held_out.jsonl", rows)
    _write_rows(folder / "prompts.jsonl", [{"prompt": prompt, "group": group} for _, prompt, group in held_out])
    return train_tasks


def held_out_questions(
    train_tasks: list[Task], new_tasks: list[Task], count: int, rng: random.Random
) -> list[tuple[Task, str, str]]:
    """Draw `count` prompts that no training pair has, as (task, prompt, group).

    Three fifths are a "new phrasing" of training tasks, the others training phrasings of a "new task".
    """
    rephrased = [(task, task.question(phrasing), "new phrasing") for task in train_tasks for phrasing in NEW_PHRASINGS]
    unseen = [(task, task.question(phrasing), "new task") for task in new_tasks for phrasing in PHRASINGS]
    new_phrasings = round(count * 0.6)
    return rng.sample(rephrased, new_phrasings) + rng.sample(unseen, count - new_phrasings)


def _rng(spec: WorldSpec, part: str) -> random.Random:
    return random.Random(f"{part} {spec.seed}")


def _annotator(spec: WorldSpec) -> dict[str, Any]:
    reward = annotator(spec.rules, spec.length_bias)
    return {"temperature": spec.temperature, "least_gap": spec.least_gap, "kind": spec.rules, "reward": reward}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
