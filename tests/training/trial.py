"""Code for processes that tests kill; they are forked from a process that has imported everything."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import transformers

import lab
import lab.api
import lab.world
from lab.policy import Policy, PromptAnswer, ReferenceCache, load_policy
from lab.store import Change, write_changes

# transformers imports these at first use, which would slow every forked process down.
LOADED = (transformers.AutoModelForCausalLM, transformers.AutoTokenizer, transformers.LlamaForCausalLM)

STEPS = 8
SETTINGS = {
    "steps": STEPS,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 2,
    "eval_tokens": 8,
    "device": "cpu",
}
CHANGES = [Change(3, {"learning_rate": 5e-4}), Change(5, pairs_version=1)]
"""Stored before the run begins, so that a killed run makes them at the same steps."""


def train(place: Path, objective: Any, model: Path, data: Path) -> None:
    """Start the run in `place`, or resume it where it was killed; it changes settings and takes edits in mid-run."""
    os.environ |= {"LAB_HOME": str(place / "home"), "LAB_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(1)
    folder = place / "run"

    def on_step(step: int, scalars: dict[str, float]) -> None:
        pairs = lab.open_pairs(data)
        if step == 2 and pairs.version == 0:
            pairs.edit(pairs.ids()[0], chosen="Mix the flour with the water and bake the bread.")

    if (folder / "run.json").exists():
        lab.train(run_dir=folder, resume=True, background=False, on_step=on_step)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_changes(folder, CHANGES)
        lab.train(objective, data, model, run_dir=folder, background=False, on_step=on_step, **SETTINGS)


def open_references(policy: Policy, folders: list[Path], together: Barrier) -> None:
    """Open one cache after the other, each at the same time as the other processes."""
    for folder in folders:
        together.wait(60)
        ReferenceCache(folder, policy).close()


def prepare_references(model: Path, folder: Path, wanted: list[PromptAnswer], pipe: Connection) -> None:
    """Load the model, send "ready", wait for a message, and compute reference log-probs, sending the progress after every batch."""
    torch.set_num_threads(1)
    policy = load_policy(str(model), device="cpu")
    pipe.send("ready")
    pipe.recv()
    cache = ReferenceCache(folder, policy)
    cache.prepare(policy, wanted, tokens_per_batch=60, progress=lambda done, total: pipe.send(done))
    cache.close()
