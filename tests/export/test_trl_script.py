"""The script for TRL: for every objective TRL has, with the run's settings, and it trains what the run trained."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest
import torch

import lab
from lab.export import ExportError, recipe
from lab.export.trl import _RECIPES, SCRIPT, arguments
from lab.objectives import OBJECTIVES, make_objective
from lab.run.config import TrainConfig

pytest.importorskip("trl")
from tests.models import multimodal
from tests.objectives.test_objectives_trl import SHARED


def test_the_recipes_are_the_losses_that_were_found_equal():
    by_name = {name: (loss_type, theirs, ours) for loss_type, name, theirs, ours in SHARED}
    assert by_name.keys() | {"kto_pair", "cpo", "simpo", "orpo"} == _RECIPES.keys()
    for name, (loss_type, theirs, ours) in by_name.items():
        found = recipe(make_objective(name, beta=0.3, **ours))
        assert found.trainer == "DPO"
        theirs = {("discopop_tau" if key == "tau" else key): value for key, value in theirs.items()}
        assert found.arguments == {"loss_type": [loss_type], "beta": 0.3, **theirs}
    gamma = recipe(make_objective("simpo", beta=2.5, gamma_beta_ratio=0.4, label_smoothing=0.2)).arguments
    assert gamma == {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 1.0, "label_smoothing": 0.2, "cpo_alpha": 0.0}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_has_a_recipe_that_trl_takes_or_a_sentence(name, trained, tmp_path):
    import transformers
    import trl
    from trl.experimental import cpo, orpo

    configs = {"DPO": trl.DPOConfig, "KTO": trl.KTOConfig, "CPO": cpo.CPOConfig, "ORPO": orpo.ORPOConfig}
    config = TrainConfig.parse(objective=name, batch_size=6, micro_batch_size=4, schedule="constant", steps=9, device="cpu")
    if name not in _RECIPES:
        with pytest.raises(ExportError, match=f"TRL 1.16 has no {name}, so there is no script for it"):
            recipe(config.objective)
        return
    found = configs[recipe(config.objective).trainer](output_dir=str(tmp_path), bf16=False, **arguments(config))
    answers = 2 if name == "kto_pair" else 1
    assert found.per_device_train_batch_size * found.gradient_accumulation_steps == 6 * answers
    if config.objective.couples_pairs:
        assert found.gradient_accumulation_steps == 1
    assert found.lr_scheduler_type == transformers.SchedulerType.CONSTANT_WITH_WARMUP
    assert found.get_warmup_steps(9) == config.warmup_steps


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        ({"name": "dpo", "label_smoothing": 0.1}, "ignores label_smoothing"),
        ({"name": "ipo", "average": False}, "sums them"),
        ({"name": "bco_pair", "delta": 1.0}, "no shift"),
        ("sgdpo", "has no sgdpo"),
    ],
)
def test_what_trl_cannot_do_is_said_before_anything_is_written(objective, sentence, trained, tmp_path):
    run = trained(objective)
    with pytest.raises(ExportError, match=sentence):
        lab.export_run(run, tmp_path / "out", trl_script=True)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def exported(trained, chat_model, tmp_path, rows):
    """exported(objective, **settings): a run on one batch of eight pairs, so that the order does not matter, and its script."""

    def export(objective, pairs=None, **settings):
        one_batch = {"batch_size": 8, "steps": 2, "save_every": 0, "warmup_ratio": 0, "learning_rate": 1e-3}
        run = trained(objective, pairs or rows[:8], chat_model, **one_batch | settings)
        return run, lab.export_run(run, tmp_path / "out", trl_script=True)

    return export


def losses_of(folder):
    """Run the script here; the losses that TRL logged."""
    path = folder / SCRIPT
    code = path.read_text()
    ast.parse(code)
    space = {"__name__": "script", "__file__": str(path)}
    exec(compile(code, str(path), "exec"), space)
    trainers = []
    kind = next(value for name, value in space.items() if name.endswith("Trainer"))

    class Watched(kind):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            trainers.append(self)

    space[kind.__name__] = Watched
    with torch.random.fork_rng(devices=[]):
        space["main"]()
    return [line["loss"] for line in trainers[0].state.log_history if "loss" in line]


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("dpo", {}),
        pytest.param({"name": "ld_dpo", "alpha": 0.4}, {"weight_decay": 0.1, "schedule": "linear"}, marks=pytest.mark.slow),
        pytest.param("wpo", {}, marks=pytest.mark.slow),
        ("simpo", {}),
        ({"name": "cpo", "nll_weight": 0.0}, {"micro_batch_size": 4}),
    ],
    ids=["dpo", "ld_dpo", "wpo", "simpo", "cpo"],
)
def test_two_steps_in_trl_lose_what_the_run_lost(objective, settings, exported):
    run, folder = exported(objective, **settings)
    assert losses_of(folder) == pytest.approx(run.scalars(["loss"])["loss"].tolist(), abs=2e-4)


@pytest.mark.parametrize(("objective", "settings"), [("kto_pair", {}), ("orpo", {"lora_rank": 2, "lora_dropout": 0.1})])
def test_two_steps_in_trl_where_its_loss_is_another(objective, settings, exported):
    _, folder = exported(objective, **settings)
    assert len(losses_of(folder)) == 2
    assert "Differences:" in (folder / SCRIPT).read_text()


def test_conversations_go_to_trl_as_conversations(exported, rows):
    pairs = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows[:8]
    ]
    _, folder = exported("hinge", pairs)
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert [{name: line[name] for name in pairs[0]} for line in lines] == pairs
    assert {name for line in lines for name in line} == {*pairs[0], "lab_pair_id"}
    assert losses_of(folder)[0] == pytest.approx(1.0, abs=1e-4)


def test_a_set_that_mixes_plain_text_and_conversations_is_refused(trained, chat_model, rows, tmp_path):
    talk = {"prompt": [{"role": "user", "content": "Hi"}], "chosen": "Hello there.", "rejected": "No."}
    run = trained("dpo", [*rows[:8], talk], chat_model)
    with pytest.raises(ExportError, match="mixes both"):
        lab.export_run(run, tmp_path / "out", trl_script=True)
    assert (lab.export_run(run, tmp_path / "out") / "README.md").exists()


def test_the_pairs_are_those_of_the_run(rows, trained, tmp_path):
    import lab

    pairs = lab.open_pairs([{**row, "images": "a column that TRL would take for pictures"} for row in rows])
    pairs.edit(pairs.ids()[0], chosen="As it was when the run began.")
    run = trained("dpo", pairs)
    pairs.edit(pairs.ids()[0], chosen="As it is now.")
    folder = lab.export_run(run, tmp_path / "out", trl_script=True)
    lines = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    texts = {"prompt": rows[0]["prompt"], "chosen": "As it was when the run began.", "rejected": rows[0]["rejected"]}
    assert lines[0] == texts | {"lab_pair_id": pairs.ids()[0]}
    assert len(lines) == 50


@pytest.mark.slow
def test_the_script_runs_by_itself(exported):
    _, folder = exported("dpo", lora_rank=2)
    done = subprocess.run(
        [sys.executable, str(folder / SCRIPT)], capture_output=True, text=True, cwd=folder, env=os.environ, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "trl-output" / "adapter_model.safetensors").exists()


def test_the_script_trains_the_modules_that_the_run_trained(trained, tmp_path):
    """To TRL, all-linear would be the vision tower, too."""
    import transformers
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from safetensors.torch import load_file

    multimodal(tmp_path / "gemma")
    run = trained(model=tmp_path / "gemma", lora_rank=2, steps=1)
    folder = lab.export_run(run, tmp_path / "out", trl_script=True)
    (call,) = (
        node
        for node in ast.walk(ast.parse((folder / SCRIPT).read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LoraConfig"
    )
    config = LoraConfig(**{given.arg: ast.literal_eval(given.value) for given in call.keywords})
    model = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "gemma"), config)
    own = load_file(run.checkpoints()[-1] / "adapter_model.safetensors")
    assert get_peft_model_state_dict(model).keys() == own.keys()
    assert not any("vision" in name for name in own)
