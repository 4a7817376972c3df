"""All layouts give the log-probs and gradients of one row at a time, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.policy import PromptAnswer, choose_kernel, choose_layout, load_policy, sample_answers
from lab.policy import layout as layouts
from lab.policy.kernels.attention import KERNELS, Group, SharedRow
from tests.models import KINDS
from tests.policy.test_logps import one_by_one


def completions_of(shape: list[tuple[int, list[int]]], seed: int = 0) -> list[PromptAnswer]:
    """Random token ids: a prompt length and its answers' lengths each, the answers of all prompts interleaved."""
    rng = torch.Generator().manual_seed(seed)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 300, (count,), generator=rng).tolist())

    found = [PromptAnswer(prompt, ids(n)) for prompt, answers in ((ids(p), a) for p, a in shape) for n in answers]
    return found[::2] + found[1::2]


SHAPE = [(40, [20, 33]), (3, [1, 1, 5]), (25, [30]), (40, [7, 2])]
"""Longer than the sliding windows of the models (16), one-token answers, one to three behind a prompt."""
LAYOUTS = (*(kernel for kernel in KERNELS if kernel != "varlen"), "plain")
"""FlashAttention is not on the CPU; what it is told is tested in test_gpu_kernels.py."""


EXACT = 1e-5
"""Nats between a token's log-prob in float32 and in float64; of a gradient, as a share of its norm. Measured: 9e-7 and 6e-7."""


@dataclass(frozen=True)
class Exact:
    """logps: of SHAPE in float64, one row at a time.   gradient: what `CREDIT` on them gives all parameters, float64."""

    logps: list[torch.Tensor]
    gradient: torch.Tensor


CREDIT = torch.randn(8, 33, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exact(model_folder):
    """What the model as it is written gives for SHAPE in float64, by kind of model."""
    found = {}

    def of(kind: str) -> Exact:
        if kind not in found:
            policy = load_policy(str(model_folder(kind)), device="cpu")
            policy.use_plain_rows()
            policy.model.double()
            logps = [one_by_one(policy, c) for c in completions_of(SHAPE)]
            sum((credit[: len(row)].double() * row).sum() for credit, row in zip(CREDIT, logps)).backward()
            found[kind] = Exact([row.detach() for row in logps], gradient_of(policy))
        return found[kind]

    return of


def gradient_of(policy) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in policy.parameters().values()]).double()


def set_layout(policy, layout: str) -> None:
    if layout == "plain":
        policy.use_plain_rows()
    else:
        assert policy.shared is not None
        policy.shared = layout


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("layout", "checkpointing"),
    [(layout, again) for layout in LAYOUTS for again in (False, True) if (layout, again) != ("flex", True)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_equals_one_by_one_and_so_do_its_gradients(kind, layout, checkpointing, model_folder, exact):
    policy = load_policy(str(model_folder(kind)), device="cpu", gradient_checkpointing=checkpointing)
    set_layout(policy, layout)
    completions = completions_of(SHAPE)
    if layout == "flex":  # has no backward pass on the CPU
        for parameter in policy.model.parameters():
            parameter.requires_grad_(False)
    together = policy.logps(completions)
    for row, expected in enumerate(exact(kind).logps):
        assert (together.logps[row, : len(expected)].double() - expected).abs().max() < EXACT
        assert not together.logps[row, len(expected) :].any()
    if layout != "flex":
        torch.autograd.backward(together.logps, CREDIT)
        gradient = exact(kind).gradient
        assert (gradient_of(policy) - gradient).norm() < EXACT * gradient.norm()
    for size in (1, 3):
        for start in range(0, len(completions), size):
            with torch.no_grad():
                part = policy.logps(completions[start : start + size]).logps
            width = min(part.shape[1], together.logps.shape[1])
            assert (part[:, :width] - together.logps[start : start + size, :width]).abs().max() < EXACT


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 6), min_size=1, max_size=3)), min_size=1, max_size=4),
    st.sampled_from([None, 1, 3, 7]),
)
def test_every_token_sees_its_prompt_and_itself_and_nothing_else(shape, window):
    row = SharedRow(tuple(Group(p, tuple(a)) for p, a in shape), torch.device("cpu"))
    number, segment, position = (x.tolist() for x in row.places)
    visible = torch.zeros(len(number), len(number), dtype=torch.bool)
    start = 0
    for i, length in enumerate(row.lengths):
        mask = row.mask(i, window)
        visible[start : start + length, start : start + length] = (
            torch.ones(length, length, dtype=torch.bool).tril() if mask is None else mask
        )
        start += length
    for q in range(len(number)):
        for k in range(len(number)):
            expected = (
                number[q] == number[k]
                and segment[k] in (0, segment[q])
                and position[k] <= position[q]
                and (window is None or position[q] - position[k] < window)
            )
            assert bool(visible[q, k]) == expected


