"""What answers are worth: the world's oracle in a run, and intervals of a reward."""

from __future__ import annotations

import pytest

import lab
from lab.cli.outcome import before_and_after
from lab.training.evaluation.judges import OracleJudge, judgement
from lab.world import ensure

FAST = {"steps": 2, "batch_size": 4, "device": "cpu", "background": False, "save_every": 0}


def test_the_oracle_judges_answers_of_policy_and_reference(lab_home) -> None:
    run = lab.train("dpo", **FAST, eval_prompts=10, eval_every=1)
    assert run.state == "finished", run.error
    frame = run.scalars(["eval/oracle_reward", "eval/win_rate", "eval/valid", "eval/kl", "eval/rewards/accuracies"])
    assert frame.index.tolist() == [0, 1, 2]
    assert frame.notna().all(axis=None)
    world = ensure()
    for detail in run.events("evaluation")["detail"]:
        assert len(detail["samples"]) == 10
        assert detail["reward_low"] <= detail["eval/oracle_reward"] <= detail["reward_high"]
        assert 0 <= detail["win_low"] <= detail["eval/win_rate"] <= detail["win_high"] <= 1
        assert set(detail["groups"]) == {"new phrasing", "new task"}  # evenly from all prompts
        for sample in detail["samples"]:
            assert sample["reward"] == world.oracle(sample["prompt"], sample["answer"]).total
            assert sample["reference_reward"] == world.oracle(sample["prompt"], sample["reference_answer"]).total
    again = lab.train("ipo", **FAST, eval_prompts=10, eval_every=0)  # another run on the same model and prompts
    one, other = ([s["reference_answer"] for s in r.events("evaluation")["detail"].iloc[-1]["samples"]] for r in (run, again))
    assert one == other


def test_judging_by_hand() -> None:
    found = judgement("reward", [[1.0, 3.0], [0.0, 0.0]], [[2.0], [0.0]])
    assert found.scalars == {"eval/reward": 1.0, "eval/win_rate": 0.5}
    assert found.detail["win_low"] < 0.5 < found.detail["win_high"]
    assert (found.rewards[0][0], found.reference_rewards[0][0]) == (1.0, 2.0)


def test_every_prompt_of_the_oracle_has_a_group() -> None:
    world = ensure()
    assert OracleJudge(world).prompts == list(world.held_out_groups)


def test_before_and_after_in_words() -> None:
    before = {"eval/oracle_reward": 1.5, "reward_low": 1.2, "reward_high": 1.8, "eval/win_rate": 0.49, "eval/kl": 0.0}
    before |= {"eval/rewards/margins": 0.0, "eval/repetition": 0.01}
    after = before | {"eval/oracle_reward": 2.5, "reward_low": 2.2, "reward_high": 2.8, "eval/rewards/margins": 0.25}
    after |= {"eval/win_rate": 0.6, "win_low": 0.5, "win_high": 0.7, "eval/kl": 0.31, "kl_low": 0.25, "kl_high": 0.37}
    assert before_and_after(before, after) == [
        "margin of held-out pairs: 0 before, 0.25 after",
        "oracle reward of sampled answers: 1.5 [1.2, 1.8] before, 2.5 [2.2, 2.8] after",
        "win rate against the reference: 0.6 [0.5, 0.7]",
        "KL from the reference, nats an answer: 0.31 [0.25, 0.37]",
        "repeated 4-grams of an answer: 0.01 before, 0.01 after",
    ]
    assert before_and_after({}, {"eval/reward": 1.0}) == ["reward of sampled answers: 1"]


@pytest.mark.slow
def test_training_on_the_world_makes_answers_better() -> None:
    run = lab.train("dpo", **FAST | {"steps": 200, "batch_size": 8}, learning_rate=3e-4, eval_every=0)
    first, last = run.events("evaluation")["detail"]
    assert last["eval/oracle_reward"] > first["eval/oracle_reward"]
    assert last["win_low"] > 0.5
    assert last["eval/rewards/accuracies"] > 0.6
