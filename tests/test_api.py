"""`lab.train` as one calls it: parameters as keywords, resuming, branches; and its errors."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import lab
from lab.objectives import OBJECTIVES, make_objective
from lab.run.config import ConfigError, TrainConfig, with_parameters
from lab.store import read_manifest
from lab.twins import make_twins
from tests.helpers import until

SHORT = {"steps": 2, "batch_size": 4, "device": "cpu", "evaluate": False, "probe_budget": 0, "background": False}


@pytest.mark.parametrize("objective", ["sgdpo", {"name": "sgdpo", "r1": 0.2}, make_objective("sgdpo", r1=0.2)])
def test_keywords_are_settings_or_parameters_of_the_objective(objective):
    made, settings = with_parameters(objective, {"r1": 0.7, "steps": 9})
    assert TrainConfig.parse(objective=made, **settings).objective == make_objective("sgdpo", r1=0.7)
    assert settings == {"steps": 9}
    assert with_parameters(objective, {"steps": 9})[0] == objective


def test_no_setting_has_the_name_of_a_parameter():
    for name, kind in OBJECTIVES.items():
        assert not kind.model_fields.keys() & TrainConfig.model_fields.keys(), name


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"r3": 0.7}, r"no setting 'r3', and sgdpo has no such parameter \(it has .*r1, r2"),
        ({"step": 9}, "no setting 'step'.* Did you mean 'steps'"),
        ({"r1": 7}, "r1"),
        ({"like": "other"}, r"lab.train_twin\(run, objective\)"),
    ],
)
def test_other_keywords_are_refused(keywords, message, rows):
    for call in (lab.train, lab.preflight):
        with pytest.raises(ConfigError, match=message):
            call("sgdpo", rows, **keywords)
    assert lab.runs() == []


def test_parameters_of_a_run_and_of_its_branch(rows, model_folder):
    run = lab.train("sgdpo", rows, model_folder("gpt2"), r1=0.7, **SHORT)
    assert run.config.objective.r1 == 0.7
    branch = lab.train(branch_from=run, r1=0.5, **SHORT | {"steps": 3})
    assert branch.state == "finished", branch.error
    assert branch.config.objective == run.config.objective.replace(r1=0.5)


def test_resuming_a_finished_run_says_how_to_train_longer(rows, model_folder, caplog):
    run = lab.train("dpo", rows, model_folder("gpt2"), **SHORT)
    again = lab.train(run_dir=run.folder, resume=True, background=False)
    assert again.state == "finished"
    assert "has finished its 2 steps" in caplog.text
    assert f"lab.train(branch_from='{run.folder.name}', steps=4)" in caplog.text


def test_resuming_a_paused_run_names_the_other_way(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("gpt2"), **SHORT | {"steps": 100_000, "background": True})
    run.pause()
    until(lambda: run.state == "paused")
    with pytest.raises(lab.RunError, match=r"is paused .*run.resume\(\)"):
        lab.train(run_dir=run.folder, resume=True)
    run.stop()
    assert run.wait(60) == "stopped"


def test_future_warnings_of_transformers_are_not_shown():
    program = "import lab, warnings\n"
    for module in ("transformers.models.gpt2", "mine"):
        program += f"exec('import warnings; warnings.warn(\"from {module}\", FutureWarning)', {{'__name__': {module!r}}})\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "from mine" in done.stderr
    assert "from transformers" not in done.stderr


def test_interrupted_at_the_keyboard_it_says_where_and_how_to_go_on(rows, model_folder, caplog, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    run = lab.train("dpo", rows, model_folder("gpt2"), **SHORT | {"steps": 100_000, "background": True})
    until(lambda: run.step >= 1)
    with monkeypatch.context() as patched:
        patched.setattr("lab.run.handle.time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupted))
        with pytest.raises(KeyboardInterrupt):
            run.wait()
    assert "No longer waiting for" in caplog.text
    assert "it continues training until this program ends. run.stop() ends it with a checkpoint" in caplog.text
    run.stop()
    assert run.wait(60) == "stopped"
    with monkeypatch.context() as patched:
        patched.setattr("lab.starting.start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lab.train(run_dir=run.folder, resume=True, background=False)
    assert f"Stopped at step {run.step:,}; continue with lab.train(run_dir='{run.folder}', resume=True)" in caplog.text


def test_a_parameter_that_one_objective_has_can_be_a_keyword(rows, model_folder, tmp_path):
    dirs = (tmp_path / "a", tmp_path / "b")
    make_twins(("simpo", "sgdpo"), rows, model_folder("llama"), run_dirs=dirs, r1=0.7, gamma_beta_ratio=0.4, steps=2)
    one, other = (read_manifest(folder)["config"]["objective"] for folder in dirs)
    assert (one["gamma_beta_ratio"], other["r1"]) == (0.4, 0.7)


def test_a_parameter_of_both_or_of_none_is_refused():
    with pytest.raises(lab.ConfigError, match=r'^beta is a parameter of dpo and of sgdpo; say which .*"name": "dpo", "beta": 0.2'):
        lab.train_twins(("dpo", "sgdpo"), beta=0.2)
    with pytest.raises(lab.ConfigError, match=r"^There is no setting 'r3', and dpo has no .*, and sgdpo has no such"):
        lab.train_twins(("dpo", "sgdpo"), r3=0.2)
