"""Tiny real runs that go wrong, each in a way of its own, and one that does not; all of a few seconds."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import lab
from lab.run.handle import Run

STEPS = [
    "mix the flour",
    "knead the soft dough",
    "warm the old oven",
    "bake the round bread",
    "cut a thick slice",
    "rinse the bowl",
]
QUICK: dict[str, Any] = {"batch_size": 4, "device": "cpu", "save_every": 0, "evaluate": False, "schedule": "constant", "steps": 40}
LOOKS: dict[str, Any] = {"evaluate": True, "eval_every": 0, "eval_prompts": 0}


def told_apart(count: int = 50) -> list[dict[str, str]]:
    """Pairs that anybody can tell apart."""
    return [
        {
            "prompt": f"Question {i}: how do I bake bread?\n",
            "chosen": f"First {STEPS[i % 6]}, then {STEPS[(i + 1) % 6]}.",
            "rejected": f"No idea, ask somebody else {i}.",
        }
        for i in range(count)
    ]


def nearly_alike() -> list[dict[str, str]]:
    """Pairs whose answers differ in their last word."""
    begin = "First mix the flour and the water, then knead the soft dough, then bake the round bread and cut a thick"
    return [{"prompt": f"Question {i}?\n", "chosen": f"{begin} slice.", "rejected": f"{begin} piece."} for i in range(40)]


def copies() -> list[dict[str, str]]:
    """One pair over and over."""
    return [{"prompt": "How?\n", "chosen": "Mix the flour.", "rejected": "No idea."} for _ in range(24)]


def with_flipped(every: int) -> list[dict[str, str]]:
    """Pairs of which a few have their answers swapped."""
    rows = told_apart(160)
    for i in range(90, 160, every):
        rows[i]["chosen"], rows[i]["rejected"] = rows[i]["rejected"], rows[i]["chosen"]
    return rows


def by_heart() -> list[dict[str, str]]:
    """Pairs of words that mean nothing: one can learn them, and they teach nothing about others."""
    rng = random.Random(3)

    def word() -> str:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(8))

    return [{"prompt": f"Question {i}?\n", "chosen": word(), "rejected": word()} for i in range(40)]


def contradictory() -> list[dict[str, str]]:
    """Pairs, and the same pairs with their answers swapped: nobody can tell which is better."""
    rows = told_apart(30)
    return rows + [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


def without_end() -> list[dict[str, str]]:
    """Pairs whose chosen answers are long, so long that a short max_length cuts their end of sequence off."""
    return [row | {"chosen": " ".join(STEPS), "rejected": "No."} for row in told_apart(24)]


def run(objective: Any, rows: list[dict[str, str]], model: Path, **settings: Any) -> Run:
    """Train to the end, in this thread."""
    return lab.train(objective, rows, model, background=False, **QUICK | settings)


def spoil_reference(cache: Path) -> None:
    """Make every log-prob that is kept of the reference half a nat smaller, as a stale cache would."""
    import numpy as np

    for path in (cache / "reference").rglob("*.sqlite"):
        with sqlite3.connect(path) as db:
            rows = [(key, (np.frombuffer(value, np.float32) - 0.5).tobytes()) for key, value in db.execute("SELECT * FROM logps")]
            db.executemany("UPDATE logps SET value = ? WHERE key = ?", [(value, key) for key, value in rows])
        db.close()
