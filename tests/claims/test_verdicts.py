"""Numbers and verdicts from made-up runs, at the edges of the rules."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from lab.claims import Part, Region, Term, correct_together, judge, measure, measure_cost, verdict_of
from lab.claims.sentences import beside_text, interval_text, limits_text, place_text, result_sentence, verdict_text
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


def test_what_is_not_shown_says_how_many_seeds_would_show_it():
    judged = made(0.1)

    def said(smallest):
        own = replace(judged.measured.claim, smallest=smallest)
        return result_sentence(replace(judged, measured=replace(judged.measured, claim=own)))

    assert re.search(r" With this spread, about \d+ seeds would show a value that is 0.11 away from the bound\.$", said(0.11))
    near = "4 seeds would probably have shown a value that is 50 away from the bound; the true one is probably nearer to the bound."
    assert said(50.0).endswith(near)
    further = r"nor wholly outside\. With this spread, about \d+ seeds would show a value as far from the bound as this one\.$"
    assert re.search(further, said(0.05))


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
    assert row.steps == pytest.approx({"a": (100 + 50 + 50 / 3) / 2, "b": 100})
    assert dict(row.values) == pytest.approx({0: 0, 1: 5 + 5 / 3 - 10})


def test_a_level_is_said_with_the_steps_at_which_it_was_read():
    own = curves({"a": lambda s: [0, 5, 10], "b": lambda s: [0, 5, 10]}, 2, kl=[0, 1, 4])
    for seed in range(2):
        own["b"][seed].scalars["eval/kl"] = np.array([0, 1, 2.5])
    made = claim([Part("p", (Term(1, "a", "x"), Term(-1, "b", "x")), "kl")])
    text = place_text(made, measure(made, own, 2))
    assert text.endswith("on a line between evaluations (on average 2.50 for p: a at step 75, b at step 100)")


def test_values_beside_a_number_are_reported_and_change_no_verdict():
    own = curves({"a": lambda s: [0, 0, 1 + s / 10], "b": lambda s: [0, 0, 0], "c": lambda s: [1, 0, -1 + s / 10]}, 2)
    with_c = replace(claim(), beside=(Part("c", (Term(1, "c", "x"), Term(-1, "c", "x", "step=0"))),))
    alone, beside = (measure(each, own, 2) for each in (claim(), with_c))
    assert (alone.mean, alone.finished) == (beside.mean, beside.finished)
    assert with_c.variants == ("a", "b")
    assert beside_text(alone) == ""
    assert beside_text(beside) == "For comparison, not part of the rule: c: -1.95 [-2.59, -1.31], over 2 seeds."
    del own["c"]
    assert beside_text(measure(with_c, own, 2)) == ""


def test_a_verdict_says_that_it_falls_with_correction_and_which_parts_differ():
    values = {"a": lambda s: [0, 0, 3 + s / 10], "b": lambda s: [0, 0, 1 + s / 10], "c": lambda s: [0, 0, 0.0]}
    parts = [Part(f"{a} - {b}", (Term(1, a, "x"), Term(-1, b, "x"))) for a, b in (("a", "c"), ("c", "b"))]
    judged = judge(measure(claim(parts, low=0.5), curves(values, 4), 4))
    assert judged.verdict == "confirmed"
    holm = "The verdict does not survive the correction for 7 claims (Holm). The verdict is on the mean of the parts; "
    assert limits_text(judged, 7) == f"{holm}alone it would be refuted for c - b. Most of the mean comes from a - c."
    assert limits_text(replace(judged, corrected=True), 7).startswith("The verdict is on the mean")
    assert limits_text(made(1.0, seeds=3), 7) == limits_text(made(0.1), 7) == ""


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
