"""Choice of the attention kernel: it is compared with the unfused model, and out-of-memory errors are raised."""

from __future__ import annotations

import types

import pytest
import torch

from lab.policy import Lora, choose_kernel, choose_layout, load_policy
from lab.policy import policy as policies
from lab.policy.kernels import fused, patches
from lab.policy.memory import LEAST, out_of_memory, retry_smaller, shorter
from tests.models import KINDS
from tests.policy.test_layouts import SHAPE, completions_of

COMPLETIONS = completions_of(SHAPE)


def on_a_card(policy, monkeypatch, wrong=(), *, apart=1.0, places=None):
    """A policy that has the choice of a GPU, though it computes on the CPU; the kernels in `wrong` are `apart` nats off, at every
    token or at the first `places` of the first answer."""
    policy.device, policy.shared = torch.device("meta"), "padded"
    policy.precision = lambda **_: torch.autocast("cpu", dtype=torch.bfloat16, enabled=policy.autocast is not None)
    computed, asked = policies.completion_logps, []

    def logps(module, completions, *, device, shared, **more):
        asked.append(shared)
        kernel = "grouped" if shared is not None else None
        found = computed(module, completions, device=torch.device("cpu"), shared=kernel, **more)
        off = torch.zeros_like(found.logps)
        if shared in wrong:
            (off if places is None else off[0, :places]).fill_(apart)
        return types.SimpleNamespace(logps=found.logps + off, mask=found.mask)

    monkeypatch.setattr(policies, "completion_logps", logps)
    return asked


@pytest.mark.parametrize(
    ("wrong", "layout", "kernel"),
    [((), "shared", "varlen"), (("varlen",), "shared", "padded"), (("varlen", "padded"), "plain", None)],
)
def test_the_kernel_that_trains_is_compared_and_another_is_taken_where_it_differs(wrong, layout, kernel, model_folder, monkeypatch):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    asked = on_a_card(policy, monkeypatch, wrong)
    assert list(choose_kernel(policy, COMPLETIONS)) == ["varlen"]
    del asked[:]
    found = choose_layout(policy, COMPLETIONS)
    assert (found.layout, policy.shared) == (layout, kernel)
    assert list(dict.fromkeys(asked))[:2] == [None, "varlen"]
    assert found.difference < 1e-4
    assert (found.reason is None) == (not wrong)
    if wrong:
        assert "1 nats, with the kernel varlen" in found.reason


def scaled(factor):
    """A norm in one operation that gives another number."""

    def forward(self, x):
        return factor * type(self).forward(self, x)

    return forward


@pytest.mark.parametrize(("factor", "stays"), [(1.0, True), (1.05, False)])
def test_log_probs_are_compared_with_the_model_as_it_is_written(factor, stays, model_folder, monkeypatch):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    own = choose_layout(policy, COMPLETIONS)
    with torch.no_grad():
        before = policy.logps(COMPLETIONS).logps
    forward = scaled(factor)
    monkeypatch.setattr(patches, "FORWARDS", (forward, *patches.LAST_LAYER))
    monkeypatch.setattr(patches, "FUSED", (forward,))
    for layer in policy.model.model.layers:
        layer.input_layernorm.forward = types.MethodType(forward, layer.input_layernorm)
    assert policy.fused
    found = choose_layout(policy, COMPLETIONS)
    assert found.layout == "shared"
    assert policy.shared == "grouped"
    assert found.difference == pytest.approx(own.difference, abs=1e-5)
    assert policy.fused is stays
    assert (found.reason is None) == stays
    with torch.no_grad():
        assert (policy.logps(COMPLETIONS).logps - before).abs().max() < 1e-5


