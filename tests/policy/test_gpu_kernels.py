"""Computations that differ on a GPU: shapes, indices and the LoRA branch are tested without one, the kernels where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lab.policy import PromptAnswer, load_policy
from lab.policy import layout as layouts
from lab.policy.cuda_graphs import RecordedPass, capacity, fits, largest_sizes, paddings, sizes
from lab.policy.kernels import low_rank
from lab.policy.kernels.attention import Group, SharedRow, shared_attention
from lab.policy.loading import Lora
from tests.policy.test_layouts import SHAPE, completions_of

GPU = torch.cuda.is_available()
GROUPS = (Group(4, (3, 2, 5)), Group(2, (0, 3)), Group(6, (1,)), Group(1, (2, 0, 1)))


@pytest.fixture
def flash(monkeypatch):
    """torch's varlen_attn, written out as it is documented."""

    def varlen_attn(query, key, value, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False):
        assert enable_gqa or query.shape[1] == key.shape[1]
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        out = torch.full_like(query, torch.nan)
        for (a, b), (c, d) in zip(zip(cu_q.tolist(), cu_q[1:].tolist()), zip(cu_k.tolist(), cu_k[1:].tolist())):
            assert b - a <= max_q
            assert d - c <= max_k
            behind = torch.arange(b - a)[:, None] + (d - c) - (b - a) - torch.arange(d - c)
            seen = behind >= 0 if window_size[0] < 0 else (behind >= 0) & (behind <= window_size[0])
            scores = torch.einsum("qhd,khd->hqk", query[a:b], key[c:d]) * (scale or query.shape[-1] ** -0.5)
            out[a:b] = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), value[c:d])
        return out

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_sequences_see_what_the_groups_see(flash, window):
    count = sum(group.length for group in GROUPS)
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, count, 8, generator=rng)
    key, value = torch.randn(2, 1, 2, count, 8, generator=rng)
    found = {
        kernel: shared_attention(
            query, key, value, SharedRow(GROUPS, torch.device("cpu"), kernel), scaling=0.3, window=window, softcap=None
        )
        for kernel in ("grouped", "varlen")
    }
    assert (found["grouped"] - found["varlen"]).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:1], [(5, [1, 9])]])
def test_buffers_larger_than_the_batch_give_the_same_log_probs_and_gradients(flash, shape, model_folder):
    policy = load_policy(str(model_folder("qwen2")), device="cpu")
    completions = completions_of(shape)
    batch = layouts.shared(completions, policy.device, kernel="varlen")
    needed = sizes(batch.shared.groups, len(batch.reads))
    assert needed == largest_sizes([completions])
    room = capacity(needed, None)
    assert fits(needed, room)
    assert paddings(needed, room) >= 1
    trained = list(policy.parameters().values())
    recorded = RecordedPass(policy.module, room, policy.device, policy.precision, trained)
    recorded.buffers.write(layouts.shared(completions_of([(30, [3])]), policy.device, kernel="varlen"))  # nothing of it may stay
    recorded.buffers.write(batch)
    expected, found = policy.module(batch)[0], recorded.compute()
    assert torch.allclose(found[: len(expected)], expected, atol=1e-5)
    credit = torch.randn(len(expected), generator=torch.Generator().manual_seed(1))
    whole = torch.cat([credit, credit.new_zeros(room.reads - len(credit))])
    for a, b in zip(torch.autograd.grad(expected, trained, credit), torch.autograd.grad(found, trained, whole)):
        assert (a - b).norm() <= 1e-5 * a.norm() + 1e-8


def test_credit_goes_back_through_a_recorded_pass_and_only_through_the_latest(flash, model_folder):
    policy = load_policy(str(model_folder("qwen2")), device="cpu")
    batch = layouts.shared(completions_of(SHAPE), policy.device, kernel="varlen")
    trained = list(policy.parameters().values())
    recorded = RecordedPass(
        policy.module, capacity(sizes(batch.shared.groups, len(batch.reads)), None), policy.device, policy.precision, trained
    )

    class Forward:  # what a graph does when it is replayed
        def replay(self):
            with torch.enable_grad():
                self.out = recorded.compute()
            recorded.out = self.out.detach()

    class Backward:
        def replay(self):
            given = recorded.forward_graph.out, trained, recorded.credit
            recorded.gradients = torch.autograd.grad(*given, allow_unused=True, retain_graph=True)

    recorded.forward_graph, recorded.backward_graph = Forward(), Backward()
    expected, found = policy.module(batch)[0], recorded(batch)
    assert torch.allclose(found, expected, atol=1e-5)
    credit = torch.randn(len(expected), generator=torch.Generator().manual_seed(1))
    for a, b in zip(torch.autograd.grad(expected, trained, credit), torch.autograd.grad(found, trained, credit)):
        assert (a - b).norm() <= 1e-5 * a.norm() + 1e-8
    old = recorded(batch)
    recorded(batch)
    with pytest.raises(RuntimeError, match="used for another batch"):
        old.sum().backward()


