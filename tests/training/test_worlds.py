"""Runs on worlds of either kind and any seed: pairs, model, and the oracle that belongs to the pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

import lab
from lab.cli import main
from lab.experiments import declare, experiment_folder
from lab.export.source import Base
from lab.pairs import PairsError
from lab.run.config import ConfigError
from lab.sweeping import resolved
from lab.training.setup.executor_choice import choose_executor
from lab.world import HARD, open_world, world_of
from tests.helpers import open_tiny_worlds

FAST = {"steps": 1, "batch_size": 4, "device": "cpu", "background": False, "save_every": 0, "eval_prompts": 10, "eval_tokens": 24}


@pytest.fixture(autouse=True)
def tiny_worlds(monkeypatch: pytest.MonkeyPatch, lab_home: Path) -> None:
    open_tiny_worlds(monkeypatch)


@pytest.mark.parametrize(("pairs", "model"), [("world-hard", "world-hard"), ("world-hard:1", "world:2"), ("world", "world-hard")])
def test_a_run_is_judged_by_the_oracle_of_its_pairs(pairs: str, model: str) -> None:
    run = lab.train("dpo", pairs=pairs, model=model, **FAST)
    assert run.state == "finished", run.error
    assert run.manifest["config"]["model"] == model
    assert run.manifest["pairs_name"] == pairs.replace(":", "-")
    world = open_world(pairs)
    assert world_of(run.pair_store().source).name == pairs
    samples = [sample for detail in run.events("evaluation")["detail"] for sample in detail["samples"]]
    assert samples
    for sample in samples:
        assert sample["prompt"] in world.held_out_groups
        assert sample["reward"] == world.oracle(sample["prompt"], sample["answer"]).total


def test_worlds_differ_by_seed_and_kind() -> None:
    worlds = [open_world(name) for name in ("world", "world:1", "world-hard", "world-hard:1")]
    assert len({world.metadata["files"]["model/model.safetensors"] for world in worlds}) == 4
    assert len({world.held_out_prompts[0] for world in worlds}) > 1
    assert [world.spec.rules is HARD for world in worlds] == [False, False, True, True]
    assert len({lab.open_pairs(name).location for name in ("world", "world:0", "world:1", "world-hard")}) == 3


def test_an_experiment_over_base_models_builds_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = declare(["dpo"], 3, {"steps": 2}, {"model": ["world", "world:1", "world:2"]}, None)
    stages: list[str] = []
    folder = experiment_folder("bases")
    content = resolved(folder, declaration, progress=lambda stage, share: stages.append(stage))
    assert [run.config.model for run in content.runs] == ["world", "world:1", "world:2"]
    assert len(set(content.models.values())) == 3
    stages.clear()
    resolved(folder, declaration, progress=lambda stage, share: stages.append(stage))
    assert "tuning the model" not in stages


def test_a_wrong_seed_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PairsError, match="no embedded world 'world:x'; name one as"):
        lab.open_pairs("world:x")
    with pytest.raises(ConfigError, match="no embedded world 'world-hard:'"):
        lab.train("dpo", model="world-hard:", **FAST)
    with pytest.raises(ConfigError, match="no embedded world 'world:-1'"):
        lab.sweep(["dpo"], model=["world", "world:-1"], seeds=1, name="wrong")
    assert main(["world", "world:x"]) == 1
    assert "no embedded world 'world:x'" in capsys.readouterr().err


def test_the_command_describes_a_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "world-hard:1", "--sample", "2"]) == 0
    assert "The embedded world world-hard:1 (seed 1)" in (told := capsys.readouterr().out)
    assert told.count("chosen (") == 2


def test_it_is_known_wherever_a_model_is_named() -> None:
    config = lab.train("dpo", model="world:1", **FAST | {"evaluate": False}).config
    assert choose_executor(config).executor == "thread"
    base = Base("", "world:1")
    assert base.local
    assert Path(base.place()) == open_world("world:1").model_dir
