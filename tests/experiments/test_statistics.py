"""Intervals, their coverage by simulation, Holm's correction, levels, and the number of seeds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from lab.errors import FigureError
from lab.experiments.metrics import METRICS, Metric
from lab.experiments.statistics import Curve, Level, compare, over_seeds, over_seeds_and_prompts, parse_level, seeds_needed
from lab.experiments.statistics.comparing import corrected, difference
from lab.experiments.statistics.comparison import number
from lab.experiments.statistics.estimate import Bound, Estimate
from lab.experiments.statistics.levels import SCALARS
from lab.run.config import ConfigError

REWARD = METRICS["eval/oracle_reward"]
ALL = ("A", "B")


def cells(rng, seeds, prompts, seed=0.3, prompt=0.3, rest=1.0, mean=0.0):
    """Differences with effects of seeds and prompts."""
    noise = rest * rng.normal(size=(seeds, prompts))
    return mean + seed * rng.normal(size=(seeds, 1)) + prompt * rng.normal(size=(1, prompts)) + noise


def test_over_seeds_is_the_paired_t_test():
    values = np.array([0.2, 0.5, -0.1, 0.4])
    estimate, known = over_seeds(values), stats.ttest_1samp(values, 0)
    assert estimate.p == pytest.approx(known.pvalue)
    assert estimate.interval() == pytest.approx(tuple(known.confidence_interval(0.95)))


def test_over_seeds_and_prompts_uses_the_analysis_of_variance():
    values = cells(np.random.default_rng(1), 4, 9)
    long = pd.DataFrame([(s, p, values[s, p]) for s in range(4) for p in range(9)], columns=["seed", "prompt", "d"])
    squares = anova_lm(ols("d ~ C(seed) + C(prompt)", long).fit())["mean_sq"].to_numpy()
    estimate = over_seeds_and_prompts(values)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.bounds[0].error == pytest.approx(math.sqrt(squares[0] / 36))
    assert estimate.bounds[1].error == pytest.approx(math.sqrt((squares[0] + squares[1] - squares[2]) / 36))
    assert estimate.seed_variance == pytest.approx(values.mean(1).var(ddof=1))


@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("effects", [(0.3, 0.3), (1.0, 0.0), (0.0, 1.0)])
def test_intervals_cover(seeds, effects):
    """A thousand synthetic experiments: the true difference is in 92 to 98 % of the intervals."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        low, high = over_seeds_and_prompts(cells(rng, seeds, 60, *effects, rest=2.0, mean=0.2)).interval()
        covered += low <= 0.2 <= high
    assert 920 <= covered <= 980


def gain(kl):
    return 1.2 * np.sqrt(kl)


def synthetic(rng, seeds, prompts, advantage, *, answers=0.8):
    """Curves of two variants that differ by `advantage` at every KL; speed, level and KL vary with the seed."""
    steps = np.arange(0, 201, 40.0)
    of_prompts = rng.normal(size=prompts)
    names = tuple(map(str, range(prompts)))
    curves = {label: {} for label in ALL}
    for seed in range(seeds):
        for label in ALL:
            kl = (3.5 + 0.4 * rng.normal()) * (steps / 200) ** 1.2
            level = 0.15 * rng.normal() + of_prompts + 0.3 * rng.normal(size=prompts)
            true = gain(kl) + (advantage if label == "A" else 0.0) * (steps > 0)
            rewards = true[:, None] + level + answers * rng.normal(size=(len(steps), prompts))
            measured = kl * np.exp(0.03 * rng.normal(size=len(steps)))
            scalars = {"eval/oracle_reward": rewards.mean(1), "eval/kl": measured}
            curves[label][seed] = Curve(steps, scalars, names, {"eval/oracle_reward": rewards})
    return curves


@pytest.mark.parametrize("by_prompt", [True, False])
def test_intervals_cover_at_equal_kl(by_prompt):
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(200):
        curves = synthetic(rng, 6, 40, 0.25)
        if not by_prompt:
            curves = {v: {s: Curve(c.steps, c.scalars) for s, c in own.items()} for v, own in curves.items()}
        made = difference(curves, "A", "B", REWARD, Level("kl", 1.5), seeds=range(6), smallest=0.1)
        assert made.estimate is not None
        assert (made.estimate.prompts == 40) == by_prompt
        low, high = made.estimate.interval()
        covered += low <= 0.25 <= high
    assert 184 <= covered <= 196


