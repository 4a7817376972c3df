"""Declarations as YAML and Python, values typed into a field, and rules that are checked before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab import sweeping
from lab.experiments import (
    as_python,
    as_yaml,
    check_comparison,
    check_recorded,
    check_value,
    declare,
    parse_declaration,
    parse_values,
    write_values,
)
from lab.experiments.metrics import FROM_ANSWERS, RECORDED
from lab.objectives import DPO, OBJECTIVES, make_objective, register
from lab.run.config import ConfigError, TrainConfig
from lab.training.metrics import batch_scalars
from lab.world import ensure
from tests.objectives.helpers import random_pairs

DECLARATIONS = [
    declare("dpo", 8),
    declare(
        ["dpo", {"name": "sgdpo", "r1": [0.6, 0.9], "learning_rate": 2e-5, "label": "S: the first, #1"},
         {"name": "spo", "base": {"name": "simpo", "beta": 2.0}, "degrees": "learned"}],
        [3, 1],
        {"learning_rate": [1e-4, 2e-5], "pairs": ["/a, b/c #1.jsonl", "world"], "evaluate": False, "eval_prompts": None,
         "lora_targets": "q_proj,v_proj", "keep_best": "", "pairs_version": "7"},
        {"model": ["base-0", "135"]},
        {"metrics": ["eval/kl"], "at": ["end", "kl=2"], "baseline": "dpo", "smallest": 0.05},
    ),
]  # fmt: skip


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_yaml_and_python_mean_the_same_declaration(declaration: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_declaration(as_yaml("mine", declaration), "other", "the file") == ("mine", declaration)
    given: dict[str, Any] = {}
    monkeypatch.setattr(lab, "sweep", lambda objectives, **more: given.update(more, objectives=objectives))
    exec(as_python("mine", declaration), {})
    assert given.pop("name") == "mine"
    parts = {name: given.pop(name, None) for name in ("objectives", "seeds", "with_seed", "compare")}
    assert declare(parts["objectives"], parts["seeds"], given, parts["with_seed"], parts["compare"]) == declaration


TEXT = st.text(min_size=1, max_size=12)
VALUE = st.one_of(TEXT, st.sampled_from(["1e-4", "0100", "1:30", "yes", "~", "2026-01-31", ".5", "1_0", "- a", "&a", "<<"]),
                  st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(VALUE, min_size=2, max_size=4),
    TEXT.filter(str.strip),
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
def test_what_is_written_is_read_again(values: list[Any], label: str, seeds: list[int]) -> None:
    entry = {"name": "sgdpo", "label": label, "r1": values}
    declaration = declare(["dpo", entry], seeds, {"model": values}, {"pairs": values}, {"baseline": label})
    assert parse_declaration(as_yaml("mine", declaration), "other", "the file") == ("mine", declaration)
    assert parse_values(write_values(values)) == values


def test_values_are_written_as_in_yaml() -> None:
    assert parse_values("1e-4, 2, 0.5") == [1e-4, 2, 0.5]
    assert parse_values("dpo, {name: simpo, beta: 2}, 'a, b'") == ["dpo", {"name": "simpo", "beta": 2}, "a, b"]
    assert parse_values(" ") == []
    for values in ([0.1, "x"], ["a, b", True, None, "1"], [{"name": "simpo", "beta": 2.0}]):
        assert parse_values(write_values(values)) == values
    with pytest.raises(ConfigError, match="is no list of values; separate values by commas"):
        parse_values("[1, 2")


def test_a_value_is_checked_by_itself() -> None:
    check_value("learning_rate", 1e-4)
    check_value("r1", 0.5, "sgdpo")
    for name, value, objective, message in (
        ("learning_rate", -1, None, "learning_rate = -1 does not work"),
        ("r1", 7, "sgdpo", "sgdpo: r1 = 7: it must be at most 1."),
        ("learning_rte", 1, "sgdpo", "Did you mean 'learning_rate'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_value(name, value, objective)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"metrics": "oracle_reward"}, "'oracle_reward' is no measure of evaluations.*Did you mean 'eval/oracle_reward'"),
        ({"metrics": ["eval/kl", "eval/oracle_rewrad"]}, "'eval/oracle_rewrad' is no measure.*Did you mean 'eval/oracle_reward'"),
        ({"metrics": "seconds"}, "'seconds' is no measure of evaluations"),
        ({"metrics": "eval/grad_norm"}, "'eval/grad_norm' is no measure"),
        ({"metrics": "eval/reward_chosen"}, "'eval/reward_chosen' is no measure"),
        ({"at": "step=-5"}, "no run can reach it"),
        ({"at": "accuracy=1.5"}, "no run can reach it"),
        ({"at": ["end", "klx"]}, "cannot be compared at 'klx'"),
        ({"baseline": "simpo"}, "compare: baseline = 'simpo' does not work. There is no variant 'simpo'"),
        ({"smallest": -0.1}, "smallest = -0.1 does not work"),
        ({"smallest": float("inf")}, "smallest = inf does not work"),
        ({"metrics": 5}, "'5' is no measure"),
        ({"at": True}, "cannot be compared at 'True'"),
        ({"metrics": "eval/kl", "at": ["kl", "kl=2"]}, "eval/kl is equal where runs are compared"),
        ({"at": "kl=nan"}, "'nan' in 'kl=nan' is no number"),
    ],
)
def test_a_rule_is_checked_before_the_runs(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_comparison(rule, ["dpo", "sgdpo"])
    folder, declaration = sweeping.declared(["dpo", "sgdpo"], seeds=2, compare=rule, name="mine")
    with pytest.raises(ConfigError, match=message):
        sweeping.store_declaration(folder, declaration)
    assert not folder.exists
    good = {"metrics": ["eval/kl", "eval/target_margin"], "at": "kl=2", "baseline": "sgd", "smallest": 0.1}
    check_comparison(good, ["dpo", "sgdpo"])


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        ({"metrics": "eval/oracle_reward"}, {}, "no run will record eval/oracle_reward: only the embedded world has an oracle"),
        ({"metrics": ["eval/kl", "eval/win_rate"]}, {}, "eval/win_rate: no reward_model is set"),
        ({"metrics": "eval/valid"}, {"oracle": True, "reward_model": "judge"}, "in place of the oracle"),
        ({"metrics": "eval/reward"}, {"oracle": True}, "eval/reward: no reward_model is set"),
        ({"metrics": "eval/loss", "at": "kl"}, {"eval_prompts": 0}, "eval/kl: eval_prompts is 0"),
        ({"metrics": "eval/loss"}, {"held_out": 0.0}, "eval/loss: held_out is 0"),
        ({"at": "kl"}, {"held_out": 0.0}, "eval/kl: held_out is 0, so there is no prompt"),
        ({"at": ["end", "accuracy=0.6"]}, {"evaluate": False}, "eval/rewards/accuracies: evaluate is off"),
        ({"at": "step=60"}, {"steps": 50}, "step=60 is after the end"),
    ],
)
def test_a_rule_compares_only_what_its_runs_can_record(rule: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    oracle = settings.pop("oracle", False)
    config = TrainConfig(objective=DPO(), **settings)
    with pytest.raises(ConfigError, match=message):
        check_recorded(rule, [config], oracle=oracle)


def test_known_measures_are_what_evaluations_of_the_objectives_record() -> None:
    recorded: set[str] = set()
    for name in OBJECTIVES:
        objective = make_objective(name)
        pairs = random_pairs(0, objective=objective)
        state = objective.dataset_state([pairs]) if objective.needs_dataset else objective.initial_state()
        draws = objective.draw(pairs, torch.Generator().manual_seed(0))
        terms = objective(pairs, state, draws, training=False)[0].terms
        recorded |= {f"eval/{term}" for term in batch_scalars({term: values.float().numpy() for term, values in terms.items()})}
    assert recorded == RECORDED - FROM_ANSWERS


def test_a_measure_that_pairs_from_a_file_have_no_judge_for_is_refused(tmp_path: Path, shared_cache: Path) -> None:
    ensure(cache=shared_cache)
    rows = [{"prompt": f"q{i}", "chosen": " a", "rejected": " b"} for i in range(20)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder, declaration = sweeping.declared(
        ["dpo"], seeds=2, pairs=str(pairs), compare={"metrics": "eval/oracle_reward"}, name="mine"
    )
    with pytest.raises(ConfigError, match="no run will record eval/oracle_reward: only the embedded world"):
        sweeping.store_declaration(folder, declaration)
    assert not folder.exists
    sweeping.resolved(*sweeping.declared(["dpo"], seeds=2, pairs="world", compare={"metrics": "eval/oracle_reward"}, name="world"))


def test_a_rule_needs_one_run_that_records_it() -> None:
    able = TrainConfig(objective=DPO(), steps=60, reward_model="judge")
    rule = {"metrics": ["eval/loss", "eval/reward", "eval/win_rate"], "at": ["kl=2", "step=60"]}
    check_recorded(rule, [TrainConfig(objective=DPO(), evaluate=False, steps=10), able], oracle=False)
    check_recorded({"metrics": ["eval/oracle_reward", "eval/valid", "eval/win_rate"]}, [TrainConfig(objective=DPO())], oracle=True)


def test_terms_of_an_own_objective_may_be_compared() -> None:
    class Own(DPO):
        name = "with_own_score"

    rule = {"metrics": "eval/own_score"}
    with pytest.raises(ConfigError, match="'eval/own_score' is no measure"):
        check_comparison(rule, [])
    register(Own)
    try:
        check_comparison(rule, [])
    finally:
        del OBJECTIVES[Own.name]
