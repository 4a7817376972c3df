"""Checks before a run: models with one defect each are refused, or computed in another layout."""

from __future__ import annotations

import types
from dataclasses import replace

import numpy
import pytest
import torch
from torch import nn

from lab.policy import Lora, ModelError, ReferenceCache, choose_layout, load_policy
from lab.policy.checks.dropout import adapter_dropout_off, drawing_modules, switch_dropout_off
from tests.policy.test_layouts import SHAPE, completions_of

COMPLETIONS = completions_of(SHAPE)


def broken(model_folder, change, *, layer=0, **settings):
    """A Llama whose layer gives `change(module, its output)`."""
    policy = load_policy(str(model_folder("llama")), device="cpu", **settings)
    base = policy.model.get_base_model() if policy.adapter else policy.model
    base.model.layers[layer].register_forward_hook(lambda module, args, out: change(module, out))
    return policy


def own(policy):
    with torch.no_grad(), policy.as_loaded(), policy.evaluating():
        return policy.logps(COMPLETIONS).logps


def shifted(out, by, share):
    moved = torch.roll(out, by, 1)
    place = torch.arange(out.shape[1])
    return out + share * moved * ((place >= by) & (place < out.shape[1] + by))[:, None]


# Causality.


@pytest.mark.parametrize(
    "change",
    [
        lambda module, out: out + out.mean(1, keepdim=True),
        lambda module, out: shifted(out, -1, 1e-3),  # one token of what comes next
        lambda module, out: out + 1e-3 * out[:, -1:],
    ],
    ids=["sees everything", "sees the next token", "sees the last token"],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_sees_later_tokens_is_refused(change, training, model_folder):
    policy = broken(model_folder, change)
    with pytest.raises(ModelError, match="LlamaForCausalLM is not causal: changing the end of a text changes"):
        choose_layout(policy, COMPLETIONS, training=training)


def test_attention_without_its_mask_is_refused(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.use_plain_rows()
    for layer in policy.model.model.layers:
        attention, forward = layer.self_attn, layer.self_attn.forward
        attention.is_causal = False

        def everything(*args, forward=forward, **more):
            mask = torch.zeros(1, 1, 1, 1)
            return forward(*args, **more | {"attention_mask": mask})

        attention.forward = everything
    with pytest.raises(ModelError, match="is not causal"):
        choose_layout(policy, COMPLETIONS)


# Randomness.


def wobbling(module, out):
    return out * (1 + 0.01 * torch.rand_like(out)) if module.training else out


def skipping(module, out):
    return out * 1.5 if module.training and torch.rand([]) < 0.05 else out


def numpys(module, out):
    return out * (1 + 0.01 * numpy.random.random()) if module.training else out


@pytest.mark.parametrize("change", [wobbling, skipping, numpys])
@pytest.mark.parametrize("lora", [None, Lora(2, dropout=0.2)])
def test_hidden_dropout_is_refused_by_the_name_of_its_module(change, lora, model_folder):
    policy = broken(model_folder, change, lora=lora)
    with pytest.raises(
        ModelError, match=r"is random in training mode in .*model\.layers\.0 \(LlamaDecoderLayer\): two passes differ"
    ):
        choose_layout(policy, COMPLETIONS)
    assert choose_layout(policy, COMPLETIONS, training=False).layout == "shared"  # in evaluation nothing is wrong


def test_numbers_that_are_drawn_and_not_used_are_no_fault(model_folder):
    def drawing(module, out):
        return out + 0 * torch.rand_like(out)

    assert choose_layout(broken(model_folder, drawing), COMPLETIONS).layout == "shared"


def test_a_model_that_is_another_one_in_training_mode_is_refused(model_folder):
    policy = broken(model_folder, lambda module, out: out * (1.01 if module.training else 1.0))
    with pytest.raises(ModelError, match="computes something else in training mode than in evaluation"):
        choose_layout(policy, COMPLETIONS)


def test_only_the_dropout_that_was_asked_for_stays(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu", lora=Lora(2, dropout=0.3))
    before = torch.get_rng_state()
    assert choose_layout(policy, COMPLETIONS).layout == "shared"
    assert torch.equal(torch.get_rng_state(), before)
    rates = {part.p for name, part in policy.model.named_modules() if isinstance(part, nn.Dropout) and "lora_dropout" in name}
    assert rates == {0.3}
    assert policy.model.training
    with torch.no_grad():
        for name, parameter in policy.parameters().items():
            if "lora_B" in name:
                parameter.fill_(0.1)
        assert not torch.equal(policy.logps(COMPLETIONS).logps, policy.logps(COMPLETIONS).logps)
        with adapter_dropout_off(policy.model):
            assert torch.equal(policy.logps(COMPLETIONS).logps, policy.logps(COMPLETIONS).logps)


def test_rates_under_any_name_are_set_to_0():
    class DropPath(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate, self.eps = 0.3, 1e-5

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.router_jitter_noise, self.attn_pdrop, self.dropped_layers, self.layer_norm_eps = 0.1, 0.2, 3, 1e-5
            self.path, self.out = DropPath(), nn.AlphaDropout(0.4)
            inner = types.SimpleNamespace(drop_path_rate=0.2, to_dict=dict)
            self.config = types.SimpleNamespace(text_config=inner, hidden_dropout=0.1, ffn={"moe_jitter_eps": 0.3}, to_dict=dict)

    model = Model()
    switch_dropout_off(model)
    assert (model.router_jitter_noise, model.attn_pdrop, model.path.rate, model.out.p) == (0, 0, 0, 0)
    assert (model.config.text_config.drop_path_rate, model.config.hidden_dropout, model.config.ffn["moe_jitter_eps"]) == (0, 0, 0)
    assert (model.dropped_layers, model.layer_norm_eps, model.path.eps) == (3, 1e-5, 1e-5)


def test_the_innermost_module_that_draws_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)), nn.Dropout(0.0))
    found = drawing_modules(model, torch.device("cpu"), lambda: model(torch.ones(1, 2)))
    assert found == ["1.0 (Dropout)"]


# Layouts.


@pytest.mark.parametrize("share", [1.0, 1e-4])
def test_a_leak_along_the_shared_row_gives_plain_rows(share, model_folder):
    """A token shift sees the token before it in the row, which may belong to another answer."""
    policy = broken(model_folder, lambda module, out: shifted(out, 1, share))
    before = own(policy)
    found = choose_layout(policy, COMPLETIONS)
    assert found.layout == "plain"
    assert "shared prompts would change" in found.reason
    assert found.difference < 1e-5
    with torch.no_grad():
        assert (policy.logps(COMPLETIONS).logps - before).abs().max() < 1e-5


def mixing(module, out):
    return out + 1e-3 * out.mean((0, 1), keepdim=True) if out.shape[0] > 1 else out


@pytest.mark.parametrize(
    "change", [mixing, lambda module, out: out + 1e-2 * out.mean(0, keepdim=True)], ids=["with padding", "rows"]
)
def test_a_model_that_mixes_rows_of_a_batch_is_computed_one_row_at_a_time(change, model_folder):
    policy = broken(model_folder, change)
    before = own(policy)
    found = choose_layout(policy, COMPLETIONS, wanted="plain")
    assert found.layout == "single"
    assert "rows in a batch" in found.reason
    with torch.no_grad():
        assert (policy.logps(COMPLETIONS).logps - before).abs().max() < 1e-5
    assert policy.layout_key == "cpu:single:split:as written"


def test_a_model_that_sees_the_width_of_the_batch_is_computed_one_row_at_a_time(model_folder):
    policy = broken(model_folder, lambda module, out: out * (1 + 1e-3 * out.shape[1]))
    assert choose_layout(policy, COMPLETIONS).layout == "single"


def test_a_leak_below_the_rounding_of_half_precision_is_found(model_folder):
    policy = broken(model_folder, lambda module, out: shifted(out, 1, 1e-3), precision="bfloat16")
    found = choose_layout(policy, COMPLETIONS)
    assert found.layout == "plain"
    assert "one completion would change another's log-probs" in found.reason


def test_a_gradient_that_a_layout_loses_gives_another_layout(model_folder):
    """A learned shift of the scores that is 0 as drawn: log-probs agree, gradients do not (Doge's dynamic mask)."""
    policy = load_policy(str(model_folder("llama")), device="cpu")
    layer = policy.model.model.layers[0]
    layer.extra = nn.Parameter(torch.zeros(32))
    layer.register_forward_hook(lambda module, args, out: out + module.extra if out.shape[0] > 1 or out.shape[1] < 30 else out)
    found = choose_layout(policy, COMPLETIONS)
    assert found.layout == "plain"
    assert found.reason == "shared prompts would change the gradient of model.layers.0.extra"


# Logits.


@pytest.mark.parametrize(
    "change",
    [lambda z: 5 * torch.tanh(z / 5), lambda z: 1.01 * z, lambda z: z + torch.arange(z.shape[-1]) * 1e-4],
    ids=["cap", "scale", "bias"],
)
def test_what_a_model_does_with_its_logits_under_any_name_gives_whole_logits(change, model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.model.register_forward_hook(lambda module, args, out: setattr(out, "logits", change(out.logits)))
    before = own(policy)
    found = choose_layout(policy, COMPLETIONS)
    assert (found.layout, found.logits) == ("shared", "whole")
    assert "not those of its body and output layer alone" in found.reason
    with torch.no_grad():
        assert (policy.logps(COMPLETIONS).logps - before).abs().max() < 1e-5


def test_a_body_that_cannot_be_called_alone_gives_whole_logits(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.module.head = replace(policy.module.head, hidden=lambda batch: {}["last_hidden_state"])
    found = choose_layout(policy, COMPLETIONS)
    assert found.logits == "whole"
    assert "(there is no 'last_hidden_state')" in found.reason


# Errors, and weights that are never trained.


def test_any_error_of_a_model_is_one_sentence(model_folder):
    def fails(module, out):
        raise KeyError("pixel_values")

    with pytest.raises(
        ModelError, match=r"LlamaForCausalLM cannot compute the logits of a text \(there is no 'pixel_values'\); give"
    ):
        choose_layout(broken(model_folder, fails), COMPLETIONS)

    def fails_in_training(module, out):
        if module.training:
            raise ValueError("token_type_ids are required")
        return out

    with pytest.raises(ModelError, match=r"cannot be trained: no gradient comes back through it .*token_type_ids are required"):
        choose_layout(broken(model_folder, fails_in_training), COMPLETIONS)
    with pytest.raises(ModelError, match="gives log-probs that are not finite"):
        choose_layout(broken(model_folder, lambda module, out: out * torch.nan), COMPLETIONS)


def test_weights_that_no_text_reaches_are_refused_or_said(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    policy.model.vision = nn.ModuleList([nn.Linear(4, 4)])
    assert choose_layout(policy, COMPLETIONS).unreached == ("vision",)
    policy.model.model.layers[0].cross = nn.Linear(4, 4)
    with pytest.raises(ModelError, match=r"parts that a text alone never reaches \(model.layers.cross\)"):
        choose_layout(policy, COMPLETIONS)
    adapted = load_policy(str(model_folder("llama")), device="cpu", lora=Lora(2))
    adapted.model.vision = nn.Linear(4, 4)
    with pytest.raises(ModelError, match="The adapter has 2 weights that no text reaches"):
        choose_layout(adapted, COMPLETIONS)
    cut = load_policy(str(model_folder("llama")), device="cpu")
    cut.model.lm_head.weight.requires_grad_(False)
    cut.model.model.norm.register_forward_hook(lambda module, args, out: out.detach())
    with pytest.raises(ModelError, match="reach none of the weights in training"):
        choose_layout(cut, COMPLETIONS)


# The reference cache.


def test_layouts_share_no_reference_and_entries_of_earlier_versions_are_not_read(model_folder, tmp_path):
    shared, plain = (load_policy(str(model_folder("llama")), device="cpu") for _ in range(2))
    plain.use_plain_rows()
    (tmp_path / f"{shared.fingerprint}.sqlite").write_bytes(b"of version 1")
    cache = ReferenceCache(tmp_path, shared)
    assert cache.prepare(shared, COMPLETIONS) == len(COMPLETIONS)
    other = ReferenceCache(tmp_path, plain)
    assert not any(other.holds(c) for c in COMPLETIONS)
    with pytest.raises(RuntimeError, match="computes in the layout cpu:grouped:split"):
        other.prepare(shared, COMPLETIONS)
    assert other.prepare(plain, COMPLETIONS) == len(COMPLETIONS)
    other.use_layout_of(shared)
    assert other.prepare(shared, COMPLETIONS) == 0
    keys = set()
    for change in (plain.use_plain_rows, plain.use_single_rows, plain.share_prompts):
        change()
        keys.add(plain.layout_key)
    assert keys == {"cpu:plain:split:as written", "cpu:single:split:as written", "cpu:grouped:split:as written:narrow"}


def test_an_adapter_shares_the_reference_of_its_base(model_folder):
    adapted, whole = (
        load_policy(str(model_folder("llama")), device="cpu", lora=Lora(2)),
        load_policy(str(model_folder("llama")), device="cpu"),
    )
    assert adapted.layout_key == whole.layout_key
