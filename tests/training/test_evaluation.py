"""Evaluations: exact after a resume, interruptible, and with a correct estimate of the distance to the reference."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

import lab
from lab.api import make_run
from lab.policy import Answer, Lora, load_policy, reference_model, sample
from lab.training.evaluation import evaluator
from lab.training.evaluation.sampled_answers import answer_metrics, cached_answers, kl_divergence, kl_metrics, repetition
from tests.helpers import until
from tests.models import make_reward_model

pytestmark = pytest.mark.extended

FAST = {
    "steps": 4,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 2,
    "keep_checkpoints": 9,
    "eval_every": 2,
    "held_out": 0.2,
    "eval_prompts": 3,
    "eval_tokens": 6,
    "device": "cpu",
    "background": False,
}
MEASURED = ["eval/loss", "eval/rewards/accuracies", "eval/rewards/margins", "eval/logps/chosen", "eval/logps/rejected"]
SAMPLED = ["eval/kl", "eval/completions/mean_length", "eval/completions/clipped_ratio", "eval/repetition"]


def evaluations(run):
    events = run.events("evaluation")
    return events["step"].tolist(), [{k: v for k, v in detail.items() if k != "seconds"} for detail in events["detail"]]


@pytest.mark.parametrize("extra", [{}, {"lora_rank": 2, "lora_dropout": 0.2}])
def test_evaluations_before_during_and_after_training(extra, rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **FAST | extra)
    assert run.state == "finished", run.error
    frame = run.scalars(MEASURED + SAMPLED)
    assert frame.index.tolist() == [0, 2, 4]
    assert np.isfinite(frame.to_numpy()).all()
    assert math.isclose(frame["eval/loss"][0], math.log(2), abs_tol=1e-4)
    assert frame["eval/rewards/margins"][4] > frame["eval/rewards/margins"][0]
    assert abs(frame["eval/kl"][0]) < 1e-9 < frame["eval/kl"][4]
    steps, details = evaluations(run)
    assert steps == [0, 2, 4]
    assert details[0]["kl_se"] < 1e-9 < details[2]["kl_se"]
    assert details[2]["kl_low"] <= frame["eval/kl"][4] <= details[2]["kl_high"]
    held_out = {p.id: p.prompt for p in lab.open_pairs(rows).all() if p.id in run.events("held_out")["detail"].iloc[0]["pairs"]}
    for detail in details:
        assert len(detail["samples"]) == 3
        assert {sample["prompt"] for sample in detail["samples"]} <= set(held_out.values())
        assert all(sample.keys() == {"prompt", "answer", "reference_answer"} for sample in detail["samples"])
    # the reference stays what it was
    assert [s["reference_answer"] for s in details[1]["samples"]] == [s["reference_answer"] for s in details[2]["samples"]]


def test_full_fine_tuning_and_an_adapter_have_the_same_reference(rows, model_folder):
    runs = [lab.train("dpo", rows, model_folder("llama"), **FAST, lora_rank=rank) for rank in (0, 2)]
    full, adapter = (evaluations(run)[1][-1]["samples"] for run in runs)
    assert [s["reference_answer"] for s in full] == [s["reference_answer"] for s in adapter]


@pytest.mark.parametrize(("objective", "extra"), [("sgdpo", {}), ({"name": "spo", "base": "alpha_dpo"}, {"lora_rank": 2})])
def test_evaluations_of_a_resumed_run_equal_those_of_an_uninterrupted_one(objective, extra, rows, model_folder, tmp_path):
    whole = lab.train(objective, rows, model_folder("llama"), run_dir=tmp_path / "whole", **FAST | extra)
    part = lab.train(objective, rows, model_folder("llama"), run_dir=tmp_path / "part", **FAST | extra)
    for folder in part.checkpoints()[1:]:
        shutil.rmtree(folder)
    resumed = lab.train(run_dir=tmp_path / "part", resume=True, background=False)
    assert resumed.events("resumed")["step"].tolist() == [2]
    assert evaluations(whole) == evaluations(resumed)  # one per step, although step 2 was evaluated twice
    assert whole.scalars(MEASURED + SAMPLED).equals(resumed.scalars(MEASURED + SAMPLED))
    assert whole.held_out().equals(resumed.held_out())


def test_evaluations_change_no_number_of_the_training(rows, model_folder):
    settings = FAST | {"lora_rank": 2, "lora_dropout": 0.3}
    often, never = (lab.train("sgdpo", rows, model_folder("llama"), **settings | {"eval_every": every}) for every in (1, 0))
    assert evaluations(often)[0] == [0, 1, 2, 3, 4]
    assert evaluations(never)[0] == [0, 4]
    assert often.scalars(["loss", "grad_norm"]).equals(never.scalars(["loss", "grad_norm"]))


def test_a_stop_interrupts_an_evaluation(rows, model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluator, "SAMPLING_BATCH", 1)
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))  # without answers of the reference
    settings = FAST | {"eval_prompts": 8, "eval_tokens": 40, "eval_every": 0, "background": True, "held_out": 0.4}
    run = lab.train("dpo", rows, model_folder("llama"), run_dir=tmp_path / "run", **settings)
    until(lambda: (stage := str(run.status.get("stage"))).startswith("sampling") and " of " in stage, run=run)
    run.stop()
    assert run.wait(60) == "stopped", run.error
    assert run.step == 0
    assert evaluations(run)[0] == []
    resumed = lab.train(run_dir=tmp_path / "run", resume=True, background=False)
    assert resumed.state == "finished", resumed.error
    assert evaluations(resumed)[0] == [0, 4]
    whole = lab.train("dpo", rows, model_folder("llama"), **settings | {"background": False})
    assert evaluations(whole) == evaluations(resumed)


def test_a_reward_model_judges_where_there_is_no_oracle(rows, model_folder, tmp_path):
    make_reward_model(tmp_path / "reward")
    run = lab.train("dpo", rows, model_folder("llama"), **FAST, reward_model=str(tmp_path / "reward"))
    assert run.state == "finished", run.error
    frame = run.scalars(["eval/reward", "eval/win_rate"])
    assert frame.index.tolist() == [0, 2, 4]
    for detail in evaluations(run)[1]:
        assert detail["reward_low"] <= detail["eval/reward"] <= detail["reward_high"]
        assert 0 <= detail["win_low"] <= detail["eval/win_rate"] <= detail["win_high"] <= 1
    from lab.policy.reward_model import RewardModel

    shown = evaluations(run)[1][1]["samples"]  # one answer a prompt, all of them shown
    scores = RewardModel(str(tmp_path / "reward"), device="cpu").score([s["prompt"] for s in shown], [s["answer"] for s in shown])
    assert [s["reward"] for s in shown] == pytest.approx(scores, abs=1e-5)
    assert np.mean(scores) == pytest.approx(frame["eval/reward"][2], abs=1e-5)


def test_a_wrong_reward_model_leaves_no_run_behind(rows, model_folder):
    for source, sentence in ((str(model_folder("llama")), "is no reward model"), ("/not/here", "/not/here cannot be loaded")):
        with pytest.raises(lab.ModelError, match=sentence):
            lab.train("dpo", rows, model_folder("llama"), **FAST, reward_model=source)
    assert lab.runs() == []


def test_a_missing_reward_model_fails_the_run_during_preparation(rows, model_folder, tmp_path):
    make_reward_model(tmp_path / "reward")
    settings = {name: value for name, value in FAST.items() if name != "background"}
    folder = make_run("dpo", rows, model_folder("llama"), **settings, reward_model=str(tmp_path / "reward"))
    shutil.rmtree(tmp_path / "reward")
    run = lab.train(run_dir=folder, resume=True, background=False)
    assert run.state == "failed"
    assert "reward cannot be loaded" in run.error
    assert run.events("reference").empty


def test_no_evaluation_without_held_out_pairs(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **FAST | {"held_out": 0})
    assert run.state == "finished"
    assert run.events("evaluation").empty


# Sampled answers and their cache.


def test_answers_are_sampled_for_the_prompts_as_training_encodes_them(rows, model_folder, monkeypatch):
    sampled = []
    monkeypatch.setattr(
        evaluator, "kl_divergence", lambda p, r, answers, **how: sampled.extend(answers) or kl_divergence(p, r, answers, **how)
    )
    long = [row | {"prompt": row["prompt"] + "Tell me " + "more " * 3, "chosen": "Mix.", "rejected": "No."} for row in rows]
    run = lab.train("dpo", long, model_folder("llama"), **FAST, max_length=64)
    assert run.state == "finished", run.error
    assert not run.preflight().findings  # nothing had to be cut
    policy = load_policy(str(model_folder("llama")), device="cpu")
    trained = {policy.encoder(64)(row["prompt"], row["chosen"]).prompt for row in long}
    assert min(map(len, trained)) > 32
    assert {given[0].prompt for given in sampled} <= trained
    assert [(detail["prompts"], detail["prompts_cut"]) for detail in evaluations(run)[1]] == [(3, 0)] * 3
    (cut,) = {d["prompts_cut"] for d in evaluations(lab.train("dpo", long, model_folder("llama"), **FAST, max_length=24))[1]}
    assert cut == 3


def test_the_answer_cache_depends_on_template_end_tokens_and_precision(rows, model_folder, tmp_path, monkeypatch):
    """None of these settings changes the weights, and with them the model's fingerprint."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    talks = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]

    def cached(**settings):
        run = lab.train("dpo", talks, folder, **FAST | {"steps": 1} | settings)
        assert run.state == "finished", run.error
        return len(list((tmp_path / "cache" / "answers").iterdir()))

    def write(name, **metadata):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | metadata))

    write("tokenizer_config.json", chat_template="{% for m in messages %}[{{ m['content'] }}]{% endfor %}")
    assert [cached(), cached()] == [1, 1]
    write("tokenizer_config.json", chat_template="{% for m in messages %}<{{ m['content'] }}>{% endfor %}")
    assert cached() == 2
    write("generation_config.json", eos_token_id=[1, *range(40, 80)])
    assert cached() == 3
    assert cached(precision="bfloat16", lora_rank=0) == 4
    assert cached(learning_rate=1e-4) == 4


