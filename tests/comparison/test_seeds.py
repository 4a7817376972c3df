"""Runs that differ only in their seed: how they are grouped, and their means, intervals and differences against a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import lab
from lab.comparison.bands import aligned, common_places
from lab.comparison.groups import OfExperiment, seed_groups
from lab.comparison.uncertainty import adjusted, between, over_runs
from lab.errors import FigureError
from lab.run.config import TrainConfig
from lab.run.handle import Run
from lab.store import Change, RunError, StoreWriter, write_changes
from lab.training.run_folder import create_run

SEEDS = 3


def settings(seed: int, **more: str) -> dict[str, str]:
    return {"objective": "dpo", "steps": "5", "seed": str(seed), "template_time, day": "2026-01-01", **more}


def test_only_the_seed_may_differ_and_a_repeated_seed_is_no_sample() -> None:
    assert seed_groups([settings(0), settings(1), settings(2)]) == [(0, 1, 2)]
    assert seed_groups([settings(0), settings(1, steps="6"), settings(2)]) == [(0, 2), (1,)]
    assert seed_groups([settings(0), settings(1), settings(0), settings(1)]) == [(0, 1), (2, 3)]
    assert seed_groups([settings(0), settings(1) | {"template_time, day": "2026-01-02"}]) == [(0, 1)]
    assert seed_groups([settings(0), settings(1) | {"changed during the run": "after step 2: beta 1"}]) == [(0,), (1,)]


def test_what_goes_with_the_seed_in_an_experiment_may_differ_too() -> None:
    own = [settings(seed, model=f"m{seed}", pairs=f"p{seed}", **{"pairs.store": f"s{seed}"}) for seed in range(2)]
    place = OfExperiment("first", "dpo", ("model", "pairs"))
    assert seed_groups(own) == [(0,), (1,)]
    assert seed_groups(own, [place, place]) == [(0, 1)]
    assert seed_groups(own, [place, replace(place, experiment="second")]) == [(0,), (1,)]
    assert seed_groups(own, [place, OfExperiment()]) == [(0,), (1,)]
    assert seed_groups(own, [replace(place, with_seed=("model",))] * 2) == [(0,), (1,)], "the pairs do not go with the seed"
    assert seed_groups([own[0], own[1] | {"steps": "6"}], [place, place]) == [(0,), (1,)]


def test_a_mean_and_its_interval_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, (5, 4))
    values[3:, 2] = np.nan
    values[1:, 3] = np.inf
    estimates = over_runs(values)
    for column in range(3):
        known = values[np.isfinite(values[:, column]), column]
        interval = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
        assert (estimates.low[column], estimates.high[column]) == pytest.approx(interval)
        assert estimates.p[column] == pytest.approx(stats.ttest_1samp(known, 0).pvalue)
    assert estimates.count.tolist() == [5, 5, 3, 1]
    assert estimates.mean[3] == values[0, 3]
    assert np.isnan([estimates.low[3], estimates.high[3], estimates.p[3]]).all(), "one run has no interval"


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_and_its_interval_are_those_of_scipy(paired: bool) -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(1, 1, (4, 3)), rng.normal(0, 3, (4 if paired else 6, 3))
    estimates = between(one, other, paired=paired)
    test = stats.ttest_rel(one, other) if paired else stats.ttest_ind(one, other, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert np.allclose(estimates.low, interval.low)
    assert np.allclose(estimates.high, interval.high)
    assert np.allclose(estimates.p, test.pvalue)
    assert estimates.count.tolist() == [4, 4, 4]


def test_a_single_run_on_a_side_has_no_interval_and_equal_runs_a_certain_one() -> None:
    assert np.isnan(between(np.ones((1, 1)), np.arange(4.0)[:, None], paired=False).low).all()
    equal = between(np.full((3, 2), 2.0), np.array([[2.0, 1.0]] * 3), paired=True)
    assert (equal.low.tolist(), equal.high.tolist(), equal.p.tolist()) == ([0, 1], [0, 1], [1, 0])


def test_many_comparisons_are_adjusted_as_scipy_does_and_unknown_ones_left_out() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.8])
    assert np.allclose(adjusted(p), [0.03, np.nan, 0.03, 0.8], equal_nan=True)
    assert np.isnan(adjusted(np.full(2, np.nan))).all()


def curve(steps: list[float], values: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"value": values, "mean": values, "step": steps}, index=pd.Index(steps, name="step"))
    return frame.astype(float)


def test_runs_are_averaged_at_common_places_from_where_the_last_begins() -> None:
    curves = [curve([0, 10, 20], [0, 10, 20]), curve([1, 10], [100, 109]), curve([], [])]
    places = common_places(curves)
    assert places.tolist() == [1, 10, 20]
    values, _ = aligned(curves, places)
    assert np.array_equal(values, [[1, 10, 20], [100, 109, np.nan], [np.nan] * 3], equal_nan=True)


def seeded(
    name: str, seed: int, *, objective: str = "dpo", done: int = 20, kl: float = 1.0, offset: float = 0.0, **more: Any
) -> Run:
    """A run whose loss is its seed plus an offset plus a tenth of the step, and whose KL grows evenly to `kl` at step 20."""
    folder = lab.home.runs_dir() / name
    place = more.pop("experiment", None)
    config = TrainConfig.parse(objective=objective, steps=20, seed=seed, **more)
    pairs = config.pairs if place else "x"
    stored = {"pairs_store": str(lab.home.home() / "pairs" / f"{pairs}.sqlite"), "pairs_version": 0, "pairs_name": pairs}
    create_run(folder, config, **stored, **({"experiment": place} if place else {}))
    store = StoreWriter(folder)
    for step in range(1, done + 1):
        store.scalars(step, {"loss": seed + offset + step / 10, "seconds/trained": step * (1 + seed / 10)})
    for step in range(0, done + 1, 10):
        scalars = {"eval/kl": kl * step / 20, "eval/oracle_reward": seed + offset + step / 20}
        sample = {"prompt": "p", "answer": f"{name} at {step}", "reference_answer": "r", "reward": 0.5, "reference_reward": 0.1}
        store.scalars(step, scalars)
        store.event(step, "evaluation", **scalars, reward_low=0.0, reward_high=1.0, samples=[sample])
    store.status(step=done, state="finished")
    store.close()
    return Run(folder)


@pytest.fixture
def groups() -> lab.Comparison:
    """Three seeds of DPO, the last of which stopped at step 10, and three of SGDPO, higher by 2."""
    dpo = [seeded(f"dpo-{seed}", seed, done=10 if seed == 2 else 20) for seed in range(SEEDS)]
    return lab.compare([*dpo, *(seeded(f"sgdpo-{seed}", seed, objective="sgdpo", offset=2.0) for seed in range(SEEDS))])


def test_a_group_is_one_curve_whose_band_says_over_how_many_runs(groups: lab.Comparison) -> None:
    assert groups.labels == ["A dpo, 3 seeds", "B sgdpo, 3 seeds"]
    assert groups.run_labels[:2] == ["A dpo, seed 0", "A dpo, seed 1"]
    frame = groups.curve(0, "loss")
    assert frame["mean"].loc[10] == pytest.approx(1 + 1.0)
    half = stats.t.ppf(0.975, 2) * 1 / np.sqrt(3)
    assert (frame["high"] - frame["mean"]).loc[10] == pytest.approx(half)
    assert frame["runs"].loc[10] == 3
    assert frame["mean"].loc[11] == pytest.approx(0.5 + 1.1), "of the two that go on"
    assert frame["runs"].loc[11:].tolist() == [2] * 10
    figure = groups.figure("loss", seeds=True)
    legend = [trace.name for trace in figure.data if trace.showlegend is not False and trace.name and trace.name != "events"]
    assert legend == ["A dpo, 3 seeds, 95 % band (t)", "B sgdpo, 3 seeds, 95 % band (t)"]
    fewer = [trace for trace in figure.data if trace.line.dash == "dot" and trace.line.width == 1]
    assert [list(trace.x) for trace in fewer] == [list(range(10, 21))], "a thin dotted line where a run is missing"
    assert "of 3 seeds" in fewer[0].hovertemplate
    assert fewer[0].customdata[-1][1] == "2"
    thin = [trace.name for trace in figure.data if trace.line.width == 1 and trace.line.dash is None]
    assert thin == groups.run_labels


@pytest.mark.parametrize("axis", lab.comparison.AXES)
def test_every_axis_has_a_band_and_its_data(groups: lab.Comparison, axis: str) -> None:
    data = groups.data(["loss"], axis)
    if axis == "clock":
        assert data.empty, "these stores have no clock"
        return
    mean = data[data["label"] == "A dpo, 3 seeds"].dropna(subset="mean")
    assert set(mean["runs"]) == ({1, 2, 3} if axis == "trained" else {2, 3}), "seed 1 takes longer than seed 0"
    assert set(mean["run"]) == {""}
    assert set(data[data["run"] == "dpo-1"]["seed"]) == {1}
    groups.figure("loss", axis, dark=True).to_json()
    if axis == "trained":
        place, value = mean[["x", "mean"]].iloc[0]
        assert value == pytest.approx(np.mean([seed + place / (1 + seed / 10) / 10 for seed in range(SEEDS)]))
    if axis == "kl":
        assert mean["mean"].iloc[-1] == pytest.approx(0.5 + 2.0)


def test_a_difference_is_made_within_seeds(groups: lab.Comparison) -> None:
    less = groups.difference("loss")
    assert np.allclose(less["mean"], -2)
    assert np.allclose(less[["low", "high"]], -2), "the seeds' own differences cancel"
    assert less.attrs["paired"] == [0, 1, 2]
    apart = lab.compare([*groups.runs[:2], seeded("sgdpo-7", 7, objective="sgdpo"), seeded("sgdpo-9", 9, objective="sgdpo")])
    welch = apart.difference("loss")
    expected = stats.ttest_ind([0, 1], [7, 9], equal_var=False).confidence_interval(0.95)
    assert welch.attrs["paired"] == []
    assert welch[["low", "high"]].iloc[0].tolist() == pytest.approx([expected.low, expected.high])
    one = lab.compare([groups.runs[0], *groups.runs[3:]])
    assert one.difference("loss")["low"].isna().all(), "a single run has no interval"
    with pytest.raises(FigureError, match="needs two runs"):
        lab.compare(groups.runs[:3]).difference_figure("loss")


def test_numbers_are_of_the_latest_evaluation_that_all_seeds_have_done(groups: lab.Comparison) -> None:
    assert [groups.evaluated(number) for number in (0, 1)] == [10, 20]
    table = groups.numbers().set_index(["measure", "run"])
    row = table.loc[("Oracle reward of sampled answers", "A dpo, 3 seeds")]
    assert (row["value"], row["runs"], row["of"]) == (1.5, 3, 3)
    assert row["high"] - row["value"] == pytest.approx(stats.t.ppf(0.975, 2) / np.sqrt(3))
    matched = groups.numbers_at_kl(0.75).set_index(["measure", "run"])
    row = matched.loc[("Oracle reward of sampled answers", "A dpo, 3 seeds")]
    assert (row["value"], row["runs"], row["of"]) == (0.5 + 0.75, 2, 3), "one seed never reached it"
    less = groups.numbers_at_kl(1.0).set_index(["measure", "run"]).loc[("Oracle reward of sampled answers", "A − B")]
    assert (less["value"], less["low"], less["high"], less["runs"], less["of"]) == (-2, -2, -2, 2, 3), (
        "within seeds, two of which got there"
    )
    text = lab.comparison.numbers.as_text(groups.numbers_at_kl(0.75))
    assert text.loc["Step", "A dpo, 3 seeds"].endswith("(2 of 3 seeds)")


def test_settings_of_a_group_are_one_column(groups: lab.Comparison) -> None:
    table = groups.settings()
    assert table.loc["seed", groups.labels[0]] == "0, 1, 2"
    assert table.loc["seed", "same"]
    assert table.loc["objective"].tolist()[:2] == ["dpo", "sgdpo"]


def test_a_change_in_mid_run_parts_a_group(groups: lab.Comparison) -> None:
    write_changes(groups.runs[0].dir, [Change(5, {"learning_rate": 1e-5}, None)])
    groups.refresh()
    assert groups.labels == ["A dpo", "B dpo, 2 seeds", "C sgdpo, 3 seeds"]
    assert groups.curve(0, "loss")["mean"].iloc[0] == pytest.approx(0.1)


def test_eight_groups_of_any_size_and_not_nine() -> None:
    runs = [seeded(f"many-{seed}", seed) for seed in range(10)]
    many = lab.compare(runs)
    assert many.labels == ["A dpo, 10 seeds"]
    with pytest.raises(RunError, match="one to 8 runs or groups"):
        lab.compare(runs, group_seeds=False)


def test_a_run_has_the_name_that_it_was_given_last(groups: lab.Comparison) -> None:
    groups.runs[0].rename("baseline")
    groups.refresh()
    assert groups.labels[0] == "A dpo, 3 seeds", "its group goes by the objective"
    assert lab.compare([groups.runs[0], groups.runs[3]]).labels == ["A baseline", "B sgdpo"]


def test_groups_of_one_objective_are_told_apart_by_their_settings() -> None:
    runs = [seeded(f"dpo-{rate}-{seed}", seed, learning_rate=rate) for rate in (1e-4, 4e-4) for seed in range(2)]
    compared = lab.compare([*runs, seeded("other", 0, objective="sgdpo")])
    assert compared.labels == ["A dpo learning_rate=0.0001, 2 seeds", "B dpo learning_rate=0.0004, 2 seeds", "C sgdpo"]
    assert compared.run_labels[3] == "B dpo learning_rate=0.0004, seed 1"


def test_variants_of_an_experiment_have_their_labels_and_no_pairs_across_seeds() -> None:
    def place(variant: str) -> dict[str, Any]:
        return {"name": "rates", "variant": variant, "with_seed": ["pairs", "model"]}

    runs = [
        seeded(f"{variant}-{seed}", seed, pairs=f"world:{seed}", model=f"world:{seed}",
               learning_rate=rate, experiment=place(variant))
        for variant, rate in (("slow", 1e-4), ("fast", 4e-4)) for seed in range(2)
    ]  # fmt: skip
    for run in runs:
        run.rename(f"rates: {run.dir.name}")
    compared = lab.compare(runs)
    assert compared.labels == ["A slow, 2 seeds", "B fast, 2 seeds"]
    assert compared.difference("loss").attrs["paired"] == [0, 1]
    with pytest.raises(RunError, match=r"A slow, 2 seeds train on different pairs \(world:0, world:1\).*Choose single runs"):
        compared.pairs("log_ratio_chosen")
    assert lab.compare(runs[::2]).why_no_pairs() == ""
