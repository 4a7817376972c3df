"""The sentence about weight and degree of a pair is true for every objective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from lab.objectives import OBJECTIVES, Objective, annotation_use, make_objective, with_credit
from lab.objectives.pair_annotations import DEGREE_PARAMETERS

from .helpers import label, random_pairs, start


def objectives() -> Iterator[Any]:
    """Every objective as it is, and with each of its parameters that let the degree in; SPO also with such a base."""
    for name, kind in OBJECTIVES.items():
        yield make_objective(name)
        for parameter in set(DEGREE_PARAMETERS) & set(kind.model_fields):
            yield make_objective(name, **{parameter: 1})
    yield make_objective("spo", base={"name": "simpo", "degree_margin": 0.5})


@pytest.mark.parametrize("objective", objectives(), ids=label)
def test_weight_and_degree_have_the_effect_that_the_sentence_says(objective: Objective) -> None:
    p = random_pairs(3, objective=objective)
    state, draws = start(objective, p)
    plain = with_credit(objective, p, state, draws, training=False)
    doubled = with_credit(objective, p, state, draws, training=False, weights=torch.full((len(p),), 2.0))
    torch.testing.assert_close(doubled.chosen, 2 * plain.chosen)
    sentence = annotation_use(objective)
    assert sentence.startswith(f"{objective.name} uses a pair's weight")
    losses = [
        objective(replace(p, pair_degree=degree), state, draws, training=False)[0].losses
        for degree in (torch.zeros(len(p)), torch.ones(len(p)))
    ]
    spec = objective.degraded_spec()
    used = not torch.equal(*losses) or (spec is not None and spec.annotated)
    assert ("and its degree" in sentence) == used == objective.uses_degree
    assert ("only with" in sentence) == (not used and objective.name in ("dpo", "simpo", "alpha_dpo", "spo"))


def test_the_sentence_names_the_parameter() -> None:
    assert annotation_use(make_objective("ipo")) == "ipo uses a pair's weight, not its degree."
    assert annotation_use(make_objective("dpo")) == "dpo uses a pair's weight; its degree only with degree_margin."
    assert annotation_use(make_objective("dpo", degree_margin=0.1)) == (
        "dpo uses a pair's weight and its degree (degree_margin = 0.1)."
    )
    spo = make_objective("spo", base={"name": "dpo", "degree_margin": 0.2}, annotated_degrees=True)
    assert "base.degree_margin = 0.2" in annotation_use(spo)
    assert "annotated_degrees" in annotation_use(spo)
