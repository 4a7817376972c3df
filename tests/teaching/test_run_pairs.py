"""Pairs of a run come back as the numbers and tokens that the run recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lab
from lab.objectives import make_objective
from lab.store import RunError
from lab.teaching import batch_table, pair_of_run, pairs_of_run, tokens_of_pair
from lab.teaching.run_pairs import require_reference
from lab.whatif import examine, free

STEPS = 3
_trained: dict[str, lab.Run] = {}


@pytest.fixture
def trained(model_folder: Any, rows: list[dict[str, str]]) -> Callable[[str], lab.Run]:
    """trained("dpo") is a short run that keeps the tokens of its last step only. It is made once."""

    def make(objective: str) -> lab.Run:
        if objective not in _trained:
            settings: dict[str, Any] = {
                "steps": STEPS,
                "batch_size": 3,
                "learning_rate": 1e-3,
                "warmup_ratio": 0.0,
                "token_steps": 1,
            }
            more: dict[str, Any] = {
                "device": "cpu",
                "evaluate": False,
                "probe_budget": 0.0,
                "background": False,
                "save_every": STEPS,
            }
            run = lab.train(objective, rows[:9], model_folder("llama"), **settings, **more)
            assert run.state == "finished", run.error
            _trained[objective] = run
        return _trained[objective]

    return make


@pytest.mark.parametrize("step", [2, STEPS])
def test_the_batch_of_a_step_has_the_numbers_of_the_run(step: int, trained: Callable[[str], lab.Run]) -> None:
    run = trained("sgdpo")
    recorded = run.reader.pairs.batch(step)
    pairs = pairs_of_run(run, step)
    assert len(pairs) == 3
    np.testing.assert_allclose([p.log_x1 for p in pairs], recorded["log_ratio_chosen"], atol=1e-4)
    np.testing.assert_allclose([p.log_x2 for p in pairs], recorded["log_ratio_rejected"], atol=1e-4)
    total = [p.log_x1 + p.tokens[0] * p.ref[0] for p in pairs]
    np.testing.assert_allclose(total, recorded["logps_chosen"], atol=2e-2)
    assert len(pairs_of_run(run, step, limit=2)) == 2
    model = examine(run)
    encoded = [model.encode(model.store.get(id)) for id in recorded["pair"]]
    assert [p.tokens for p in pairs] == [(len(e.chosen.answer), len(e.rejected.answer)) for e in encoded]
    free()


@pytest.mark.parametrize("name", ["dpo", "simpo"])
def test_the_terms_that_depend_on_sums_are_those_of_the_run(name: str, trained: Callable[[str], lab.Run]) -> None:
    run = trained(name)
    table = batch_table(make_objective(name), pairs_of_run(run, STEPS))
    recorded = run.reader.pairs.batch(STEPS)
    np.testing.assert_allclose(table["loss"], recorded["loss"], atol=1e-3)
    np.testing.assert_allclose(table["margin"], recorded["reward_chosen"] - recorded["reward_rejected"], atol=1e-3)


def test_a_pair_is_the_latest_row_up_to_the_step(trained: Callable[[str], lab.Run]) -> None:
    run = trained("dpo")
    last = run.reader.pairs.batch(STEPS)
    id = str(last["pair"].iloc[1])
    assert pair_of_run(run, STEPS, id) == pair_of_run(run, None, id) == pairs_of_run(run, STEPS)[1]
    with pytest.raises(RunError, match="no numbers of the pair"):
        pair_of_run(run, 0, id)


def test_tokens_are_those_of_the_step(trained: Callable[[str], lab.Run]) -> None:
    run = trained("sgdpo")
    recorded = run.reader.pairs.batch(STEPS).iloc[0]
    id = str(recorded["pair"])
    tokens = tokens_of_pair(run, STEPS, id)
    assert float(tokens.logps.X1) == pytest.approx(recorded["log_ratio_chosen"], abs=1e-4)
    assert float(tokens.logps.S_l) == pytest.approx(recorded["logps_rejected"], abs=1e-3)
    assert (len(tokens.chosen), len(tokens.rejected)) == (tokens.logps.chosen.shape[1], tokens.logps.rejected.shape[1])
    assert run.pair_store().get(id).chosen in "".join(tokens.chosen)
    with pytest.raises(RunError, match=r"no token values .* it keeps those of steps 3 to 3"):
        tokens_of_pair(run, 1, id)


def test_what_is_not_stored_is_refused(trained: Callable[[str], lab.Run]) -> None:
    run = trained("dpo")
    with pytest.raises(RunError, match="no stored batch of step 99; the latest one that is stored before it is of step 3"):
        pairs_of_run(run, 99)
    with pytest.raises(RunError, match="take a later step"):
        pairs_of_run(run, 0)


def test_a_run_without_a_reference_is_refused(trained: Callable[[str], lab.Run]) -> None:
    run = trained("dpo")
    require_reference(run, True)
    with pytest.raises(RunError, match="has no reference, so its pairs have no log-ratios"):
        require_reference(run, False)