# The distance to the reference.


@pytest.fixture
def shifted(model_folder):
    """Return a policy with an adapter that differs a little from its reference."""
    policy = load_policy(str(model_folder("llama")), device="cpu", lora=Lora(rank=2))
    with torch.no_grad():
        for name, parameter in policy.parameters().items():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return policy


def exact_kl(policy, prompt):
    """Return the KL divergence of the next token, from all logits in float64."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        own = policy.model(ids).logits[0, -1].double().log_softmax(-1)
        with policy.reference():
            other = policy.model(ids).logits[0, -1].double().log_softmax(-1)
    return float((own.exp() * (own - other)).sum())


def test_the_kl_estimate_is_unbiased_and_its_interval_covers_the_exact_value(shifted):
    prompts = [f"Question {i}: how do I bake bread?" for i in range(3)]
    answers = sample(shifted, prompts, per_prompt=700, max_new_tokens=1, seed=0, batch_size=512)
    exact = [exact_kl(shifted, given[0].prompt) for given in answers]
    hits = 0
    for number, given in enumerate(answers):
        alone = [[answer] for answer in given]
        scalars, detail = kl_metrics(kl_divergence(shifted, shifted, alone, batch_size=512, progress=lambda done, total: None))
        assert scalars["eval/kl"] == pytest.approx(exact[number], abs=5 * detail["kl_se"])
        hits += detail["kl_low"] <= exact[number] <= detail["kl_high"]
        assert detail["kl_se"] < exact[number] / 3
    assert hits >= 2
    means = kl_divergence(shifted, shifted, answers, batch_size=512, progress=lambda done, total: None)
    assert np.mean(means) == pytest.approx(np.mean(exact), rel=0.2)


def test_the_kl_estimate_sums_k3_over_the_tokens_of_an_answer(shifted):
    (given,) = sample(shifted, ["How do I bake bread?"], per_prompt=3, max_new_tokens=7, seed=2)
    expected = []
    for answer in given:
        ids = torch.tensor([[*answer.prompt, *answer.ids]])
        places = range(len(answer.prompt) - 1, ids.shape[1] - 1)
        with torch.no_grad():
            own = shifted.model(ids).logits[0].double().log_softmax(-1)
            with shifted.reference():
                other = shifted.model(ids).logits[0].double().log_softmax(-1)
        log_r = [float(other[i, ids[0, i + 1]] - own[i, ids[0, i + 1]]) for i in places]
        expected.append(sum(math.exp(x) - 1 - x for x in log_r))
    estimates = kl_divergence(shifted, shifted, [[answer] for answer in given], batch_size=2, progress=lambda done, total: None)
    assert estimates == pytest.approx(expected, rel=1e-3)


def test_kl_is_zero_for_equal_policy_and_reference(model_folder):
    source = str(model_folder("llama"))
    policy = load_policy(source, device="cpu")
    answers = sample(policy, ["Why?", "How do I bake bread?"], max_new_tokens=5, seed=0)
    with reference_model(policy, source) as reference:
        assert kl_divergence(policy, reference, answers, progress=lambda done, total: None) == [0, 0]


# Metrics of answers.


def test_repetition_is_the_share_of_repeated_four_grams():
    assert repetition("") == repetition("one two three") == repetition("one two three four") == 0
    assert repetition("a b c d e f g h") == 0
    assert repetition("knead the dough well " * 3) == 1 - 4 / 9
    assert repetition("no no no no no no no") == 1 - 1 / 4


def test_answer_length_and_clipped_ratio():
    answers = [[Answer("a b", (1,), (5, 6, 1), True), Answer("a", (1,), (5,), False)], [Answer("", (1,), (1,), True)]]
    metrics = answer_metrics(answers)
    assert metrics["eval/completions/mean_length"] == pytest.approx(5 / 3)
    assert metrics["eval/completions/clipped_ratio"] == pytest.approx(1 / 3)


def test_cached_answers_are_sampled_once_and_again_after_damage(tmp_path):
    made = [[Answer("a", (1, 2), (3, 4), True, 7)], [Answer("ü", (1,), (3,), False)]]
    calls = []

    def make():
        calls.append(1)
        return made

    for _ in range(2):
        assert cached_answers(tmp_path, [1, "x"], make) == made
    assert len(calls) == 1
    cached_answers(tmp_path, [2, "x"], make)
    assert len(calls) == 2
    for path in tmp_path.iterdir():
        path.write_text(path.read_text()[:-9])
    assert cached_answers(tmp_path, [2, "x"], make) == made
    assert len(calls) == 3
    assert cached_answers(tmp_path, [2, "x"], make) == made
    assert len(calls) == 3
