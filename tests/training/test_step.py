"""The gradient of a step: backward in two pieces, micro-batches, the batch schedule and the learning rate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lab.objectives import OBJECTIVES, DegradedSpec, make_objective
from lab.pairs import pair_of
from lab.policy import Encoder, Lora, ReferenceCache, load_policy
from lab.run.config import TrainConfig
from lab.training.data.encoded_pairs import encode_pair
from lab.training.data.random_streams import generator
from lab.training.data.schedule import BatchSchedule
from lab.training.step import accumulate, pair_logps

WEIGHTS = (2.0, 0.0, 1.0, 0.5, 1.0, 3.0)
DEGREES = (1 / 3, None, 1.0, 2 / 3, None, 0.01)
FIVE = ["dpo", "simpo", "sgdpo", "alpha_dpo", "spo"]


@pytest.fixture
def setting(model_folder, rows, tmp_path):
    def make(objective, lora=None):
        policy = load_policy(str(model_folder("llama")), lora=lora, device="cpu")
        encoder = Encoder(policy.tokenizer)
        annotated = [replace(pair_of(row), degree=degree) for row, degree in zip(rows, DEGREES)]
        pairs = [encode_pair(pair, encoder, objective.degraded_spec()) for pair in annotated]
        cache = ReferenceCache(tmp_path / "reference", policy)
        cache.prepare(policy, [c for pair in pairs for c in pair.completions()])
        with torch.no_grad():
            for parameter in policy.parameters().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator(0, 0, 9)) * 0.02)
        degraded_spec = objective.degraded_spec()
        head = None
        if degraded_spec:
            head = torch.nn.Linear(policy.hidden_size, degraded_spec.degrees)
        return policy, pairs, cache.lookup, head

    return make


def gradients(policy, head=None):
    named = {**policy.parameters(), **({f"head.{n}": p for n, p in head.named_parameters()} if head else {})}
    return {name: p.grad.clone() for name, p in named.items() if p.grad is not None}


def clear(policy, head):
    policy.model.zero_grad(set_to_none=True)
    if head is not None:
        head.zero_grad(set_to_none=True)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.parametrize("name", FIVE)
def test_backward_in_two_pieces_equals_one_backward(name, lora, setting):
    objective = make_objective(name)
    policy, pairs, reference, head = setting(objective, lora)
    result = accumulate(
        policy, objective, pairs, objective.initial_state(), generator(0, 1, 2), reference=reference, degree_head=head
    )
    actual = gradients(policy, head)
    clear(policy, head)
    logps = pair_logps(policy, objective, pairs, reference, head)
    draws = objective.draw(logps, generator(0, 1, 2))
    outcome, _ = objective(logps, objective.initial_state(), draws, training=True)
    outcome.losses.mean().backward()
    expected = gradients(policy, head)
    assert torch.allclose(outcome.losses, result.credited.outcome.losses, atol=1e-6)
    assert actual.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert torch.allclose(actual[parameter], gradient, rtol=1e-4, atol=1e-6), parameter


BY_DEGREE = [{"name": "dpo", "degree_margin": 1.0}, {"name": "spo", "annotated_degrees": True}]


@pytest.mark.parametrize("name", [*OBJECTIVES, *BY_DEGREE], ids=str)
@pytest.mark.parametrize(("size", "weights"), [(1, (1.0,) * 6), (4, WEIGHTS)])
def test_micro_batches_equal_the_whole_batch(name, size, weights, setting):
    objective = make_objective(**name) if isinstance(name, dict) else make_objective(name)
    policy, pairs, reference, head = setting(objective)
    pairs = [replace(pair, weight=weight) for pair, weight in zip(pairs, weights)]
    kwargs = {"reference": reference, "degree_head": head}
    state = objective.initial_state()
    if objective.needs_dataset:
        with torch.no_grad():
            state = objective.dataset_state([pair_logps(policy, objective, pairs, reference, head)])
    whole = accumulate(policy, objective, pairs, state, generator(0, 1, 2), **kwargs)
    expected = gradients(policy, head)
    clear(policy, head)
    parts = accumulate(policy, objective, pairs, state, generator(0, 1, 2), micro_batch_size=size, **kwargs)
    assert torch.allclose(whole.credited.outcome.losses, parts.credited.outcome.losses, rtol=1e-6, atol=1e-6)
    actual = gradients(policy, head)
    in_one, in_parts = (torch.cat([g[n].flatten() for n in sorted(expected)]) for g in (expected, actual))
    assert (in_parts - in_one).norm() <= 1e-6 * in_one.norm()


class DrawsByLogps(type(make_objective("sgdpo"))):
    """Draws that need log-probs: they cannot be made before the model has computed them."""

    draws_from_masks = False

    def draw(self, p, rng):
        drawn = super().draw(p, rng)
        return {name: mask & (p.chosen.mean() < 0) for name, mask in drawn.items()}


@pytest.mark.parametrize(
    ("objective", "passes"),
    [
        (make_objective("sgdpo"), 3),
        (make_objective("spo"), 3),
        (make_objective(name="spo", base={"name": "sgdpo"}), 3),
        (make_objective(name="spo", base={"name": "aot"}), 6),
        (make_objective("aot"), 6),
        (DrawsByLogps(), 6),
    ],
    ids=["sgdpo", "spo on dpo", "spo on sgdpo", "spo on aot", "aot", "draws by log-probs"],
)
def test_micro_batches_go_forward_twice_only_where_they_must(objective, passes, setting, monkeypatch):
    policy, pairs, reference, head = setting(objective)
    counted = []
    forward = type(policy).logps
    monkeypatch.setattr(type(policy), "logps", lambda *a, **k: counted.append(1) or forward(*a, **k))
    kwargs = {"reference": reference, "degree_head": head}
    whole = accumulate(policy, objective, pairs, {}, generator(0, 1, 2), **kwargs)
    assert len(counted) == 1
    parts = accumulate(policy, objective, pairs, {}, generator(0, 1, 2), micro_batch_size=2, **kwargs)
    assert len(counted) == 1 + passes
    assert whole.draws.keys() == parts.draws.keys()
    assert all(torch.equal(whole.draws[name], parts.draws[name]) for name in whole.draws)
    assert torch.allclose(whole.credited.outcome.losses, parts.credited.outcome.losses, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["sgdpo", "spo", "aot", "alpha_dpo"])
def test_the_gradient_is_that_of_the_mean_of_weight_times_loss(name, setting):
    objective = make_objective(name)
    policy, pairs, reference, head = setting(objective)
    weighted = [replace(pair, weight=weight) for pair, weight in zip(pairs, WEIGHTS)]
    state, kwargs = objective.initial_state(), {"reference": reference, "degree_head": head}
    result = accumulate(policy, objective, weighted, state, generator(0, 1, 2), **kwargs)
    actual = gradients(policy, head)
    clear(policy, head)
    plain = accumulate(policy, objective, pairs, state, generator(0, 1, 2), **kwargs)
    clear(policy, head)
    logps = pair_logps(policy, objective, pairs, reference, head)
    outcome, _ = objective(logps, state, objective.draw(logps, generator(0, 1, 2)), training=True)
    (outcome.losses * torch.tensor(WEIGHTS)).mean().backward()
    for parameter, gradient in gradients(policy, head).items():
        assert torch.allclose(actual[parameter], gradient, rtol=1e-4, atol=1e-6), parameter
    for term, values in plain.credited.outcome.terms.items():  # what is recorded of a pair does not depend on its weight
        if not term.startswith("weight_"):
            assert torch.equal(result.credited.outcome.terms[term], values), term


def test_a_pair_of_weight_2_counts_as_two_and_one_of_weight_0_as_none(setting):
    objective = make_objective("dpo")
    policy, pairs, reference, _ = setting(objective)

    def gradient_of(batch):
        clear(policy, None)
        accumulate(policy, objective, batch, {}, generator(0, 1, 2), reference=reference)
        return torch.cat([g.flatten() for g in gradients(policy).values()]) * len(batch)

    weighted = gradient_of([replace(pairs[0], weight=2.0), pairs[1], replace(pairs[2], weight=0.0)])
    repeated = gradient_of([pairs[0], pairs[0], pairs[1]])
    assert (weighted - repeated).norm() <= 1e-5 * repeated.norm()


def test_the_degree_of_a_pair_is_added_to_its_margin(setting):
    for name, unit in (("dpo", 1.0), ("simpo", 2.0), ("alpha_dpo", 10.0)):
        objective = make_objective(name)
        policy, pairs, reference, _ = setting(objective)
        with torch.no_grad():
            terms, more = (
                accumulate_terms(policy, of, pairs, reference) for of in (objective, objective.replace(degree_margin=0.25))
            )
        added = torch.tensor([unit * 0.25 * (degree or 0.0) for degree in DEGREES])
        torch.testing.assert_close(terms["logit"] - more["logit"], added, atol=1e-5, rtol=1e-5)
        assert "target_margin" in more


def accumulate_terms(policy, objective, pairs, reference):
    return objective(pair_logps(policy, objective, pairs, reference), objective.initial_state(), {}, training=True)[0].terms


def test_spo_learns_the_degree_of_annotated_pairs_from_their_rejected_answers(setting):
    objective = make_objective("spo", annotated_degrees=True)
    policy, pairs, reference, head = setting(objective)
    assert [[a.degree for a in pair.degraded if a.completion == pair.rejected] for pair in pairs] == [[1], [], [3], [2], [], [1]]
    p = pair_logps(policy, objective, pairs, reference, head)
    assert p.degraded.present.sum() == sum(len(pair.degraded) for pair in pairs)
    with pytest.raises(ValueError, match="spo does not use annotated_degrees"):
        make_objective("spo", annotated_degrees=True, degraded_source="both")


def test_every_pair_is_used_once_per_epoch():
    order = BatchSchedule.of(25, 5, seed=3)
    seen = [i for step in range(1, 11) for i in order.batch(step)]
    assert sorted(seen[:25]) == sorted(seen[25:]) == list(range(25))
    assert seen[:25] != seen[25:]
    crossing = [BatchSchedule.of(7, 5, seed=0).batch(step) for step in range(1, 8)]
    assert sorted(i for batch in crossing for i in batch) == sorted(list(range(7)) * 5)


def test_a_batch_may_be_larger_than_the_set():
    batch = BatchSchedule.of(3, 8, seed=0).batch(1)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]


def test_the_learning_rate_schedule_equals_hugging_faces():
    from torch.optim import SGD
    from transformers import get_scheduler

    for name in ("cosine", "linear", "constant"):
        config = TrainConfig.parse(
            objective="dpo", steps=37, learning_rate=0.5, schedule=name, warmup_ratio=0.1 if name != "constant" else 0
        )
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler = get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=37)
        for step in range(1, 38):
            assert config.rate(step) == pytest.approx(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()


def test_every_objective_makes_a_step(setting):
    for name in OBJECTIVES:
        objective = make_objective(name)
        policy, pairs, reference, head = setting(objective)
        state = objective.initial_state()
        if objective.needs_dataset:
            with torch.no_grad():
                state = objective.dataset_state([pair_logps(policy, objective, pairs, reference, head)])
        result = accumulate(policy, objective, pairs, state, generator(0, 1, 2), reference=reference, degree_head=head)
        assert torch.isfinite(result.credited.outcome.losses).all(), name


def test_degraded_answers_fit_with_a_prompt_that_was_cut_for_shorter_ones(model_folder):
    from lab.training.data.encoded_pairs import degrade_answer

    policy = load_policy(str(model_folder("llama")), device="cpu")
    encoder = Encoder(policy.tokenizer, 64)
    pair = pair_of({"prompt": "x" * 300, "chosen": "Yes.", "rejected": "No."})
    prompt = encode_pair(pair, encoder).chosen.prompt
    text = "First mix the flour and the water, then knead the soft dough, then warm the old oven for a good while. " * 3
    degraded = degrade_answer(text, pair, encoder, prompt, DegradedSpec(degrees=3, source="sampled", share=1.0, pooling="last"))
    assert degraded
    assert all(len(prompt) + len(answer.completion.answer) <= 64 for answer in degraded)
