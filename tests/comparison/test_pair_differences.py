"""The difference of pairs between groups of seeds and between two runs: against scipy, and what is said of many of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lab.comparison.pair_differences import Evidence, by_certainty, evidence, over_seeds, over_visits


def rows(values: dict[str, float], step: int = 10, version: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [(pair, step, version, value) for pair, value in values.items()], columns=["pair", "step", "version", "logit"]
    )


def test_a_difference_within_seeds_is_the_paired_t_test_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    one = {seed: rows({"p": rng.normal(seed + 1), "q": rng.normal(seed), "only-one": 1.0}) for seed in range(4)}
    other = {seed: rows({"p": rng.normal(seed), "q": rng.normal(seed)}) for seed in (3, 2, 1, 0, 9)}
    other[1] = other[1][other[1]["pair"] == "p"]
    table = over_seeds(one, other, "logit")
    assert table.attrs["seeds"] == [0, 1, 2, 3]
    assert set(table["pair"]) == {"p", "q"}
    table = table.set_index("pair")
    for pair, seeds in (("p", [0, 1, 2, 3]), ("q", [0, 2, 3])):
        sides = [np.array([side[seed].set_index("pair").loc[pair, "logit"] for seed in seeds]) for side in (one, other)]
        test = stats.ttest_rel(*sides)
        interval = test.confidence_interval(0.95)
        assert table.loc[pair, ["one", "other"]].tolist() == pytest.approx([side.mean() for side in sides])
        assert table.loc[pair, ["low", "high"]].tolist() == pytest.approx([interval.low, interval.high])
        assert table.loc[pair, "count"] == len(seeds)
        half = (interval.high - interval.low) / 2
        assert table.loc[pair, "certainty"] == pytest.approx(abs(table.loc[pair, "difference"]) / half)
    p = [stats.ttest_rel(*[[side[s].set_index("pair").loc[pair, "logit"] for s in seeds] for side in (one, other)]).pvalue
         for pair, seeds in (("p", [0, 1, 2, 3]), ("q", [0, 2, 3]))]  # fmt: skip
    assert table.loc[["p", "q"], "q"].tolist() == pytest.approx(stats.false_discovery_control(p).tolist())


def test_other_seeds_are_compared_by_welch_and_one_run_without_interval() -> None:
    one, other = {0: rows({"p": 1.0}), 1: rows({"p": 2.0})}, {5: rows({"p": 5.0}), 6: rows({"p": 9.0}), 7: rows({"p": 7.0})}
    table = over_seeds(one, other, "logit")
    interval = stats.ttest_ind([1, 2], [5, 9, 7], equal_var=False).confidence_interval(0.95)
    assert table[["low", "high"]].iloc[0].tolist() == pytest.approx([interval.low, interval.high])
    assert table.attrs["seeds"] == []
    single = over_seeds(one, {5: rows({"p": 5.0})}, "logit")
    assert single["difference"].tolist() == [-3.5]
    assert single["low"].isna().all()
    assert evidence(single).message.startswith("None of these 1 pairs has an interval")
    assert over_seeds(one, other, "gap").empty


def test_what_chance_alone_would_show_is_corrected() -> None:
    rng = np.random.default_rng(2)
    noise = {seed: rows({f"n{i}": float(rng.normal()) for i in range(400)} | {"sure": 9 + 0.01 * seed}) for seed in range(5)}
    nothing = {seed: rows({f"n{i}": float(rng.normal()) for i in range(400)} | {"sure": 0.0}) for seed in range(5)}
    table = over_seeds(noise, nothing, "logit")
    counted = evidence(table)
    assert (counted.pairs, counted.known) == (401, 401)
    assert 8 < counted.excluded < 35, "5 % of 400 by chance"
    assert table.loc[table["evidence"] == "shown", "pair"].tolist() == ["sure"]
    assert "exclude 0, as about 20 would by chance alone. Corrected for 401 comparisons" in counted.message
    assert counted.message.endswith("(Benjamini and Hochberg, false discovery rate 5%) 1 remains.")
    assert Evidence(3, 2, 0, 0).message.endswith("none remains.")
    assert by_certainty(table)["pair"].iloc[0] == "sure"
    assert by_certainty(table)["certainty"].is_monotonic_decreasing


def visits(
    values: dict[str, list[float]], steps: dict[str, list[int]], versions: dict[str, list[int]] | None = None
) -> pd.DataFrame:
    table = [
        (pair, step, (versions or {}).get(pair, [1] * 99)[i], value)
        for pair in values
        for i, (step, value) in enumerate(zip(steps[pair], values[pair]))
    ]
    return pd.DataFrame(table, columns=["pair", "step", "version", "logit"]).sort_values("step", kind="stable")


def test_visits_at_the_same_steps_are_compared_with_each_other() -> None:
    steps = {"p": [1, 4, 7, 9], "q": [2]}
    one = visits({"p": [1.0, 2.0, 4.0, 8.0], "q": [3.0]}, steps)
    other = visits({"p": [0.0, 0.5, 1.0], "q": [1.0]}, {"p": [1, 7, 9], "q": [2]})  # the row of step 4 was thinned out
    table = over_visits(one, other, "logit").set_index("pair")
    assert table.attrs["same_steps"]
    interval = stats.ttest_rel([1, 4, 8], [0, 0.5, 1]).confidence_interval(0.95)
    assert table.loc["p", ["low", "high"]].tolist() == pytest.approx([interval.low, interval.high])
    assert table.loc["p", ["count", "step_one"]].tolist() == [3, 9]
    assert np.isnan(table.loc["q", "low"]), "seen once"
    assert table.loc["q", "difference"] == 2


def test_visits_at_other_steps_are_compared_in_their_order_and_old_texts_left_out() -> None:
    one = visits({"p": [50.0, 1.0, 2.0]}, {"p": [1, 4, 7]}, {"p": [1, 2, 2]})
    other = visits({"p": [0.0, 0.5, 9.0]}, {"p": [2, 5, 8]})
    table = over_visits(one, other, "logit")
    assert not table.attrs["same_steps"]
    assert table["difference"].tolist() == pytest.approx([(1.0 + 1.5) / 2])
    assert table["count"].tolist() == [2]
    assert over_visits(one, other, "gap").empty
