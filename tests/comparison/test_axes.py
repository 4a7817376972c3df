"""Runs on a common axis, at a common distance, and what differs between them: pure functions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.comparison import AXES, by, pairs_seen
from lab.comparison.answers import prompts, side_by_side
from lab.comparison.bands import kl_targets
from lab.comparison.matching import at_kl, common_reach, first_reach
from lab.comparison.numbers import as_text, format_number, numbers
from lab.comparison.pairwise import compare_batches, term_by_pair
from lab.comparison.settings import difference, settings_of
from lab.store import Change

finite = st.floats(-1e6, 1e6)
quick = settings(deadline=None, max_examples=40)


def series(values: list[float], every: int = 1) -> pd.Series:
    return pd.Series(values, index=pd.Index(range(every, every * len(values) + 1, every), name="step"), dtype=float)


def test_by_step_changes_nothing_and_an_unknown_axis_is_named() -> None:
    frame = series([1.0, 2.0, 3.0]).to_frame("loss")
    result = by(frame, "step")
    assert result["loss"].tolist() == [1, 2, 3]
    assert result["step"].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="no axis 'epochs'; choose one of step, pairs, trained, clock, kl"):
        by(frame, "epochs")


@quick
@given(st.lists(finite, min_size=2, max_size=30), st.lists(st.floats(0.01, 10), min_size=30, max_size=30))
def test_by_time_keeps_every_value_in_its_order(values: list[float], seconds: list[float]) -> None:
    frame = series(values).to_frame("loss")
    clock = pd.Series(np.cumsum(seconds[: len(values)]), index=frame.index)
    result = by(frame, "trained", clock)
    assert result["loss"].tolist() == values
    assert result.index.is_monotonic_increasing
    assert result.index.to_numpy() == pytest.approx(clock.to_numpy())


def test_a_step_without_a_place_lies_between_its_neighbours() -> None:
    result = by(series([5.0, 6.0, 7.0, 8.0]).to_frame("loss"), "clock", pd.Series([10.0, 30.0], index=[1, 3]))
    assert result.index.tolist() == [10.0, 20.0, 30.0, 30.0]


def test_by_kl_has_a_point_a_look_in_the_order_of_time() -> None:
    kl = pd.Series([0.0, 2.0, 1.0, 9.0], index=[0, 2, 4, 10])  # the run comes nearer again; its last look is behind the curve
    result = by(series([10.0, 20.0, 30.0, 40.0]).to_frame("value"), "kl", kl)
    assert result.index.tolist() == [2.0, 1.0]
    assert result["value"].tolist() == [20.0, 40.0]
    assert result["step"].tolist() == [2, 4]
    assert by(series([1.0]).to_frame("value"), "kl", pd.Series(dtype=float)).empty


@quick
@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 500), st.integers(0, 500))
def test_a_branch_goes_on_counting_the_pairs_of_its_parent(own: int, before: int, start: int, more: int) -> None:
    seen = pairs_seen(np.array([start, start + more]), own, start=start, before=before)
    assert seen.tolist() == [start * before, start * before + more * own]


@quick
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0, 120))
def test_the_first_reach_is_where_the_distance_is_reached_and_not_before(distances: list[float], target: float) -> None:
    kl = pd.Series(distances, index=range(0, 10 * len(distances), 10), dtype=float)
    step = first_reach(kl, target)
    if target > max(distances):
        assert math.isnan(step)
        return
    assert (kl[kl.index < step - 1e-6] < target + 1e-9).all()
    assert np.interp(step, kl.index, kl) >= target - 1e-6


def test_a_run_that_moves_to_infinity_passes_no_distance_on_the_way() -> None:
    lost, other = pd.Series([0.0, 1.0, math.inf]), pd.Series([0.0, 1.0, 3.0])
    assert math.isnan(first_reach(lost, 2.0))
    assert first_reach(lost, 0.5) == 0.5
    assert common_reach({"lost": lost, "other": other}) == 1.0
    assert math.isnan(common_reach({"lost": pd.Series([math.inf]), "other": other}))
    assert kl_targets([lost, other]).max() == 3.0
    assert len(kl_targets([pd.Series([math.inf])])) == 0


def test_runs_at_the_same_distance() -> None:
    fast, slow = pd.Series([0.0, 4.0], index=[0, 10]), pd.Series([0.0, 2.0], index=[0, 10])
    rewards = pd.DataFrame({"reward": [0.0, 1.0]}, index=[0, 10])
    assert common_reach({"A": fast, "B": slow}) == 2
    result = at_kl({"A": rewards, "B": rewards}, {"A": fast, "B": slow}, 2.0)
    assert result["step"].tolist() == [5, 10]
    assert result["reward"].tolist() == [0.5, 1.0]
    beyond = at_kl({"A": rewards, "B": rewards}, {"A": fast, "B": slow}, 3.0)
    assert beyond.loc["A", "reward"] == 0.75
    assert beyond.loc["B"].isna().all()
    assert math.isnan(common_reach({"A": fast, "B": pd.Series(dtype=float)}))


def test_settings_that_differ_come_first_and_nested_parameters_have_their_path() -> None:
    def manifest(objective: dict, version: int, **config: object) -> dict:
        return {"config": {"objective": objective, "pairs": "x", "name": "n", "steps": 5, **config}, "pairs_version": version}

    inner = {"name": "sgdpo", "r1": 0.5}
    manifests = {"A": manifest({"name": "spo", "base": inner}, 0), "B": manifest({"name": "dpo", "beta": 0.1}, 2)}
    changed = Change(40, {"beta": 0.2}, 3)
    result = difference({"A": settings_of(manifests["A"], []), "B": settings_of(manifests["B"], [changed])})
    differs = result[~result["same"]]
    assert differs.loc["objective"].tolist()[:2] == ["spo", "dpo"]
    assert differs.loc["objective.base.r1"].tolist()[:2] == ["0.5", "–"]
    assert differs.loc["pairs.version"].tolist()[:2] == ["0", "2"]
    assert differs.loc["changed during the run", "B"] == "after step 40: beta 0.2, pairs of version 3"
    assert result.loc["steps", "same"]
    assert result["same"].is_monotonic_increasing
    assert difference({label: settings_of(manifests["A"], []) for label in "AB"})["same"].all()


def test_numbers_with_their_intervals() -> None:
    looks: dict[str, list[dict[str, float]]] = {
        "A": [{"eval/kl": 0.5, "kl_low": 0.4, "kl_high": 0.6, "eval/completions/mean_length": 20.0}],
        "B": [{"eval/kl": 0.25}],
        "C": [],
    }
    table = numbers(looks)
    assert set(table["measure"]) == {"Distance from the reference (KL)", "Length of sampled answers"}
    shown = as_text(table)
    assert shown.loc["Distance from the reference (KL) [nats per answer]"].tolist() == ["0.5 [0.4, 0.6]", "0.25", "–"]
    assert as_text(numbers({"A": []})).empty
    assert format_number(1e-9) == "0"


def pairs(values: dict[str, float], step: int = 1, version: int = 0) -> pd.DataFrame:
    rows = [(pair, step, version, value) for pair, value in values.items()]
    return pd.DataFrame(rows, columns=["pair", "step", "version", "logps_chosen"])


@quick
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), finite, max_size=12),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), finite, max_size=12),
)
def test_the_pairs_that_both_have_the_largest_difference_first(one: dict[str, float], other: dict[str, float]) -> None:
    result = term_by_pair(pairs(one), pairs(other), "logps_chosen")
    assert set(result["pair"]) == one.keys() & other.keys()
    sizes = result["difference"].abs().tolist()
    assert sizes == sorted(sizes, reverse=True)
    for row in result.itertuples():
        assert row.difference == pytest.approx(one[row.pair] - other[row.pair])


def test_a_term_that_one_lacks_and_a_value_that_is_not_finite() -> None:
    assert term_by_pair(pairs({"a": 1.0}), pairs({"a": 1.0}), "gap").empty
    result = term_by_pair(pairs({"a": math.nan, "b": 1.0}), pairs({"a": 1.0, "b": 1.5}), "logps_chosen")
    assert result["pair"].tolist() == ["b", "a"]


def test_batches_that_part() -> None:
    same = compare_batches((step, pairs({"a": 1.0, "b": 2.0}), pairs({"b": 2.0, "a": 1.0})) for step in (1, 2, 3))
    assert same.same
    assert (same.checked, same.start) == (3, 0.0)
    assert "every one of the 3 steps" in same.message
    other = compare_batches(
        [(1, pairs({"a": 1.0}), pairs({"a": 1.5})), (2, pairs({"a": 1.0}), pairs({"b": 1.0})), (3, pairs({}), pairs({}))]
    )
    assert (other.checked, other.first, other.start) == (2, 2, 0.5)
    assert "differ from step 2" in other.message
    edited = compare_batches([(1, pairs({"a": 1.0}), pairs({"a": 1.0}, version=1))])
    assert edited.first == 1
    assert not compare_batches([]).same


def test_answers_of_the_nearest_looks_and_the_reference_once() -> None:
    def sample(answer: str, prompt: str = "p", reference: str = "r") -> dict:
        return {"prompt": prompt, "answer": answer, "reference_answer": reference}

    runs = {"A": {0: [sample("a0")], 50: [sample("a50")]}, "B": {40: [sample("b40"), sample("other", "q")]}}
    assert prompts(runs) == ["p", "q"]
    assert side_by_side(runs, "p")["answer"].tolist() == ["r", "a50", "b40"]
    at = side_by_side(runs, "p", 25)
    assert at["step"].tolist()[1:] == [0, 40]
    assert side_by_side(runs, "q")["label"].tolist() == ["reference", "B"]
    runs["B"][40][0]["reference_answer"] = "another"
    assert side_by_side(runs, "p")["label"].tolist() == ["reference of A", "reference of B", "A", "B"]


def test_every_axis_has_its_unit_in_the_title() -> None:
    assert all(axis.title for axis in AXES.values())
    assert AXES["trained"].title.endswith("[s]")
    assert AXES["kl"].title.endswith("[nats per answer]")
