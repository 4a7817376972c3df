"""Everything that a run records has its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.glossary import (
    CONCEPTS,
    FIELD_QUANTITIES,
    GLOSSARY,
    LESSONS,
    PAIR_EVIDENCE,
    PAIR_TERMS,
    TOKEN_VALUES,
    entry,
    glossary_markdown,
    lesson_of,
)
from lab.objectives import OBJECTIVES, make_objective
from lab.plots.style import hover
from lab.training.metrics import batch_scalars
from tests.objectives.helpers import credit_of, random_pairs

ROOT = Path(__file__).parents[1]

CLOCKS = ("pairs_per_second", "probe_cost", "panel_seconds", "seconds/trained", "seconds/clock")
LOOP = ("learning_rate", "grad_norm", "epoch", "num_tokens", *CLOCKS)
EVALUATION = (
    "eval/oracle_reward",
    "eval/reward",
    "eval/valid",
    "eval/win_rate",
    "eval/kl",
    "eval/repetition",
    "eval/completions/mean_length",
    "eval/completions/clipped_ratio",
)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_term_and_scalar_of_an_objective_is_explained(name: str) -> None:
    objective = make_objective(name)
    terms = credit_of(objective, random_pairs(0, objective=objective)).outcome.terms
    scalars = batch_scalars({term: values.float().numpy() for term, values in terms.items()})
    assert set(terms) <= set(PAIR_TERMS)
    assert set(terms) | set(scalars) <= GLOSSARY.keys()


def test_what_the_loop_and_the_oracle_add_is_explained() -> None:
    assert {*LOOP, *EVALUATION} <= GLOSSARY.keys()


GROUPS = (CONCEPTS, TOKEN_VALUES, FIELD_QUANTITIES, PAIR_EVIDENCE)
EVERYTHING = {**GLOSSARY, **{f"{n}/{k}": v for n, group in enumerate(GROUPS) for k, v in group.items()}}


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_an_entry_is_one_sentence(name: str) -> None:
    known = EVERYTHING[name]
    assert known.title
    assert known.symbol
    assert known.meaning.endswith(".")
    assert known.meaning.count(". ") == 0
    assert known.symbol in hover(known).replace("<br>", " ").replace("&gt;", ">")


def test_the_guide_shows_every_entry_in_tables_of_six_columns() -> None:
    lines = glossary_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 8 for row in rows)
    for name in (*GLOSSARY, *CONCEPTS, *TOKEN_VALUES, *FIELD_QUANTITIES, *PAIR_EVIDENCE):
        assert any(f"`{name}`" in row for row in rows)


def test_a_number_of_held_out_pairs_is_that_of_the_training_ones() -> None:
    for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "pilot_chosen"):
        assert entry(f"eval/{name}").unit == entry(name).unit
        assert entry(name).meaning in entry(f"eval/{name}").meaning
        assert "held" in entry(f"eval/{name}").symbol
    assert entry("eval/my_term").symbol == "held-out my_term"


def test_a_name_of_ones_own_stands_for_itself() -> None:
    assert entry("my_term").title == "my_term"


def test_every_lesson_is_a_notebook_and_explains_terms_of_the_glossary() -> None:
    known = {*GLOSSARY, *CONCEPTS, *TOKEN_VALUES, *FIELD_QUANTITIES, *PAIR_EVIDENCE}
    terms = [term for lesson in LESSONS for term in lesson.terms]
    assert set(terms) <= known
    assert len(terms) == len(set(terms)), "a term belongs to one lesson"
    for lesson in LESSONS:
        assert len(list((ROOT / "notebooks").glob(f"{lesson.number:02d}_*.ipynb"))) == 1, lesson.title
    assert lesson_of("eval/rewards/margins") is lesson_of("rewards/margins")
    assert lesson_of("pairs_per_second") is None
