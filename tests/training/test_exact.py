"""A resumed run equals an uninterrupted one bit for bit, for every objective."""

from __future__ import annotations

import pytest
import torch

import lab
from lab.objectives import OBJECTIVES
from lab.training.setup import prepare
from tests.helpers import quick_first
from tests.training.run_comparison import asking, assert_same, interrupted, resumed, weights

SETTINGS = {
    "steps": 5,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 100,
    "device": "cpu",
    "eval_tokens": 8,
}
VARIANTS = [
    *((name, {}) for name in OBJECTIVES),
    ({"name": "alpha_dpo", "normalize": "dataset"}, {}),
    ({"name": "alpha_dpo", "ema_variant": "official"}, {"lora_rank": 2}),
    ({"name": "spo", "base": "alpha_dpo", "degraded_source": "both", "share": 0.5}, {}),
    ("sgdpo", {"lora_rank": 2, "lora_dropout": 0.3, "micro_batch_size": 2}),
    ("sgdpo", {"precision": "bfloat16"}),
    ("dpo", {"precision": "bfloat16", "lora_rank": 2, "micro_batch_size": 2}),
]


SAMPLED = ({"name": "spo", "degraded_source": "sampled"}, {"lora_rank": 2})
"""Samples answers at every step, which is slow."""


def label(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)


def quick_and_extended():
    """Every variant; quick are three objectives with draws, a state and a head of their own."""
    for number, (objective, extra) in enumerate(VARIANTS):
        quick = not extra and objective in ("sgdpo", "alpha_dpo", "spo")
        yield pytest.param(number, objective, extra, marks=() if quick else pytest.mark.extended)


@pytest.mark.parametrize(("number", "objective", "extra"), quick_and_extended(), ids=label)
def test_resumed_equals_uninterrupted(number, objective, extra, rows, model_folder, tmp_path):
    """With six pairs and batches of four, epochs end within batches."""
    whole = lab.train(objective, rows[:6], model_folder("llama"), background=False, **SETTINGS | extra)
    assert_same(resumed(interrupted(whole, 1 + number % 4, tmp_path / "part")), whole)


@pytest.mark.extended
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_bfloat16_training_follows_float32(lora_rank, rows, model_folder):
    """Matrix products are rounded to 8 bits, trained weights are not: the curves agree up to that rounding."""
    settings = SETTINGS | {"steps": 8, "lora_rank": lora_rank, "save_every": 0, "evaluate": False}
    runs = {
        precision: lab.train("dpo", rows[:8], model_folder("llama"), background=False, precision=precision, **settings)
        for precision in ("float32", "bfloat16")
    }
    first = {}
    for precision, run in runs.items():
        assert run.state == "finished", run.error
        (first[precision],) = [d for d in run.events("check")["detail"] if d["what"] == "loss at the first step"]
        assert first[precision]["passed"]
        assert not any("policy and reference differ" in d["message"] for d in run.events("warning")["detail"])
    assert abs(first["bfloat16"]["found"] - first["bfloat16"]["expected"]) < 0.02
    exact, rough = (run.scalars(["loss", "rewards/margins", "grad_norm"]) for run in runs.values())
    assert not exact.equals(rough)  # it is bfloat16
    assert exact["loss"].iloc[-1] < 0.9 * exact["loss"].iloc[0]
    assert (exact["loss"] - rough["loss"]).abs().max() < 0.1 * exact["loss"].iloc[0]
    trained = {tensor.dtype for name, tensor in weights(runs["bfloat16"].dir).items() if tensor.is_floating_point()}
    assert trained == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
@pytest.mark.parametrize(("objective", "extra"), [*VARIANTS, SAMPLED], ids=label)
def test_resumed_equals_uninterrupted_at_every_step(objective, extra, kind, rows, model_folder, tmp_path):
    whole = lab.train(objective, rows[:10], model_folder(kind), background=False, **SETTINGS | extra)
    for step in range(1, SETTINGS["steps"]):
        assert_same(resumed(interrupted(whole, step, tmp_path / str(step))), whole)


@pytest.mark.parametrize("objective", quick_first("sgdpo", "alpha_dpo", "spo"))
def test_stopped_and_resumed_equals_uninterrupted(objective, rows, model_folder, tmp_path):
    settings = SETTINGS | {"save_every": 0}
    whole = lab.train(objective, rows[:10], model_folder("llama"), background=False, **settings)
    folder = tmp_path / "part"
    part = lab.train(
        objective, rows[:10], model_folder("llama"), run_dir=folder, background=False, on_step=asking(folder, 2, "stop"), **settings
    )
    assert (part.state, part.step) == ("stopped", 2)
    again = lab.train(run_dir=folder, resume=True, background=False, on_step=asking(folder, 4, "stop"))
    assert (again.state, again.step) == ("stopped", 4)
    assert_same(resumed(folder), whole)


def test_a_resumed_run_keeps_its_attention_kernel(rows, model_folder, tmp_path, monkeypatch):
    """Kernels are timed at each start on a GPU; another kernel would change the last bits."""

    def choose(kernel):
        def chosen(policy, completions):
            policy.shared = kernel
            return {kernel: 1.0}

        monkeypatch.setattr(prepare, "choose_kernel", chosen)

    compared, compare = [], prepare.choose_layout

    def comparing(policy, completions, **more):
        compared.append(policy.shared)
        return compare(policy, completions, **more)

    monkeypatch.setattr(prepare, "choose_layout", comparing)
    choose("padded")
    whole = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS)
    assert compared == ["padded"]  # the kernel that trains
    choose("grouped")
    again = resumed(interrupted(whole, 2, tmp_path / "part"))
    assert compared[1:] == ["grouped", "padded"]  # its earlier kernel was compared too
    branch = lab.train(branch_from=whole, at=3, background=False)
    assert compared[3:] == ["grouped", "padded"]
    for run in (whole, again, branch):
        layouts = [detail["kernel"] for detail in run.events("check")["detail"] if "kernel" in detail]
        assert set(layouts) == {"padded"}
    assert_same(again, whole)
    assert_same(branch, whole, after=3)
    fresh = lab.train("dpo", rows[:6], model_folder("llama"), background=False, **SETTINGS)
    assert fresh.events("check")["detail"].iloc[0]["kernel"] == "grouped"
