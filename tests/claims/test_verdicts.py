"""Numbers and verdicts from made-up runs, at the edges of the rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.claims import Part, Region, Term, correct_together, judge, measure, measure_cost, verdict_of
from lab.claims.sentences import interval_text, result_sentence, verdict_text
from tests.claims.made import claim, curves


@pytest.mark.parametrize(
    ("interval", "region", "verdict"),
    [
        ((0.1, 0.3), Region(low=0), "confirmed"),
        ((0.0, 0.3), Region(low=0), "not shown"),
        ((-0.1, 0.3), Region(low=0), "not shown"),
        ((-0.3, 0.0), Region(low=0), "not shown"),
        ((-0.3, -0.1), Region(low=0), "refuted"),
        ((-0.3, -0.1), Region(high=0), "confirmed"),
        ((0.1, 0.3), Region(high=0), "refuted"),
        ((-0.1, 0.1), Region(-0.2, 0.2), "confirmed"),
        ((-0.1, 0.2), Region(-0.2, 0.2), "not shown"),
        ((-0.3, 0.3), Region(-0.2, 0.2), "not shown"),
        ((0.2, 0.3), Region(-0.2, 0.2), "not shown"),
        ((0.21, 0.3), Region(-0.2, 0.2), "refuted"),
        ((-0.3, -0.21), Region(-0.2, 0.2), "refuted"),
        ((0.0, 0.0), Region(low=0), "not shown"),
    ],
)
def test_a_verdict_follows_from_interval_and_region(interval, region, verdict):
    assert verdict_of(interval, region) == verdict


def made(difference, seeds=4, wanted=4, **settings):
    noise = [0.0, 0.2, -0.1, -0.1]
    own = curves({"a": lambda s: [0, 0, 1 + difference + noise[s]], "b": lambda s: [0, 0, 1.0]}, seeds)
    return judge(measure(claim(**settings), own, wanted))


def test_a_number_is_the_mean_over_seeds_with_students_interval():
    judged = made(1.0)
    estimate = judged.measured.mean.estimate
    assert estimate.mean == pytest.approx(1.0)
    half = 3.182446 * np.std([0.0, 0.2, -0.1, -0.1], ddof=1) / 2
    assert estimate.interval() == pytest.approx((1 - half, 1 + half), rel=1e-5)
    assert judged.verdict == "confirmed"
    assert made(-1.0).verdict == "refuted"
    assert made(0.1).verdict == "not shown"


def test_there_is_no_verdict_before_all_seeds_are_finished():
    judged = made(1.0, seeds=3)
    assert judged.verdict == "preliminary"
    assert verdict_text(judged) == "preliminary: 3 of 4 seeds"
    sentence = result_sentence(judged)
    assert sentence.startswith("Preliminary, from 3 of 4 seeds: so far the x of A minus that of B is 1.0")
    assert not any(word in sentence for word in ("onfirmed", "efuted", "not shown"))
    alone = made(1.0, seeds=1)
    assert "is 1 (points), without an interval" in result_sentence(alone)
    assert result_sentence(made(1.0, seeds=0)) == "Preliminary, from 0 of 4 seeds: there is no number yet."


def test_a_seed_counts_only_with_every_variant():
    own = curves({"a": lambda s: [0, 0, 1], "b": lambda s: [0, 0, 1]}, 4)
    del own["b"][2]
    assert measure(claim(), own, 4).finished == (0, 1, 3)
    assert measure(claim(), {"a": own["a"]}, 4).finished == ()


def test_parts_are_averaged_within_each_seed():
    own = curves({"a": lambda s: [0, 0, s], "b": lambda s: [0, 0, 0], "c": lambda s: [0, 0, 2 * s]}, 2)
    parts = [Part(name, (Term(1, "a", "x"), Term(-1, name, "x"))) for name in ("b", "c")]
    measured = measure(claim(parts), own, 2)
    assert [dict(row.values) for row in measured.parts] == [{0: 0, 1: 1}, {0: 0, 1: -1}]
    assert dict(measured.mean.values) == {0: 0, 1: 0}


def test_a_ratio_divides_the_sum_of_one_variant_by_that_of_the_other():
    own = curves({"a": lambda s: [2, 0, 1], "b": lambda s: [4, 0, 1]}, 2)
    part = Part("r", (Term(1, "a", "x"), Term(1, "a", "x"), Term(-1, "b", "x"), Term(-1, "b", "x")), "step=0", ratio=True)
    assert dict(measure(claim([part]), own, 2).mean.values) == {0: 0.5, 1: 0.5}


def test_runs_are_compared_where_both_have_reached_the_same_level_of_each_seed():
    own = curves({"a": lambda s: [0, 5, 10], "b": lambda s: [0, 5, 10]}, 2, kl=[0, 1, 4])
    own["b"][1].scalars["eval/kl"] = np.array([0, 1, 2])
    row = measure(claim([Part("p", (Term(1, "a", "x"), Term(-1, "b", "x")), "kl")]), own, 2).parts[0]
    assert row.levels == {0: 4, 1: 2}
    assert dict(row.values) == pytest.approx({0: 0, 1: 5 + 5 / 3 - 10})


def test_a_term_may_be_read_before_training():
    own = curves({"a": lambda s: [3, 0, 1]}, 2)
    part = Part("p", (Term(1, "a", "x"), Term(-1, "a", "x", "step=0")))
    assert dict(measure(claim([part]), own, 2).mean.values) == {0: -2, 1: -2}


def test_a_seed_without_a_value_is_left_out_and_named():
    own = curves({"a": lambda s: [0, 0, 1 + s / 10], "b": lambda s: [0, 0, math.nan if s == 3 else 0]}, 4)
    judged = judge(measure(claim(), own, 4))
    assert judged.verdict == "confirmed"
    assert result_sentence(judged).endswith("over 3 seeds, which lies above 0. 1 seed could not be compared and is left out.")


def test_cost_is_the_ratio_to_dpo_over_rounds():
    rounds = [{"dpo": 1.0, "spo": 2.0}, {"dpo": 2.0, "spo": 4.2}]
    judged = judge(measure_cost(claim(low=-math.inf, high=2.5, cost="spo"), rounds, 2))
    assert dict(judged.measured.mean.values) == {0: 2.0, 1: 2.1}
    assert judge(measure_cost(claim(cost="spo"), rounds, 3)).verdict == "preliminary"
    assert judge(measure_cost(claim(cost="spo"), [], 3)).verdict == "preliminary"


def test_holm_corrects_all_verdicts_together():
    strong, weak, none = made(5.0), made(0.25), made(0.0)
    assert weak.verdict == "confirmed"
    assert 0.05 / 3 < weak.p < 0.05
    assert [each.corrected for each in correct_together([weak, none, strong])] == [False, False, True]
    assert [each.corrected for each in correct_together([weak])] == [True]


def test_sentences_say_what_the_interval_says():
    confirmed = "Confirmed: the x of A minus that of B is 1.00 [0.77, 1.23] (points), over 4 seeds, which lies above 0."
    assert result_sentence(made(1.0)) == confirmed
    refuted = result_sentence(made(-1.0))
    assert refuted.endswith("which lies outside the values that confirm the claim (above 0).")
    unclear = result_sentence(made(0.1))
    assert "the interval is neither above 0 nor wholly outside" in unclear
    assert interval_text(made(1.0).measured.mean) == "1.00 [0.77, 1.23]"
