"""Settings of a run at a step, from its list of changes and from its checkpoints."""

from __future__ import annotations

import json

import pytest

from lab.run.checkpoints import START, checkpoints_by_step, find_checkpoint
from lab.run.config import ConfigError, TrainConfig
from lab.run.handle import Run
from lab.run.settings import checkpoint_settings, pairs_version_at, settings_at
from lab.store import Change, StoreWriter, write_changes
from lab.store.folder import METADATA_FILE
from lab.training.run_folder import create_run

CONFIG = TrainConfig.parse(objective={"name": "dpo", "beta": 0.1}, learning_rate=1e-3, template_time="2026-01-01T00:00:00")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    create_run(folder, CONFIG, pairs_store="", pairs_version=3, pairs_name="own")
    StoreWriter(folder).close()
    write_changes(folder, [Change(2, {"beta": 0.2}), Change(4, {}, 5), Change(4, {"learning_rate": 1e-4})])
    return Run(folder)


def checkpoint(folder, step, config=CONFIG):
    folder.mkdir(parents=True)
    (folder / METADATA_FILE).write_text(json.dumps({"step": step, "settings": config.model_dump(mode="json")}))
    return folder


@pytest.mark.parametrize(
    ("step", "beta", "rate", "version"),
    [(0, 0.1, 1e-3, 3), (1, 0.1, 1e-3, 3), (2, 0.2, 1e-3, 3), (3, 0.2, 1e-3, 3), (4, 0.2, 1e-4, 5), (9, 0.2, 1e-4, 5)],
)
def test_a_change_holds_from_the_step_after_it(run, step, beta, rate, version):
    for source in (run, run.folder):
        settings = settings_at(source, step)
        assert (settings.objective.beta, settings.learning_rate, pairs_version_at(source, step)) == (beta, rate, version)


def test_without_a_step_they_are_those_of_now(run):
    assert settings_at(run) == settings_at(run.folder) == run.settings == CONFIG, "the run has done no step"


def test_a_checkpoint_keeps_its_own(run):
    saved = CONFIG.model_copy(update={"micro_batch_size": 4})
    assert checkpoint_settings(checkpoint(run.folder / "checkpoints" / "step-4", 4, saved)) == saved


def test_a_branch_begins_with_the_settings_that_it_was_made_with(run):
    other = CONFIG.model_copy(update={"learning_rate": 1.0})
    assert checkpoint_settings(checkpoint(run.folder / START, 6, other)) == CONFIG
    assert find_checkpoint(run.folder) == run.folder / START


def test_the_nearest_checkpoint_is_named(run):
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        find_checkpoint(run.folder)
    for step in (400, 450, 500):
        checkpoint(run.folder / "checkpoints" / f"step-{step}", step)
    assert list(checkpoints_by_step(run.folder)) == [400, 450, 500]
    assert find_checkpoint(run.folder, 450).name == "step-450"
    with pytest.raises(ConfigError, match=r"no checkpoint of step 100; the nearest is that of step 400 \(kept: 400, 450, 500\)"):
        find_checkpoint(run.folder, 100)