def test_at_equal_steps_the_faster_one_only_seems_better():
    """Two variants with the same reward at every KL, one of which moves further: a difference at the end, none at equal KL."""
    rng = np.random.default_rng(3)
    steps = np.arange(0, 201, 20.0)
    curves = {"A": {}, "B": {}}
    for seed in range(8):
        for label, speed in (("A", 3.0), ("B", 1.0)):
            kl = (speed + 0.1 * rng.normal()) * steps / 200
            curves[label][seed] = Curve(steps, {"eval/oracle_reward": gain(kl) + 0.05 * rng.normal(), "eval/kl": kl})
    end, equal = compare(curves, [("A", "B")], [REWARD], [Level("end"), Level("kl")], seeds=range(8))
    assert end.better == "A"
    assert not equal.shown
    assert equal.value == pytest.approx(1.0, abs=0.25)


def test_holm_and_intervals_agree():
    rng = np.random.default_rng(5)
    for _ in range(50):
        made = [
            difference(
                {"A": {s: constant(v) for s, v in enumerate(rng.normal(rng.choice([0, 1.5]), 1, 6))}, "B": zeros(6)},
                "A", "B", REWARD, Level("end"), seeds=range(6), smallest=0.1,
            )
            for _ in range(4)
        ]  # fmt: skip
        p = sorted(each.estimate.p for each in made)
        by_hand = next((i for i in range(4) if p[i] >= 0.05 / (4 - i)), 4)
        result = corrected(made)
        assert sum(each.shown for each in result) == by_hand
        for each in result:
            low, high = each.interval
            assert each.shown == (low > 0 or high < 0) == (each.p_adjusted < 0.05)
            assert each.alpha <= 0.05


def test_holm_is_that_of_statsmodels():
    rng = np.random.default_rng(6)
    sides = [{s: constant(v) for s, v in enumerate(rng.normal(mean, 1, 6))} for mean in (0, 3, 1, 0, 2, 1.2)]
    more = {"metric": REWARD, "level": Level("end"), "seeds": range(6), "smallest": 0.1}
    made = [difference({"A": side, "B": zeros(6)}, "A", "B", **more) for side in sides]
    shown, adjusted, _, _ = multipletests([each.estimate.p for each in made], method="holm")
    result = corrected(made)
    assert [each.p_adjusted for each in result] == pytest.approx(list(adjusted))
    assert [each.shown for each in result] == list(shown)
    assert 0 < sum(shown) < 6


def constant(value):
    return Curve(np.array([0.0, 10.0]), {"eval/oracle_reward": np.array([0.0, value])})


def zeros(count):
    return {seed: constant(0.0) for seed in range(count)}


def test_false_claims_stay_below_five_percent_of_the_families():
    rng = np.random.default_rng(13)
    wrong = 0
    for _ in range(200):
        sides = {f"v{i}": {s: constant(v) for s, v in enumerate(rng.normal(0, 1, 5))} for i in range(3)}
        made = [
            difference(sides, f"v{i}", f"v{j}", REWARD, Level("end"), seeds=range(5), smallest=0.1)
            for i, j in [(0, 1), (0, 2), (1, 2)]
        ]
        wrong += any(each.shown for each in corrected(made))
    assert wrong <= 16


@pytest.mark.parametrize(("sd", "size"), [(1.0, 1.0), (1.0, 0.5), (0.3, 0.1), (0.05, 0.2)])
def test_needed_seeds_are_those_of_the_paired_t_test(sd, size):
    estimate = Estimate(0.0, (Bound(sd, 3),), 4, None, sd**2, 0.0)
    needed = seeds_needed(estimate, size)
    exact = TTestPower().solve_power(effect_size=size / sd, power=0.8, alpha=0.05) if sd > size / 3 else 2.5
    assert needed == math.ceil(exact)


def test_more_seeds_do_not_help_where_prompts_decide():
    estimate = Estimate(0.0, (Bound(1.0, 3),), 4, 20, 1.0, 0.05**2)
    assert seeds_needed(estimate, 0.1) is None
    assert seeds_needed(estimate, 0.5) > seeds_needed(Estimate(0.0, (Bound(1.0, 3),), 4, 20, 1.0, 0.0), 0.5)