def test_a_prompt_is_computed_once_and_nothing_is_padded():
    batch = layouts.shared(completions_of([(50, [10, 12]), (7, [3])]), torch.device("cpu"))
    # The last token of an answer predicts nothing, so it is no input.
    assert batch.ids.shape == (1, 50 + 9 + 11 + 7 + 2)
    assert len(batch.reads) == 10 + 12 + 3


def test_plain_rows_of_like_length_share_a_batch():
    batches = layouts.plain(completions_of([(50, [10]), (50, [11]), (3, [2]), (4, [1])]), torch.device("cpu"), pad_id=1)
    assert [tuple(b.ids.shape) for b in batches] == [(2, 5), (2, 61)]
    assert all(b.attention_mask.sum() >= b.ids.numel() / layouts.WASTE for b in batches)


def test_several_processes_make_as_many_passes_each():
    (batch,) = layouts.plain(completions_of([(50, [10]), (3, [2])]), torch.device("cpu"), pad_id=1, together=True)
    assert batch.ids.shape == (2, 60)
    assert batch.completions == (0, 1)


def test_a_model_that_mixes_tokens_outside_attention_gets_plain_rows(model_folder):
    """A token shift sees the token before it in the row, which may belong to another answer: the comparison notices."""
    policy = load_policy(str(model_folder("llama")), device="cpu")
    layer = policy.model.model.layers[0]
    layer.register_forward_hook(lambda module, given, out: out + torch.roll(out, 1, 1) * (torch.arange(out.shape[1]) > 0)[:, None])
    completions = completions_of(SHAPE)
    found = choose_layout(policy, completions)
    assert found.layout == "plain"
    assert "nats" in found.reason
    assert policy.shared is None
    assert policy.model.config._attn_implementation == "sdpa"


def test_plain_rows_can_be_asked_for(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    assert choose_layout(policy, completions_of(SHAPE), wanted="plain").layout == "plain"


def test_the_fastest_kernel_is_taken_where_there_is_a_choice(model_folder):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    completions = completions_of(SHAPE)
    assert choose_kernel(policy, completions) == {}
    assert policy.shared == "grouped"
    policy.device = torch.device("meta")  # any device that is not the CPU offers the choice
    other = load_policy(str(model_folder("llama")), device="cpu")
    policy.parameters = lambda: {"x": torch.zeros(1, requires_grad=True)}

    def without_flash(asked):
        if policy.shared == "varlen":
            raise RuntimeError("FlashAttention only supports half precision")
        return other.logps(asked)

    policy.logps = without_flash
    ticks = iter([0.0, 0.0, 1.0, 2.0, 5.0, 0.0, 1.0, 2.0, 2.5])
    assert choose_kernel(policy, completions, clock=lambda: next(ticks)) == {"padded": 3.0, "flex": 0.5}
    assert policy.shared == "flex"
    policy.logps = other.logps
    ticks = iter([0.0, 1.0, 2.0, 5.0])
    assert choose_kernel(policy, completions, clock=lambda: next(ticks)) == {"varlen": 3.0}
    assert policy.shared == "varlen"


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_sampling_is_as_it_was_before(kind, model_folder):
    """Generation keeps its cache and its own masks under the registered attention."""
    ours = load_policy(str(model_folder(kind)), device="cpu")
    plain = load_policy(str(model_folder(kind)), device="cpu")
    plain.use_plain_rows()
    prompts = ["How?", "How do I bake a bread that rises well and lasts?"]
    answers = [sample_answers(p, prompts, per_prompt=2, max_new_tokens=24, seed=3) for p in (ours, plain)]
    assert answers[0] == answers[1]
