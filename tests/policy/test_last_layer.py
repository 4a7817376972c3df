"""The last layer is computed only for tokens whose final state is read: fewer tokens, and the same numbers."""

import types

import pytest
import torch

from lab.policy import Lora, PromptAnswer, choose_layout, load_policy
from lab.policy.layout import shared
from tests.models import KINDS

COMPLETIONS = [
    PromptAnswer((5, 6, 7, 8, 9, 10), (11, 12, 13)),
    PromptAnswer((5, 6, 7, 8, 9, 10), (14,)),
    PromptAnswer((15, 16, 17, 18), (19, 20, 21, 22)),
    PromptAnswer((23,), (24, 25)),
]


def results(policy, pooling):
    """Log-probs, pooled states, and the gradient of a mixture of both."""
    found = policy.logps(COMPLETIONS, pooling=pooling)
    loss = (found.logps.sum(1) * torch.tensor([1.0, -0.5, 2.0, 0.3])).sum()
    loss = loss if found.hidden is None else loss + found.hidden.square().sum()
    gradient = torch.autograd.grad(loss, list(policy.parameters().values()), materialize_grads=True, allow_unused=True)
    return found.logps, found.hidden, torch.cat([g.flatten() for g in gradient])


def last_mlp(policy):
    return policy.module.model.get_base_model().model.layers[-1].mlp if policy.adapter else policy.model.model.layers[-1].mlp


@pytest.mark.parametrize("pooling", [None, "last", "mean"])
@pytest.mark.parametrize("lora", [None, Lora(2)])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_gradients_are_those_of_the_whole_layer(kind, lora, pooling, model_folder):
    policy = load_policy(str(model_folder(kind)), device="cpu", lora=lora)
    assert policy.narrow
    if lora is not None:  # B begins at 0, which would leave the gradient of A without a value
        for number, (name, parameter) in enumerate(policy.parameters().items()):
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    narrow = results(policy, pooling)
    assert policy.use_whole_last_layer()
    assert not policy.narrow
    whole = results(policy, pooling)
    for ours, expected in zip(narrow, whole):
        assert (ours is None) == (expected is None)
        if expected is not None:
            assert (ours - expected).norm() <= 1e-5 * expected.norm()


def test_the_last_layer_gets_the_read_tokens_alone(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    seen = []
    last_mlp(policy).register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    policy.logps(COMPLETIONS)
    tokens = shared(COMPLETIONS, torch.device("cpu")).ids.shape[1]
    policy.use_whole_last_layer()
    policy.logps(COMPLETIONS)
    assert seen == [tokens - 5 - 3, tokens]  # all of a prompt but its last token


def test_few_unread_tokens_are_not_left_out():
    long_answers = [PromptAnswer((5, 6, 7, 8), tuple(range(10, 30))), PromptAnswer((5, 6, 7, 8), tuple(range(20, 40)))]
    assert not shared(long_answers, torch.device("cpu")).shared.narrows
    assert shared(COMPLETIONS, torch.device("cpu")).shared.narrows


def test_a_layer_that_takes_its_cache_otherwise_is_computed_whole(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    layer = policy.model.model.layers[-1]
    patched, own = layer.forward, type(layer).forward

    class Other(type(layer)):
        def forward(self, hidden_states, cache=None, **others):
            return own(self, hidden_states, **others)

    layer.__class__ = Other
    layer.forward = types.MethodType(patched.__func__, layer)
    with pytest.raises(RuntimeError):
        policy.logps(COMPLETIONS)
    check = choose_layout(policy, COMPLETIONS)
    assert (check.layout, check.reason, policy.narrow) == ("shared", None, False)
    policy.logps(COMPLETIONS)