def test_a_run_that_never_reaches_the_level_is_named():
    curves = synthetic(np.random.default_rng(2), 5, 10, 0.0)
    low = curves["B"][3]
    curves["B"][3] = Curve(low.steps, {**low.scalars, "eval/kl": low.scalars["eval/kl"] * 0.1}, low.prompts, low.by_prompt)
    del curves["A"][4]
    made = difference(curves, "A", "B", REWARD, Level("kl", 1.0), seeds=range(5), smallest=0.1)
    assert (made.seeds, made.never, made.unfinished) == ((0, 1, 2), {"B": (3,)}, (4,))
    assert "left out: B never reaches it with seed 3, seed 4 not finished" in made.sentence
    common = difference(curves, "A", "B", REWARD, Level("kl"), seeds=range(5), smallest=0.1)
    assert (common.seeds, common.never) == ((0, 1, 2, 3), {})
    assert common.value == pytest.approx(max(curves["B"][3].scalars["eval/kl"]))


def test_a_level_at_which_a_variant_is_hardly_trained_is_said():
    curves = synthetic(np.random.default_rng(2), 4, 10, 0.0)
    near = {
        seed: Curve(own.steps, {**own.scalars, "eval/kl": own.scalars["eval/kl"] * 0.02}, own.prompts, own.by_prompt)
        for seed, own in curves["B"].items()
    }
    made = difference({"A": curves["A"], "B": near}, "A", "B", REWARD, Level("kl"), seeds=range(4), smallest=0.1)
    ends = [curves["A"][seed].scalars["eval/kl"].max() for seed in range(4)]
    assert made.way["A"] == pytest.approx(np.mean([made.value / end for end in ends]))
    assert made.way["B"] > 0.8
    assert f"; hardly trained there: A has made {made.way['A']:.0%} of its way" in made.sentence
    equal = difference(curves, "A", "B", REWARD, Level("kl"), seeds=range(4), smallest=0.1)
    assert "hardly trained" not in equal.sentence
    assert not difference(curves, "A", "B", REWARD, Level("end"), seeds=range(4), smallest=0.1).way


def moving(scalar, *values):
    """Curves of three seeds whose measure has some values, and whose reward rises."""
    return {
        seed: Curve(np.array([0.0, 10.0, 20.0]), {scalar: np.array(values), "eval/oracle_reward": np.array([0, 1, 2 + 0.1 * seed])})
        for seed in range(3)
    }


@pytest.mark.parametrize(
    ("level", "a", "b", "said"),
    [
        ("kl", (0.5, 1.0, 2.0), (0.0, 0.1, 0.3), "; hardly trained there: A has made 0% of its way."),  # above the level before it
        ("kl", (0.001, 1.0, 2.0), (0.0, 2e-4, 4e-4), "; hardly trained there: A has made 0% of its way."),
        ("loss", (0.69, 0.8, 0.9), (0.69, 0.6, 0.5), "A has made 0% of its way, B has made 0% of its way."),  # A's loss only rises
        ("kl", (0.0, math.inf, math.inf), (0.0, 1.0, 2.0), "A has made 0% of its way, B has made 0% of its way."),
        ("kl", (math.nan, math.nan, 2.0), (0.0, 1.0, 2.0), "over 3 seeds: "),
    ],
)
def test_the_share_of_a_way_is_never_below_zero_or_left_out(level, a, b, said):
    scalar = SCALARS[level]
    made = difference(
        {"A": moving(scalar, *a), "B": moving(scalar, *b)}, "A", "B", REWARD, Level(level), seeds=range(3), smallest=0.1
    )
    assert said in made.sentence
    assert "-" not in made.sentence.partition("hardly")[2]
    assert ("hardly" in made.sentence) == ("hardly" in said or "way" in said)


def test_a_step_towards_infinity_passes_no_level():
    curves = {"A": moving("eval/kl", 0.0, math.inf, math.inf), "B": moving("eval/kl", 0.0, 1.0, 2.0)}
    made = difference(curves, "A", "B", REWARD, Level("kl", 1.0), seeds=range(3), smallest=0.1)
    assert made.never == {"A": (0, 1, 2)}


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("A", math.inf, "; left out: A is infinite with seed 2."),
        ("B", -math.inf, "; left out: B is infinite with seed 2."),
        ("A", math.nan, "; left out: seed 2 not measured in both."),
    ],
)
def test_a_seed_without_a_finite_value_is_left_out_with_the_reason(at, value, said):
    curves = {"A": zeros(4), "B": zeros(4)}
    curves[at][2] = constant(value)
    made = difference(curves, "A", "B", REWARD, Level("end"), seeds=range(4), smallest=0.1)
    assert (made.seeds, made.left_out) == ((0, 1, 3), (2,))
    assert made.sentence.endswith(said)


