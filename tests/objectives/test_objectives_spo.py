"""SPO: the preference-degree loss, its terms, and how it wraps another objective."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from lab.objectives import OBJECTIVES, SPO, Degraded, degree_confusion, make_objective, with_credit
from lab.objectives.methods.spo import spearman
from tests.objectives.helpers import credit_of, random_pairs, start


@pytest.mark.parametrize("base", sorted(set(OBJECTIVES) - {"spo"}))
def test_adds_the_degree_loss_to_any_objective(base):
    objective = SPO(base=base, weight=0.25)
    p = random_pairs(0, objective=objective)
    state, draws = start(objective, p)
    credited = with_credit(objective, p, state, draws, training=True)
    alone = with_credit(make_objective(base), p, state, draws, training=True)
    terms = credited.outcome.terms
    assert torch.equal(terms["loss_align"], alone.outcome.losses)
    torch.testing.assert_close(credited.outcome.losses, terms["loss_align"] + 0.25 * terms["loss_degree"])
    assert torch.equal(terms["loss"], credited.outcome.losses)
    assert torch.equal(credited.chosen, alone.chosen)
    assert set(alone.outcome.terms) <= set(terms)
    assert credited.outcome.token_terms.keys() == alone.outcome.token_terms.keys()
    for fact in ("needs_reference", "needs_alignment", "needs_dataset", "length_normalized", "couples_pairs"):
        assert getattr(objective, fact) == getattr(make_objective(base), fact), fact


def test_degree_loss_is_the_mean_cross_entropy_of_the_answers_present():
    p = random_pairs(0, objective=SPO())
    d = p.degraded
    found = credit_of(SPO(), p).outcome.terms["loss_degree"]
    for pair in range(3):
        here = d.present[pair]
        torch.testing.assert_close(found[pair], cross_entropy(d.head_logits[pair][here], d.degree[pair][here]))


def test_a_head_that_knows_nothing_costs_ln_n():
    p = random_pairs(0, objective=SPO())
    p = replace(p, degraded=replace(p.degraded, head_logits=torch.zeros(3, 4, 4, dtype=torch.float64)))
    terms = credit_of(SPO(), p).outcome.terms
    torch.testing.assert_close(terms["loss_degree"], torch.full((3,), math.log(4), dtype=torch.float64))
    torch.testing.assert_close(terms["degree"], torch.full((3,), 1.5, dtype=torch.float64))


def test_an_absent_answer_counts_for_nothing_whatever_stands_there():
    p = random_pairs(0, objective=SPO())
    d = p.degraded
    present = d.present.clone()
    present[1] = False
    rubbish = Degraded(
        head_logits=d.head_logits.masked_fill(~present[..., None], math.nan),
        degree=d.degree.masked_fill(~present, -100),
        present=present,
        log_ratio=d.log_ratio.masked_fill(~present, math.nan),
    )
    credited = credit_of(SPO(), replace(p, degraded=rubbish))
    terms = credited.outcome.terms
    for name in ("loss_degree", "degree", "degree_accuracy", "rank_correlation"):
        assert terms[name][1].isnan(), name
    assert torch.equal(terms["loss_degree"][[0, 2]], credit_of(SPO(), p).outcome.terms["loss_degree"][[0, 2]])
    assert credited.outcome.losses.isfinite().all()
    assert not credited.head[~present].any()
    assert credited.head[present].any()
    assert degree_confusion(rubbish).sum() == present.sum()


def test_accuracy_confusion_and_rank_correlation_of_a_perfect_head():
    p = random_pairs(0, objective=SPO())
    degree = torch.arange(4).expand(3, 4)
    perfect = Degraded(50 * torch.eye(4).expand(3, 4, 4).double(), degree, torch.ones(3, 4, dtype=torch.bool), -2.0 * degree)
    terms = credit_of(SPO(), replace(p, degraded=perfect)).outcome.terms
    assert (terms["degree_accuracy"] == 1).all()
    torch.testing.assert_close(terms["rank_correlation"], -torch.ones(3))
    assert torch.equal(degree_confusion(perfect), 3 * torch.eye(4, dtype=torch.int64))
    unmeasured = replace(perfect, log_ratio=None)
    assert credit_of(SPO(), replace(p, degraded=unmeasured)).outcome.terms["rank_correlation"].isnan().all()


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=8), st.integers(0, 3))
def test_spearman_against_pandas(rows, absent):
    pandas = pytest.importorskip("pandas")
    x, y = (torch.tensor([column], dtype=torch.float64) for column in zip(*rows, strict=True))
    padded = [torch.nn.functional.pad(v, (0, absent), value=math.nan) for v in (x, y)]
    present = torch.nn.functional.pad(torch.ones_like(x, dtype=torch.bool), (0, absent))
    found = float(spearman(*padded, present))
    ranks = [pandas.Series(v[0].numpy()).rank() for v in (x, y)]
    defined = all(r.nunique() > 1 for r in ranks)
    assert found == pytest.approx(ranks[0].corr(ranks[1]) if defined else math.nan, abs=1e-9, nan_ok=True)


def test_the_base_may_be_a_name_a_mapping_or_text():
    expected = make_objective("sgdpo", beta=0.3)
    for base in (expected, expected.spec(), json.dumps(expected.spec())):
        assert SPO(base=base).base == expected
    spec = SPO(base=expected, degrees=5).spec()
    assert make_objective(**json.loads(json.dumps(spec))).base == expected
    assert SPO().base == make_objective("dpo")
    alpha = SPO(base={"name": "alpha_dpo", "normalize": "none"})
    assert make_objective(**alpha.spec()) == alpha


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("dop", "no objective 'dop'"),
        ({"beta": 0.1}, "needs a name"),
        ({"name": "dpo", "bta": 1}, "no parameter 'bta'"),
        ("spo", "cannot be spo"),
        ("{oops", "not JSON"),
        (3, "valid dictionary or instance of Objective"),
    ],
)
def test_a_wrong_base_is_explained(base, message):
    with pytest.raises(ValueError, match=message):
        SPO(base=base)


def test_missing_or_misshapen_answers_are_refused():
    objective = SPO()
    p = random_pairs(0, objective=objective)
    with pytest.raises(ValueError, match="degraded answers"):
        objective(replace(p, degraded=None), {}, {}, training=True)
    with pytest.raises(ValueError, match="N = 6"):
        SPO(degrees=6)(p, {}, {}, training=True)


def test_says_which_answers_it_wants():
    wanted = SPO(degrees=3, degraded_source="both", share=0.5, pooling="mean").degraded_spec()
    assert (wanted.degrees, wanted.source, wanted.share, wanted.pooling) == (3, "both", 0.5, "mean")
    assert make_objective("dpo").degraded_spec() is None


def test_warns_for_its_base():
    assert any("simpo: beta" in sentence for sentence in SPO(base={"name": "simpo", "beta": 0.1}).warnings())
