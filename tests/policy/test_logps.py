"""Completion log-probs compared with the model's own logits, one row at a time, in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

import lab
from lab.policy import Encoder, PromptAnswer, choose_layout, completion_logps, load_policy
from lab.policy.logps import LinearHead, split_head, token_logps
from tests.models import KINDS


def one_by_one(policy, completion):
    """log p of each answer token from the whole model, which is in float64 for this."""
    ids = torch.tensor([[*completion.prompt, *completion.answer]])
    logps = policy.model(input_ids=ids).logits[0].log_softmax(-1)
    assert logps.dtype == torch.float64
    first = len(completion.prompt)
    return torch.stack([logps[first + i - 1, token] for i, token in enumerate(completion.answer)])


def some_completions(policy):
    encoder = Encoder(policy.tokenizer)
    texts = [
        ("How?\n", "Mix."),
        ("How do I bake a bread that rises?\n", "Knead the dough, then wait for an hour."),
        ("Why?\n", "x"),
    ]
    return [PromptAnswer(e.prompt, e.answer) for e in (encoder(p, a) for p, a in texts)]


@pytest.mark.parametrize("kind", KINDS)
def test_batch_equals_one_by_one(kind, model_folder):
    policy = load_policy(str(model_folder(kind)), device="cpu")
    completions = some_completions(policy)
    found = choose_layout(policy, completions)
    assert found.layout == "shared"
    assert found.difference < 1e-4
    with torch.no_grad():
        found = policy.logps(completions)
    policy.model.double()
    for row, completion in enumerate(completions):
        expected = one_by_one(policy, completion)
        length = len(completion.answer)
        assert found.mask[row].sum() == length
        assert (found.logps[row, :length].double() - expected).abs().max() < 1e-5
        assert (found.logps[row, length:] == 0).all()


def test_chunks_and_padding_change_nothing(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    completions = some_completions(policy)
    grads, values = [], []
    for elements, order in itertools.product((1 << 25, 700), (1, -1)):
        policy.model.zero_grad()
        picked = completions[::order]
        found = completion_logps(
            policy.module, picked, pad_id=policy.pad_id, device=policy.device, chunk_elements=elements, align=True
        )
        found.logps.square().sum().backward()
        values.append(found.logps.detach() if order == 1 else found.logps.detach().flip(0))
        grads.append(torch.cat([p.grad.flatten() for p in policy.model.parameters()]))
    for value, grad in zip(values[1:], grads[1:]):
        assert (value - values[0]).abs().max() < 1e-5
        assert (grad - grads[0]).norm() < 1e-5 * grads[0].norm()


def test_alignment_is_the_log_of_the_summed_squares():
    logits = torch.randn(5, 11)
    _, align = token_logps(lambda x: x, logits, torch.arange(5), align=True)
    assert torch.allclose(align, logits.softmax(-1).square().sum(-1).log(), atol=1e-6)


def test_float32_even_where_the_states_are_not():
    states = torch.randn(64, 300).bfloat16()
    found, _ = token_logps(lambda x: x * 10, states, torch.arange(64))
    exact = (states * 10).double().log_softmax(-1)[torch.arange(64), torch.arange(64)]
    assert found.dtype == torch.float32
    assert abs(float(found.double().sum() - exact.sum())) < 1e-2


def test_a_model_with_logits_of_its_own_falls_back(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.model.register_forward_hook(lambda m, a, out: setattr(out, "logits", out.logits * 3))
    completions = some_completions(policy)
    found = choose_layout(policy, completions)
    assert (found.layout, found.logits) == ("shared", "whole")
    assert "its logits are not those of its body and output layer alone" in found.reason
    with torch.no_grad():
        found = policy.logps(completions)
        ids = torch.tensor([[*completions[0].prompt, *completions[0].answer]])
        logps = policy.model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(completions[0].prompt)
    for i, token in enumerate(completions[0].answer):
        assert abs(found.logps[0, i] - logps[first + i - 1, token]) < 1e-4


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_pooled_states_read_the_answer_alone(pooling, model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    completions = some_completions(policy)
    with torch.no_grad():
        found = policy.logps(completions, pooling=pooling)
        c = completions[0]
        hidden = policy.model.model(input_ids=torch.tensor([[*c.prompt, *c.answer]])).last_hidden_state[0, len(c.prompt) :]
    expected = hidden[-1] if pooling == "last" else hidden.mean(0)
    assert (found.hidden[0] - expected).abs().max() < 1e-5


def test_empty_completions_are_refused(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    with pytest.raises(ValueError, match="empty answer"):
        policy.logps([PromptAnswer((0, 5), ())])


def test_lab_token_logps_is_the_public_way(model_folder, rows):
    policy = load_policy(str(model_folder("qwen2")), device="cpu")
    found = lab.token_logps(policy.model, policy.tokenizer, rows[:5])
    assert found.chosen.shape[0] == 5
    encoder = Encoder(policy.tokenizer)
    e = encoder(rows[3]["prompt"], rows[3]["rejected"])
    policy.model.double()
    expected = one_by_one(policy, PromptAnswer(e.prompt, e.answer))
    assert (found.rejected[3, : len(e.answer)].double() - expected).abs().max() < 1e-5
    assert split_head(policy.model).whole is False


@pytest.mark.parametrize("chunk", [1 << 20, 5 * 37])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_written_gradient_is_autograds(chunk, scale):
    """In float64 the gradients agree to the rounding of the float32 softmax between them."""
    torch.manual_seed(0)
    lm_head = torch.nn.Linear(16, 37, bias=False).double()
    targets = torch.randint(0, 37, (23,))
    found = []
    for linear in (LinearHead(lm_head, scale), None):
        lm_head.zero_grad()
        states = torch.randn(23, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
        project = lambda x: scale * lm_head(x)  # noqa: E731
        picked, align = token_logps(project, states, targets, linear=linear, align=True, chunk_elements=chunk)
        (picked * torch.linspace(-2, 3, 23)).sum().backward()
        found.append((picked.detach(), align, states.grad, lm_head.weight.grad))
    assert found[0][0].dtype == torch.float32
    for written, autograd in zip(*found):
        assert torch.allclose(written, autograd, atol=2e-6)


def test_the_written_gradient_under_autocast_and_for_frozen_weights():
    torch.manual_seed(0)
    lm_head = torch.nn.Linear(64, 300, bias=False)
    states, targets = torch.randn(50, 64, requires_grad=True), torch.randint(0, 300, (50,))
    exact = token_logps(lm_head, states, targets, linear=LinearHead(lm_head))[0]
    expected = torch.autograd.grad(exact.sum(), [states, lm_head.weight])
    for chunk in (1 << 20, 300 * 7):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = token_logps(lm_head, states, targets, linear=LinearHead(lm_head), chunk_elements=chunk)[0]
        assert found.dtype == torch.float32
        assert torch.allclose(found, exact, atol=0.1)
        for rough, true in zip(torch.autograd.grad(found.sum(), [states, lm_head.weight]), expected):
            assert (rough - true).norm() < 0.02 * true.norm()
    lm_head.requires_grad_(False)
    token_logps(lm_head, states, targets, linear=LinearHead(lm_head))[0].sum().backward()
    assert lm_head.weight.grad is None
    assert torch.allclose(states.grad, expected[0], atol=1e-5)


def test_a_head_that_does_more_than_multiply_is_left_to_autograd():
    plain = torch.nn.Linear(4, 5, bias=False)
    assert LinearHead(plain).plain
    assert not LinearHead(torch.nn.Linear(4, 5)).plain
    plain.register_forward_hook(lambda *_: None)
    assert not LinearHead(plain).plain