def test_both_infinite_are_named():
    curves = {label: {**zeros(2), 2: constant(math.inf)} for label in ALL}
    made = difference(curves, "A", "B", REWARD, Level("end"), seeds=range(3), smallest=0.1)
    assert made.sentence.endswith("left out: A is infinite with seed 2, B is infinite with seed 2.")


def test_tiny_differences_keep_their_digits():
    assert number(9.1e-12, 2e-12) == "9.1e-12"
    assert number(0.1, 1e-17) == "0.1"


def test_where_nothing_is_compared_there_is_an_empty_table_and_a_sentence():
    made = compare({"A": {}}, [], [REWARD], [Level("end")], seeds=[0])
    assert list(made.table()["sentence"]) == []
    full = compare({"A": zeros(2), "B": zeros(2)}, [("A", "B")], [REWARD], [Level("end")], seeds=range(2))
    assert list(made.table()) == list(full.table())
    with pytest.raises(FigureError, match="nothing is compared"):
        made.figure()


def shifted(values, scalar="eval/oracle_reward"):
    return {seed: Curve(np.array([0.0, 10.0]), {scalar: np.array([0.0, v])}) for seed, v in enumerate(values)}


@pytest.mark.parametrize(
    ("metric", "a", "b", "sentence"),
    [
        (
            REWARD, [1.0, 1.2, 1.1, 1.3], [0.8, 1.0, 0.9, 1.05],
            "A is better than B in oracle reward of sampled answers by 0.212 [0.173, 0.252] after training over 4 seeds.",
        ),
        (
            REWARD, [0.8, 1.0, 0.9, 1.05], [1.0, 1.2, 1.1, 1.3],
            "B is better than A in oracle reward of sampled answers by 0.212 [0.173, 0.252] after training over 4 seeds.",
        ),
        (
            METRICS["eval/loss"], [0.5, 0.6, 0.5], [0.7, 0.79, 0.71],
            "A is better than B in loss, held out (lower) by 0.200 [0.175, 0.225] after training over 3 seeds.",
        ),
        (
            Metric("mine"), [2.0, 2.1, 2.2], [1.0, 1.1, 1.21],
            "A is higher than B in mine by 0.997 [0.982, 1.011] after training over 3 seeds.",
        ),
        (
            REWARD, [1.0, 1.3, 0.9, 1.1], [1.1, 1.0, 1.0, 1.1],
            "no difference shown between A and B in oracle reward of sampled answers after training over 4 seeds: the interval "
            "[-0.28, 0.33] includes 0; to see 0.1 you would need about 31 seeds.",
        ),
        (
            REWARD, [1.0], [0.5],
            "A and B are not compared in oracle reward of sampled answers after training: only 1 seed can be compared, and an "
            "interval needs at least 2.",
        ),
    ],
)  # fmt: skip
def test_sentences(metric, a, b, sentence):
    curves = {"A": shifted(a, metric.name), "B": shifted(b, metric.name)}
    (made,) = compare(curves, [("A", "B")], [metric], [Level("end")], seeds=range(len(a)))
    assert made.sentence == sentence


def test_a_metric_is_not_compared_at_its_own_level():
    curves = synthetic(np.random.default_rng(2), 3, 10, 0.0)
    made = compare(curves, [("A", "B")], [REWARD, METRICS["eval/kl"]], [Level("end"), Level("kl")], seeds=range(3))
    assert [(each.metric.name, each.level.name) for each in made] == [
        ("eval/oracle_reward", "end"), ("eval/oracle_reward", "kl"), ("eval/kl", "end"),
    ]  # fmt: skip
    table = made.table()
    assert list(table["seeds"]) == [3, 3, 3]
    assert (table["adjusted_low"] <= table["low"]).all()


def test_levels_are_parsed():
    assert parse_level("end") == Level("end")
    assert parse_level("kl") == Level("kl")
    assert parse_level("accuracy=0.7") == Level("accuracy", 0.7)
    assert parse_level("step=100") == Level("step", 100)
    for wrong in ("steps", "step", "end=3", "kl=x"):
        with pytest.raises(ConfigError):
            parse_level(wrong)
