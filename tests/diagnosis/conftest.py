"""Runs that went wrong, each made when it is first asked for and shared by all tests of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.run.handle import Run
from tests.diagnosis import troubled

EVALUATED = troubled.LOOKS | {"held_out": 0.2}
HEALTHY = {"learning_rate": 2e-5, "probe_budget": 0.5}
RUNS: dict[str, tuple[Any, Callable[[], list[dict[str, str]]], dict[str, Any]]] = {
    "healthy": ("dpo", lambda: troubled.told_apart(120), EVALUATED | HEALTHY | {"eval_prompts": 2, "eval_tokens": 20}),
    "healthy sgdpo": ("sgdpo", troubled.told_apart, EVALUATED | HEALTHY | {"steps": 30}),
    "healthy alpha_dpo": ("alpha_dpo", troubled.told_apart, EVALUATED | HEALTHY | {"learning_rate": 1e-5, "steps": 30}),
    "told apart": ("dpo", lambda: troubled.told_apart(80), troubled.LOOKS | {"held_out": 0.4, "learning_rate": 3e-4}),
    "told apart, none held out": (
        "dpo",
        lambda: troubled.told_apart(16),
        troubled.LOOKS | {"held_out": 0, "learning_rate": 3e-4, "steps": 20},
    ),
    "chosen rise": ("sppo_hard", troubled.told_apart, {"learning_rate": 3e-3}),
    "alike": ("dpo", troubled.nearly_alike, {"learning_rate": 3e-3, "probe_budget": 0.5}),
    "alike sgdpo": ("sgdpo", troubled.nearly_alike, {"learning_rate": 3e-3, "steps": 24, "probe_budget": 0.5}),
    "alike spo": (
        {"name": "spo", "base": "sgdpo"},
        troubled.nearly_alike,
        {"learning_rate": 3e-3, "steps": 24, "probe_budget": 0.5},
    ),
    "not a number": ("dpo", troubled.told_apart, {"learning_rate": 1e30, "steps": 12}),
    "copies": ("alpha_dpo", troubled.copies, {"learning_rate": 1e-3, "steps": 25}),
    "one by one": ("alpha_dpo", troubled.told_apart, {"learning_rate": 1e-5, "batch_size": 1, "steps": 25}),
    "short pilots": ({"name": "sgdpo", "r1": 0.01, "r2": 0.01}, troubled.told_apart, {"learning_rate": 3e-4, "steps": 30}),
    "flipped": ("dpo", lambda: troubled.with_flipped(17), {"learning_rate": 3e-4}),
    "by heart": ("dpo", troubled.by_heart, troubled.LOOKS | {"learning_rate": 1e-3, "held_out": 0.4, "steps": 50}),
    "too fast": (
        {"name": "dpo", "beta": 2.0},
        troubled.contradictory,
        EVALUATED
        | {"learning_rate": 1e-2, "batch_size": 10, "steps": 36, "warmup_ratio": 0.5, "eval_prompts": 2, "eval_tokens": 24},
    ),
    "too slow": ("dpo", troubled.told_apart, {"learning_rate": 1e-8, "steps": 25}),
    "too slow, one by one": ("dpo", troubled.told_apart, {"learning_rate": 1e-8, "steps": 25, "batch_size": 1}),
    "wrong beta": ({"name": "simpo", "beta": 0.1}, troubled.told_apart, {"steps": 1}),
    "without end": (  # with this seed answers grow most: a random model ends its answers by chance
        "dpo",
        troubled.without_end,
        EVALUATED | {"learning_rate": 3e-3, "steps": 20, "seed": 2, "max_length": 40, "eval_prompts": 12, "eval_tokens": 200},
    ),
    "backwards": (
        {"name": "alpha_dpo", "alpha": 0.5, "stop_gradient": False},
        troubled.told_apart,
        {"learning_rate": 1e-3, "steps": 25},
    ),
}
"""Name -> objective, pairs, settings."""


@pytest.fixture(scope="session")
def trouble(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Callable[[str], Run]:
    """trouble("flipped") is that run, trained to its end."""
    place = tmp_path_factory.mktemp("troubled")
    made: dict[str, Run] = {}

    def get(name: str) -> Run:
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LAB_HOME", str(place / "home"))
                patch.setenv("LAB_CACHE", str(place / "cache"))
                objective, rows, settings = RUNS[name]
                model = model_folder("phi3" if name == "without end" else "gpt2")
                made[name] = troubled.run(objective, rows(), model, run_dir=place / name, **settings)
        return made[name]

    return get
