"""Held-out pairs: how they are chosen, that they are never trained on, and their terms under every objective."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab.objectives import OBJECTIVES, make_objective
from lab.pairs import Pair, pair_of
from lab.policy import Encoder, ReferenceCache, load_policy
from lab.training.data.encoded_pairs import encode_pair
from lab.training.data.held_out import held_out_terms, split
from lab.training.data.random_streams import generator
from lab.training.metrics import batch_scalars
from lab.training.step import accumulate

FAST = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "device": "cpu", "background": False, "eval_prompts": 0}


def pair(number: int, prompt: str) -> Pair:
    return Pair(str(number), prompt, f"yes {number}", f"no {number}")


prompts = st.lists(st.integers(0, 30).map(lambda n: f"Question {n}?"), min_size=1, max_size=80)


@settings(max_examples=60)
@given(prompts, prompts, st.floats(0, 0.9), st.integers(0, 5))
def test_the_split_of_a_prompt_does_not_depend_on_other_pairs(first, more, share, seed):
    few = [pair(i, prompt) for i, prompt in enumerate(first)]
    many = few + [pair(1000 + i, prompt) for i, prompt in enumerate(more)]
    (training, held), (training_many, held_many) = split(few, share, seed), split(many, share, seed)
    assert sorted(p.id for p in training + held) == sorted(p.id for p in few)
    assert not {p.prompt for p in training} & {p.prompt for p in held}
    assert training  # never empty
    assert [p.id for p in training] == [p.id for p in few if p in training]  # in the order of the set
    if training_many and held and held_many:
        assert {p.id for p in held} == {p.id for p in held_many} & {p.id for p in few}
    edited = [Pair(p.id, p.prompt, "another answer", p.rejected) for p in few]
    assert [p.id for p in split(edited, share, seed)[1]] == [p.id for p in held]


def test_share_and_seed_of_the_split():
    pairs = [pair(i, f"Question {i}?") for i in range(4000)]
    chosen = [{p.id for p in split(pairs, 0.1, seed)[1]} for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert 0.08 < len(chosen[0]) / 4000 < 0.12
    assert chosen[0] <= {p.id for p in split(pairs, 0.2, 0)[1]}
    assert split(pairs, 0.0, 0)[1] == []


def test_equal_conversations_are_on_the_same_side():
    talk = [{"role": "user", "content": "Why?"}]
    pairs = [Pair(str(i), [{"role": "user", "content": f"Why {i}?"}], "a", "b") for i in range(40)] + [Pair("x", talk, "a", "b")]
    turned = [Pair("y", [dict(reversed(talk[0].items()))], "c", "d")]
    sides = [any(p.id == id for p in split([*pairs, *turned], 0.5, 0)[1]) for id in ("x", "y")]
    assert sides[0] == sides[1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_sets_keep_a_pair_to_train_on(count, rows, model_folder):
    run = lab.train("dpo", rows[:count], model_folder("llama"), **FAST, held_out=0.9)
    assert run.state == "finished", run.error
    assert len(run.pairs()) + len(run.held_out()) == count
    assert len(run.pairs()) >= 1


def test_a_run_never_trains_on_held_out_pairs(rows, model_folder):
    doubled = rows + [{**row, "chosen": row["chosen"] + " Indeed."} for row in rows]
    run = lab.train("sgdpo", doubled, model_folder("llama"), **FAST | {"steps": 30}, held_out=0.2)
    assert run.state == "finished", run.error
    event = run.events("held_out")["detail"].iloc[0]
    held_out = set(event["pairs"])
    assert event["evaluated"] == len(held_out) == len(run.held_out())
    stored = {p.id: p.prompt for p in lab.open_pairs(doubled).all()}
    trained = set(run.pairs()["pair"])
    assert trained | held_out == set(stored)
    assert not {stored[id] for id in trained} & {stored[id] for id in held_out}
    assert set(run.held_out()["pair"]) == held_out
    assert run.held_out()["step"].unique().tolist() == [30]
    assert run.held_out(step=29)["step"].unique().tolist() == [0]
    history = run.reader.pairs.history(event["pairs"][0])
    assert history["step"].tolist() == [0, 30]
    frame = run.held_out()
    assert np.isclose(run.scalars(["eval/loss"])["eval/loss"].iloc[-1], frame["loss"].mean())
    margins = frame["reward_chosen"] - frame["reward_rejected"]
    assert np.isclose(run.scalars(["eval/rewards/accuracies"]).iloc[-1, 0], (margins > 0).mean())
    assert not set(run.reader.pairs.batch(30)["pair"]) & held_out


def test_without_held_out_or_evaluations_all_pairs_are_trained_on(rows, model_folder):
    for off in ({"held_out": 0}, {"evaluate": False}):
        run = lab.train("dpo", rows, model_folder("llama"), **FAST | {"steps": 13}, **off)
        assert len(run.pairs()) == 50
        assert run.held_out().empty
        assert run.events("evaluation").empty


def test_eval_pairs_limits_the_pairs_of_an_evaluation(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **FAST, held_out=0.5, eval_pairs=3)
    event = run.events("held_out")["detail"].iloc[0]
    assert len(run.held_out()) == event["evaluated"] == 3 < len(event["pairs"])


@pytest.fixture(scope="module")
def setting(model_folder, tmp_path_factory):
    """Return make(objective): (policy that differs from its reference, pairs, their reference, degree head or None)."""
    rows = [{"prompt": f"Question {i}?", "chosen": f"First mix the flour, {i}.", "rejected": f"No {i}."} for i in range(6)]
    policy = load_policy(str(model_folder("llama")), device="cpu")
    encoder = Encoder(policy.tokenizer)
    cache = ReferenceCache(tmp_path_factory.mktemp("reference"), policy)

    def make(objective):
        pairs = [encode_pair(pair_of(row), encoder, objective.degraded_spec()) for row in rows]
        degraded_spec = objective.degraded_spec()
        return policy, pairs, cache.lookup, torch.nn.Linear(policy.hidden_size, degraded_spec.degrees) if degraded_spec else None

    pair_sets = [make(make_objective(name))[1] for name in OBJECTIVES]
    cache.prepare(policy, [c for pairs in pair_sets for p in pairs for c in p.completions()])
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator(0, 0, 9)) * 0.02)
    return make


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_held_out_terms_change_no_state(name, setting):
    objective = make_objective(name)
    policy, pairs, reference, head = setting(objective)
    state = objective.initial_state()
    if state:  # as in the middle of a run
        state = accumulate(
            policy, objective, pairs, state, generator(0, 1, 2), reference=reference, degree_head=head
        ).credited.state
    policy.model.zero_grad(set_to_none=True)
    before, randomness = copy.deepcopy(state), torch.get_rng_state()
    terms = held_out_terms(policy, objective, pairs, state, reference=reference, degree_head=head, batch_size=4)
    assert before.keys() == state.keys()
    assert all(torch.equal(before[key], state[key]) for key in before)
    assert torch.equal(torch.get_rng_state(), randomness)
    assert all(parameter.grad is None for parameter in policy.parameters().values())
    assert policy.model.training
    assert {values.shape for values in terms.values()} == {(6,)}
    scalars = batch_scalars(terms)
    assert np.isfinite([scalars[key] for key in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen")]).all()
    again = held_out_terms(policy, objective, pairs, state, reference=reference, degree_head=head, batch_size=4, micro_batch_size=1)
    for key, values in terms.items():
        assert np.allclose(values, again[key], atol=1e-4, equal_nan=True), key


def test_dataset_statistics_before_the_first_step_are_zero(setting):
    objective = make_objective("alpha_dpo", normalize="dataset")
    policy, pairs, reference, _ = setting(objective)
    terms = held_out_terms(policy, objective, pairs, {}, reference=reference)
    assert (terms["z"] == 0).all()