@pytest.mark.parametrize("lora", [None, Lora(2)])
@pytest.mark.parametrize(
    ("precision", "places", "apart", "kernel"),
    [
        ("float32", 1, 0.05, "padded"),
        ("bfloat16", None, 0.05, "varlen"),
        ("bfloat16", 2, 0.5, "varlen"),  # a few tokens, as rounding does
        ("bfloat16", None, 0.2, "padded"),
        ("bfloat16", 1, 2.0, "padded"),
    ],
)
def test_what_rounding_explains_depends_on_the_precision(precision, places, apart, kernel, lora, model_folder, monkeypatch):
    policy = load_policy(str(model_folder("llama")), device="cpu", precision=precision, lora=lora)
    on_a_card(policy, monkeypatch, ("varlen",), apart=apart, places=places)
    choose_kernel(policy, COMPLETIONS)
    assert choose_layout(policy, COMPLETIONS).layout == "shared"
    assert policy.shared == kernel
    assert policy.autocast is (torch.bfloat16 if precision == "bfloat16" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_as_loaded_is_what_transformers_computes_and_leaves_no_trace(kind, model_folder):
    policy = load_policy(str(model_folder(kind)), device="cpu", lora=Lora(2))
    forwards = {m: m.__dict__["forward"] for m in policy.model.modules() if "forward" in m.__dict__}
    assert bool(forwards) == (policy.fused or policy.narrow)
    head, shared, attention = policy.module.head, policy.shared, policy.model.get_base_model().config._attn_implementation
    fused = policy.fused
    with policy.as_loaded(), torch.no_grad():
        assert not policy.fused
        assert not policy.narrow
        assert not policy.model.get_base_model().config._attn_implementation.startswith("lab_")
        found = policy.logps(COMPLETIONS[:1]).logps[0]
        ids = torch.tensor([[*COMPLETIONS[0].prompt, *COMPLETIONS[0].answer]])
        own = policy.model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(COMPLETIONS[0].prompt)
    for place, token in enumerate(COMPLETIONS[0].answer):
        assert abs(found[place] - own[first + place - 1, token]) < 1e-5
    assert (policy.module.head, policy.shared) == (head, shared)
    assert policy.model.get_base_model().config._attn_implementation == attention
    assert {m: m.__dict__["forward"] for m in policy.model.modules() if "forward" in m.__dict__} == forwards
    assert policy.unfuse() == fused
    assert not policy.unfuse()


def test_what_a_card_fuses_is_known_here_too():
    assert fused._norm_forward in patches.FORWARDS
    assert fused._gated_forward in patches.FORWARDS


def test_where_memory_runs_out_the_kernel_stays_and_less_is_tried(model_folder, monkeypatch):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    on_a_card(policy, monkeypatch)
    computed, tried = policies.completion_logps, []

    def short_of_memory(module, completions, **more):
        tried.append(sum(len(c.prompt) + len(c.answer) for c in completions))
        if tried[-1] > 250:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return computed(module, completions, **more)

    monkeypatch.setattr(policies, "completion_logps", short_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        choose_kernel(policy, COMPLETIONS)
    assert policy.shared == "padded"
    assert list(retry_smaller(lambda few: choose_kernel(policy, few), COMPLETIONS, shorter)) == ["varlen"]
    assert tried[0] == tried[1] > 250 > tried[-1]


def test_less_and_less_until_it_fits():
    sizes = [len(c.prompt) + len(c.answer) for c in shorter(COMPLETIONS)]
    assert max(sizes) <= 40
    given, steps = COMPLETIONS, 0
    while (given := shorter(given)) is not None:
        least, steps = max(max(len(c.prompt), len(c.answer)) for c in given), steps + 1
    assert (least, steps) == (LEAST, 3)

    def never(few):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="allocate") as met:
        retry_smaller(never, COMPLETIONS, shorter)
    assert out_of_memory(met.value)
    assert not out_of_memory(ValueError("no"))

    def refuses(few):
        raise RuntimeError("not for me")

    with pytest.raises(RuntimeError, match="not for me"):  # and is not tried again
        retry_smaller(refuses, COMPLETIONS, lambda few: pytest.fail("nothing was short"))
