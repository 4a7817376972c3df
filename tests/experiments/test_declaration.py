"""Declarations and the runs that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import sweeping
from lab.experiments import Content, ExperimentFolder, declare, extended, plan, read_declaration
from lab.experiments.model_digest import model_digest
from lab.run.config import ConfigError
from tests.experiments.faked import MOMENT, PAIRS


def planned(*args, **more):
    return plan(declare(*args, **more), PAIRS, template_time=MOMENT)


def labels(runs):
    return list(dict.fromkeys(run.variant for run in runs))


def test_every_combination_is_run_with_every_seed():
    runs = planned(["dpo", {"name": "sgdpo", "r1": [0.6, 0.9]}], 3, {"learning_rate": [1e-4, "2e-4"], "steps": 9})
    assert len(runs) == len({run.key for run in runs}) == 3 * 2 * 3
    assert labels(runs) == [
        "dpo learning_rate=0.0001", "dpo learning_rate=0.0002",
        "sgdpo r1=0.6, learning_rate=0.0001", "sgdpo r1=0.9, learning_rate=0.0001",
        "sgdpo r1=0.6, learning_rate=0.0002", "sgdpo r1=0.9, learning_rate=0.0002",
    ]  # fmt: skip
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6 + [2] * 6  # so that half a sweep compares all variants
    assert {run.config.steps for run in runs} == {9}
    assert runs[2].config.objective.r1 == 0.6
    assert runs[2].varied == {"objective": "sgdpo", "r1": 0.6, "learning_rate": 1e-4}


def test_an_objective_may_have_settings_of_its_own():
    runs = planned([{"name": "dpo", "learning_rate": [1e-5, 1e-4]}, {"name": "simpo", "learning_rate": 3e-4}], [7])
    assert [(run.variant, run.config.learning_rate, run.seed) for run in runs] == [
        ("dpo learning_rate=1e-05", 1e-5, 7),
        ("dpo learning_rate=0.0001", 1e-4, 7),
        ("simpo learning_rate=0.0003", 3e-4, 7),
    ]


def test_a_parameter_goes_to_every_objective_that_has_it():
    runs = planned(["dpo", "sgdpo", "simpo"], 1, {"r1": 0.3, "beta": [0.1, 0.5]})
    assert [getattr(run.config.objective, "r1", None) for run in runs] == [None, None, 0.3, 0.3, None, None]
    assert labels(runs)[:2] == ["dpo beta=0.1", "dpo beta=0.5"]


def test_labels_can_be_given():
    runs = planned([{"name": "dpo", "label": "plain"}, {"name": "sgdpo", "label": "guided", "r1": [0.1, 0.2]}], 1)
    assert labels(runs) == ["plain", "guided r1=0.1", "guided r1=0.2"]


def test_settings_can_go_with_the_seed(tmp_path):
    declared = declare("dpo", 5, {}, {"model": ["a", "b"]})
    runs = plan(declared, PAIRS, template_time=MOMENT)
    assert [run.config.model for run in runs] == ["a", "b", "a", "b", "a"]
    assert labels(runs) == ["dpo"]


def test_the_key_is_the_content():
    one, same, other = (planned("dpo", 1, {"steps": steps})[0].key for steps in (9, 9, 10))
    assert one == same != other
    assert planned("dpo", 1, {"steps": 9, "alerts": "terminal"})[0].key == one
    wide = planned(["dpo", "sgdpo"], 4, {"steps": 9})
    assert one in {run.key for run in wide}  # another objective and more seeds leave it as it is


def test_another_model_under_the_same_name_makes_another_run(tmp_path: Path):
    for name, content in (("config.json", "{}"), ("model.safetensors", "1234")):
        (tmp_path / name).write_text(content)
    before = model_digest(str(tmp_path))
    assert model_digest(str(tmp_path)) == before != ""
    (tmp_path / "model.safetensors").write_text("1235")
    digests = {model_digest(str(tmp_path)), before, model_digest("org/model")}
    declared = declare("dpo", 1, {"model": str(tmp_path)})
    keys = {plan(declared, PAIRS, template_time=MOMENT, models={str(tmp_path): digest})[0].key for digest in digests}
    assert len(keys) == 3


def test_an_extension_keeps_what_there_is():
    before = declare("dpo", 2, {"learning_rate": 1e-4, "steps": 9})
    after = extended(before, objectives="sgdpo", seeds=3, settings={"learning_rate": [3e-4]})
    keys = {run.key for run in plan(after, PAIRS, template_time=MOMENT)}
    assert {run.key for run in plan(before, PAIRS, template_time=MOMENT)} < keys
    assert len(keys) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((["dpo", "sgdp"], 2), "There is no objective 'sgdp'; .* Did you mean 'sgdpo'?"),
        (([], 2), "Give the objectives"),
        (("dpo", 0), "seeds = 0 does not work"),
        (("dpo", [1, 1]), "has a seed twice"),
        (("dpo", ["a"]), "'a' in seeds is no seed"),
        (("dpo", 2, {"learning_rat": 1}), "'learning_rat' is no setting.* Did you mean 'learning_rate'?"),
        (("dpo", 2, {"steps": []}), "steps has an empty list"),
        (("dpo", 2, {"steps": [10, "x"]}), "steps = 'x' does not work"),
        (("dpo", 2, {"device": ["cpu", "cuda"]}), "device has 2 values"),
        (("dpo", 2, {"pairs_version": "follow"}), "cannot be follow"),
        ((["dpo", "dpo"], 2), "Two variants are called 'dpo'"),
        (({"name": "dpo", "r1": 0.2}, 2), "'r1' is no setting, and no parameter of dpo"),
        (("dpo", 2, {}, {"model": "a"}), "model needs a list"),
        (("dpo", 2, {}, {}, {"metric": "x"}), "compare has 'metric'.* Did you mean 'metrics'?"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_sentence(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        planned(*arguments)
    assert "\n" not in str(error.value)


GOOD = """
objectives:
  - dpo
  - {name: sgdpo, r1: [0.6, 0.9]}
