"""Sampled answers: reproducible, with their own token ids, and without changing global generators."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
import torch

from lab.policy import Lora, ModelError, Policy, is_untouched, load_policy, reference_model, sample, sample_answers, sampling

PROMPTS = ["How do I bake bread?", "And a longer question: how do I bake bread?", "Why?"]


@pytest.fixture
def policy(model_folder):
    return load_policy(str(model_folder("llama")), device="cpu")


def test_the_same_seed_gives_the_same_answers_and_global_generators_stay(policy):
    before = torch.get_rng_state()
    one, other, third = (sample(policy, PROMPTS, per_prompt=2, max_new_tokens=8, seed=seed) for seed in (1, 1, 2))
    assert one == other != third
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.model.training
    assert [len(given) for given in one] == [2, 2, 2]
    assert sample_answers(policy, PROMPTS, per_prompt=2, max_new_tokens=8, seed=1) == [[a.text for a in given] for given in one]


def test_batches_draw_apart(policy):
    """Each batch has random numbers of its own: a CPU's generator reads the lowest 32 bits of its seed alone."""
    found = [one.ids for (one,) in sample(policy, PROMPTS[:1] * 6, max_new_tokens=12, seed=0, batch_size=2)]
    assert len(set(found)) == 6


def test_tokens_are_drawn_with_their_probability():
    """Also at another temperature; a token of probability 0 is never drawn."""
    logits = torch.tensor([[0.0, 2.0, -torch.inf, 1.0]]).repeat(20_000, 1)
    for temperature in (1.0, 0.5):
        left = sampling._Draw(temperature, seed=3)(torch.empty(0), logits)
        drawn = torch.bincount(left.argmax(-1), minlength=4) / len(logits)
        assert (drawn - (logits[0] / temperature).softmax(-1)).abs().max() < 0.012  # 3.5 standard deviations
        assert drawn[2] == 0


def test_answers_of_a_broken_model_are_refused(policy):
    with torch.no_grad():
        policy.model.lm_head.weight[0].fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        sample(policy, PROMPTS, max_new_tokens=4)


def test_an_answer_ends_with_its_end_token_or_was_cut(policy):
    end = policy.tokenizer.eos_token_id
    with torch.no_grad():  # every token is as likely as any other
        policy.model.lm_head.weight.zero_()
    found = [a for given in sample(policy, PROMPTS, per_prompt=200, max_new_tokens=100, seed=0) for a in given]
    assert {a.ended for a in found} == {True, False}
    for answer in found:
        assert (answer.ids[-1] == end) == answer.ended
        assert end not in answer.ids[:-1]
        assert answer.ended or len(answer.ids) == 100
        assert "</s>" not in answer.text


HABITS: dict[str, Any] = {
    "suppress_tokens": list(range(2, 200)),
    "begin_suppress_tokens": list(range(2, 200)),
    "bad_words_ids": [[number] for number in range(2, 200)],
    "forced_eos_token_id": 1,
    "forced_bos_token_id": 3,
    "epsilon_cutoff": 0.02,
    "eta_cutoff": 0.02,
    "guidance_scale": 3.0,
    "max_time": 0.0001,
    "num_return_sequences": 3,
    "return_dict_in_generate": True,
    "output_logits": True,
    "stop_strings": ["e", "a"],
    "sequence_bias": [[[5], 99.0]],
    "min_new_tokens": 12,
    "min_length": 300,
    "max_length": 3,
    "max_new_tokens": 2,
    "exponential_decay_length_penalty": [1, 9.0],
    "cache_implementation": "static",
    "watermarking_config": {"bias": 9.0, "greenlist_ratio": 0.1},
    "prompt_lookup_num_tokens": 3,
    "assistant_early_exit": 1,
    "num_beams": 4,
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "renormalize_logits": True,
    "use_cache": False,
    "do_sample": False,
    "temperature": 0.1,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "top_k": 1,
    "top_p": 0.1,
    "min_p": 0.9,
    "typical_p": 0.1,
    "a_habit_of_the_future": 7,
}