def test_a_much_smaller_batch_is_not_computed_in_large_buffers():
    large, small = sizes([Group(900, (300, 300))] * 4, 2000), sizes([Group(90, (30, 30))], 60)
    room = capacity(large, None)
    assert fits(large, room)
    assert not fits(small, room)
    assert capacity(large, large).tokens <= large.tokens + 128  # no more room than the largest batch of the run needs


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 20), nn.Linear(20, 8, bias=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def adapted(dropout: float = 0.0):
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    model = inject_adapter_in_model(
        LoraConfig(r=3, lora_alpha=7, lora_dropout=dropout, target_modules=["first", "second"]), Model().double()
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if "lora_" in name:
            nn.init.normal_(parameter)
    return model.double()


def gradients(model, x):
    out = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad(out.square().sum(), [x, *trained])]


def test_an_adapter_in_one_operation_gives_what_peft_gives():
    model = adapted()
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    before = gradients(model, x)
    assert low_rank.fuse(model) == 2
    calls = []
    whole = low_rank.LowRankLinear.apply
    low_rank.LowRankLinear.apply = lambda *given: calls.append(1) or whole(*given)
    try:
        after = gradients(model, x)
    finally:
        del low_rank.LowRankLinear.apply
    assert len(calls) == 2
    for a, b in zip(before, after):
        assert torch.allclose(a, b, rtol=1e-10)


def test_an_adapter_that_is_not_plain_goes_to_peft():
    model, x = adapted(dropout=0.5), torch.randn(4, 12, dtype=torch.float64)
    low_rank.fuse(model)
    assert not torch.equal(model.train()(x), model(x))  # dropout draws
    assert torch.equal(model.eval()(x), model(x))
    base = Model().double()
    base.load_state_dict({n.replace(".base_layer", ""): p for n, p in model.state_dict().items() if "lora_" not in n})
    for module in model.modules():
        if hasattr(module, "enable_adapters"):
            module.enable_adapters(False)
    assert torch.allclose(model(x), base(x), rtol=1e-12)


def test_a_loaded_adapter_is_fused(model_folder):
    policy = load_policy(str(model_folder("qwen2")), device="cpu", lora=Lora(4))
    forwards = [getattr(m.forward, "__func__", None) for m in policy.model.modules() if hasattr(m, "lora_A")]
    assert forwards
    assert all(forward is low_rank._forward for forward in forwards)


def close(found, expected, share):
    return (found.double() - expected).norm() <= share * expected.norm()


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_kernels_against_float64(dtype, share):
    from lab.policy.kernels import fused

    def draw(*shape):
        return torch.randn(*shape, device="cuda", dtype=dtype).requires_grad_()

    def compare(fast, slow, inputs):
        wide = [x.detach().double().requires_grad_() for x in inputs]
        found, expected = fast(*inputs), slow(*wide)
        assert close(found, expected, share)
        credit = torch.randn_like(found)
        pairs = zip(torch.autograd.grad(found, inputs, credit), torch.autograd.grad(expected, wide, credit.double()))
        assert all(close(a, b, share) for a, b in pairs)

    compare(
        lambda x, w: fused.Norm.apply(x, w, 1e-6, dtype),
        lambda x, w: w * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
        [draw(301, 896), draw(896)],
    )
    compare(fused.Gated.apply, lambda g, u: nn.functional.silu(g) * u, [draw(100, 1000), draw(100, 1000)])
    targets = torch.randint(0, 5003, (70,), device="cuda")
    for trained in (True, False):
        weight = draw(5003, 64).detach().requires_grad_(trained)

        def slow(states, weight=weight):
            return torch.log_softmax(states @ weight.detach().to(states).t(), -1).gather(1, targets[:, None]).squeeze(1)

        if trained:
            compare(
                lambda s, w: fused.Picked.apply(s, w, targets, 33, dtype),
                lambda s, w: torch.log_softmax(s @ w.t(), -1).gather(1, targets[:, None]).squeeze(1),
                [draw(70, 64), weight],
            )
        else:
            compare(lambda s, w=weight: fused.Picked.apply(s, w, targets, 33, dtype), slow, [draw(70, 64)])


@pytest.mark.skipif(not GPU, reason="needs a GPU")
@pytest.mark.parametrize("lora", [None, Lora(4)])
@pytest.mark.parametrize("again", [False, True])
def test_recorded_passes_equal_the_others(lora, again, model_folder):
    policy = load_policy(str(model_folder("qwen2")), device="cuda", lora=lora, gradient_checkpointing=again)
    policy.shared = "varlen"
    trained = list(policy.parameters().values())

    def run(completions: list[PromptAnswer]) -> list[torch.Tensor]:
        logps = policy.logps(completions).logps
        credit = torch.ones_like(logps)
        twice = [g.clone() for g in torch.autograd.grad(logps, trained, 2 * credit, retain_graph=True)]
        torch.autograd.backward(logps, credit)
        found = [logps.detach(), *twice, *(p.grad.clone() for p in trained)]
        for parameter in trained:
            parameter.grad = None
        return found

    batches = [completions_of(SHAPE), completions_of(SHAPE[:2], seed=1), completions_of(SHAPE, seed=2)]
    expected = [run(batch) for batch in batches]
    assert policy.record_passes()
    for batch, before in zip(batches, expected):
        for a, b in zip(run(batch), before):
            assert close(a, b.double(), 2e-2)
    assert policy.graphs.refused is None
    assert policy.graphs.recorded
    # Two parts of a batch: the gradients of the first must not lie where the second pass writes.
    for first, second in ((0, 1), (1, 0), (0, 2)):
        for batch in (batches[first], batches[second]):
            policy.logps(batch).logps.sum().backward()
        for parameter, a, b in zip(trained, expected[first][-len(trained) :], expected[second][-len(trained) :]):
            assert close(parameter.grad, (a + b).double(), 2e-2)
            parameter.grad = None