seeds: 2
learning_rate: [1e-4, 2e-4]
steps: 20
compare: {metrics: [eval/oracle_reward], at: [end, kl]}
"""


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "rates.yaml"
    path.write_text(GOOD)
    name, declared = read_declaration(path)
    assert name == "rates"
    assert len(plan(declared, PAIRS, template_time=MOMENT)) == 12
    path.write_text(f"name: other\n{GOOD}")
    assert read_declaration(path)[0] == "other"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("objectives: [dpo", "is not valid YAML"),
        ("- dpo", "must hold keys"),
        ("objectives: dpo", "has no 'seeds'; add a line such as `seeds: 8`"),
        ("objective: dpo\nseeds: 2", "has 'objective'; call it 'objectives'"),
        ("objectives: dpo\nseeds: 2\nstep: 9", "has 'step': .* Did you mean 'steps'?"),
        ("objectives: dpo\nseeds: 2\nbetas: 9", "has 'betas': .* Did you mean 'beta'?"),
        ("objectives: dpo\nseeds: x", "seeds = 'x' does not work"),
        ("name: a/b\nobjectives: dpo\nseeds: 1", "'a/b' is no name"),
        ("objectives: dpo\nseeds: 2\nsteps: 1\nsteps: 2", "line 4, column 1: 'steps' is given twice"),
        ("objectives: dpo\nseeds: 2\nsteps: !!int x", "is not valid YAML: invalid literal"),
        ("objectives: dpo\nseeds: 2\ncompare: {metrics: !!set {eval/kl}}", "is no text, number, list or mapping"),
        ("objectives: dpo\nseeds: 2\nsteps: &a [*a]", "nested too deeply, or hold themselves"),
        (f"objectives: dpo\nseeds: 2\nsteps: {'[' * 2000}1{']' * 2000}", "nested too deeply"),
        ("objectives: dpo\nseeds: 20260131", "give at most 10,000. One seed is .20260131."),
        ("objectives: dpo\nseeds: 2\ncompare: no", "compare must hold keys"),
        ("objectives: [{name: dpo, label: yes}]\nseeds: 2", "label = True does not work: YAML reads yes"),
        ("objectives: [{name: dpo, label: [a, b]}]\nseeds: 2", "label = .'a', 'b'. does not work"),
        ("objectives: [{name: dpo, label: ' '}]\nseeds: 2", "label = ' ' does not work"),
        (
            "objectives: [dpo, {name: sgdpo, learning_rate: 1}]\nseeds: 2\nwith_seed: {learning_rate: [1e-4, 2e-4]}",
            "learning_rate is given twice",
        ),
    ],
)
def test_a_wrong_file_is_named_with_the_key(tmp_path: Path, text: str, sentence: str):
    path = tmp_path / "rates.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as error:
        read_declaration(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_values_of_a_file_mean_what_they_look_like(tmp_path: Path):
    """Dates are text, 1e-4 is a number, 0100 is no octal number, and an empty name or label is none."""
    path = tmp_path / "rates.yaml"
    entry = "{name: dpo, label: 2026-01-31, beta: [0100, 1e-1]}"
    path.write_text(
        f"name:\nobjectives: [{entry}, {{name: sgdpo, label: }}]\nseeds: 1\ntemplate_time: 2026-01-31T12:00:00\n"
        'compare: {baseline: "2026-01-31 beta=0100"}\n'
    )
    name, declared = read_declaration(path)
    assert name == "rates"
    assert declared.objectives[0]["beta"] == ["0100", 0.1]
    runs = plan(declared, PAIRS, template_time=MOMENT)
    assert labels(runs) == ["2026-01-31 beta=0100", "2026-01-31 beta=0.1", "sgdpo beta=0.1"]
    assert runs[0].config.objective.beta == 100
    folder = ExperimentFolder(tmp_path / "stored")
    folder.write(Content(declared, PAIRS, MOMENT, MOMENT))
    assert folder.read().declaration == declared
    assert extended(declared, settings={"template_time": "2026-01-31T12:00:00"}).settings == declared.settings


def test_a_rate_in_a_file_is_the_same_rate_in_an_extension(tmp_path: Path):
    path = tmp_path / "rates.yaml"
    path.write_text("objectives: dpo\nseeds: 1\nlearning_rate: 1e-4\n")
    after = extended(read_declaration(path)[1], settings={"learning_rate": [1e-4, 3e-4]})
    assert labels(plan(after, PAIRS, template_time=MOMENT)) == ["dpo learning_rate=0.0001", "dpo learning_rate=0.0003"]


def test_variants_are_told_apart_where_short_texts_do_not():
    runs = planned("dpo", 1, {"model": ["one/m", "other/m"], "learning_rate": [1e-4, 1.0000001e-4]})
    assert labels(runs) == [
        f"dpo model={model}, learning_rate={rate}" for model in ("one/m", "other/m") for rate in ("0.0001", "0.00010000001")
    ]


def test_a_model_that_is_no_path_is_left_to_the_check_of_models():
    for model in ("a" * 300, "~nobody-of-this-name/m", "a\0b"):
        assert model_digest(model) == ""
    with pytest.raises(ConfigError, match="model = 3 does not work"):
        plan(sweeping.declared("dpo", model=3, seeds=1)[1], PAIRS, template_time=MOMENT)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read"):
        read_declaration(tmp_path / "nothing.yaml")