@pytest.mark.parametrize("habits", [*({name: value} for name, value in HABITS.items()), HABITS], ids=[*HABITS, "all"])
def test_habits_that_a_published_model_brings_do_not_bend_the_distribution(habits, model_folder, policy, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    (folder / "generation_config.json").write_text(json.dumps(habits))
    other = load_policy(str(folder), device="cpu")
    for temperature in (1.0, 0.0):
        how = {"max_new_tokens": 12, "temperature": temperature}
        assert sample(other, PROMPTS, **how) == sample(policy, PROMPTS, **how)
    other.save(tmp_path / "saved")
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    if "num_return_sequences" not in habits:  # transformers reads this one only beside others, and saves it only there
        name = "suppress_tokens" if len(habits) > 1 else next(iter(habits))
        assert name == "watermarking_config" or kept[name] == habits[name]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2", "mistral"])
def test_what_is_sampled_is_what_the_policy_gives_its_probability_to(kind, model_folder):
    """Greedy tokens are the argmax of the policy's own logits; sampled first tokens come as often as it says; nothing is added."""
    policy = load_policy(str(model_folder(kind)), device="cpu")
    for (answer,) in sample(policy, PROMPTS, max_new_tokens=8, temperature=0.0):
        row = torch.tensor([[*answer.prompt, *answer.ids]])
        with policy.evaluating():
            logits = policy.model(input_ids=row).logits[0, len(answer.prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == list(answer.ids)
    with policy.evaluating():
        prompt = torch.tensor([policy.encoder().prompt(PROMPTS[0]).prompt])
        expected = policy.model(input_ids=prompt).logits[0, -1].softmax(-1)
    drawn = sample(policy, PROMPTS[:1], per_prompt=4000, max_new_tokens=1, batch_size=4000)[0]
    counts = torch.bincount(torch.tensor([answer.ids[0] for answer in drawn]), minlength=len(expected))
    assert float((counts / len(drawn) - expected).abs().sum() / 2) < 0.5 * (expected.numel() / len(drawn)) ** 0.5 + 0.01
    logps = policy.logps([answer.completion for answer in drawn[:50]]).logps[:, 0]
    assert torch.allclose(logps, expected.log()[[answer.ids[0] for answer in drawn[:50]]], atol=1e-4)


def test_turns_end_with_every_token_the_model_was_made_to_end_them_with(policy):
    policy.model.generation_config.eos_token_id = list(range(2, 320))
    assert {len(a.ids) for given in sample(policy, PROMPTS, per_prompt=10, seed=0) for a in given} <= {1, 2}


LONG = "How do I bake bread? " * 9


def test_a_prompt_is_asked_as_training_has_it(policy):
    encoder = policy.encoder(64)
    short = LONG[: len(LONG) // 2]
    trained = encoder(short, "First mix the flour.")
    assert trained.prompt_cut == 0
    assert len(trained.prompt) > 32
    given = sample(policy, [short, LONG * 2], max_new_tokens=100, max_length=64)
    answers = [one for (one,) in given]
    assert answers[0].prompt == trained.prompt
    assert answers[0].prompt_cut == 0
    assert len(answers[0].ids) > 64 - len(trained.prompt) or answers[0].ended
    assert len(answers[1].prompt) == 64
    assert answers[1].prompt_cut == len(policy.encoder(10**6)(LONG * 2, "").prompt) - 64


@pytest.mark.parametrize(("tokens", "asked"), [(30, 482), (200, 312), (300, 256), (9999, 256)])
def test_a_prompt_makes_way_for_the_answer_where_the_model_ends(policy, tokens, asked):
    assert policy.positions == 512
    (only,) = sample(policy, [LONG * 20], max_new_tokens=tokens, max_length=4000)[0]
    assert len(only.prompt) == asked
    assert only.ended or len(only.ids) == min(tokens, 512 - asked)


def test_between_batches_nothing_is_locked_or_switched(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu", lora=Lora(rank=2))
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(0.3)
    completion = sample(policy, PROMPTS[:1], max_new_tokens=4, seed=0)[0][0].completion
    own = policy.logps([completion]).logps
    calls = []

    def progress(done, total):
        calls.append((done, total))
        assert torch.equal(policy.logps([completion]).logps, own)  # the adapter is on
        assert torch.is_grad_enabled()

    sample(policy, PROMPTS, per_prompt=2, max_new_tokens=4, batch_size=4, reference=True, progress=progress)
    assert calls == [(4, 6), (6, 6)]


def test_the_reference_model_is_the_one_the_run_began_with(model_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    for lora in (None, Lora(rank=2)):
        policy = load_policy(str(folder), device="cpu", lora=lora)
        assert is_untouched(policy)
        completion = sample(policy, PROMPTS[:1], max_new_tokens=4, seed=0)[0][0].completion
        began = policy.logps([completion]).logps.detach()
        with torch.no_grad():
            for parameter in policy.parameters().values():
                parameter.add_(0.1)
        assert not is_untouched(policy)
        with reference_model(policy, str(folder)) as reference, reference.evaluating(), reference.reference():
            assert torch.equal(reference.logps([completion]).logps, began)
        assert not torch.allclose(policy.logps([completion]).logps, began)
    policy = load_policy(str(folder), device="cpu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(ModelError, match="not the one this run began with"), reference_model(policy, str(folder)):
        pass


def own_greedy(policy: Any, answer: Any) -> bool:
    """Whether every token of an answer is the likeliest one to the model that reads the row by itself, at once."""
    row = torch.tensor([[*answer.prompt, *answer.ids]])
    with policy.evaluating():
        logits = policy.model(input_ids=row, use_cache=False).logits[0, len(answer.prompt) - 1 : -1]
    return logits.argmax(-1).tolist() == list(answer.ids)


def test_a_model_that_reads_the_padding_is_sampled_without_any():
    from tests.models import tokenizer
    from tests.policy.architectures import make_random

    message = tokenizer()
    policy = Policy(make_random("rwkv", vocabulary=len(message)), message, torch.device("cpu"))
    answers = [given[0] for given in sample(policy, [*PROMPTS, PROMPTS[0]], max_new_tokens=6, temperature=0.0)]
    assert policy.sampling_way > 0
    assert all(own_greedy(policy, answer) for answer in answers)


def test_a_model_whose_cache_is_wrong_is_sampled_without_it(policy):
    def fault(_: Any, given: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if kwargs["input_ids"].shape[1] == 1:  # a later token, with what was read before in the cache
            output.logits = output.logits.roll(7, -1)
        return output

    with policy.model.register_forward_hook(fault, with_kwargs=True):
        answers = [given[0] for given in sample(policy, PROMPTS, max_new_tokens=6, temperature=0.0)]
    assert policy.sampling_way == 2
    assert all(own_greedy(policy, answer) for answer in answers)
