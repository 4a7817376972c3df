"""Which pictures a pair has follows from what its objective computes; constant credit is explained; degraded answers are marked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lab
from app.views.inspect import degrees
from app.widgets import token_view
from lab import whatif
from lab.objectives import make_objective
from lab.pairs import Pair, degrade, removed_spans
from lab.plots import KINDS, Paint
from lab.plots.comparison.overlay import overlay
from lab.plots.landscapes.computed import held_fixed
from lab.whatif.degrees import degree_guesses
from tests.app.pages import page_text
from tests.app.test_inspect import html, opened, until

ANSWER = "Knead the soft dough, warm the old oven, then bake the round bread and cut a thick slice."


@pytest.mark.parametrize(
    ("objective", "more"),
    [("dpo", []), ("sgdpo", ["pilot"]), ("spo", ["degrees"]), ({"name": "spo", "base": "sgdpo"}, ["pilot", "degrees"])],
)
def test_choices_follow_from_the_objective(objective: str | dict[str, str], more: list[str]) -> None:
    given = {"name": objective} if isinstance(objective, str) else objective
    offered = token_view.choices(make_objective(**given), reference=True)
    assert offered == ["difference", "log_ratio", "credit", *more]
    assert "log_ratio" not in token_view.choices(make_objective("simpo"), reference=False)


def test_constant_credit_is_explained() -> None:
    def painting(*values: float) -> Paint:
        return Paint(KINDS["credit"], {"chosen": np.array(values), "rejected": np.array([-0.5, -0.5])}, 1.0)

    assert "All tokens have equal credit" in token_view.constant(painting(0.25, 0.25, 0.25))
    assert not token_view.constant(painting(0.25, 0.1, 0.25))


def test_what_is_computed_has_a_name() -> None:
    assert "degree head" in token_view.progress_text(token_view.DEGREES)
    assert token_view.progress_text("log_ratio") == "Computing the log-ratio of every token ..."


def test_what_a_degree_removes_is_struck_out() -> None:
    removed = removed_spans(ANSWER, 4)
    assert len(removed) == 4
    assert removed[0] == []
    for spans, weaker in zip(removed, degrade(ANSWER, 4)):
        struck = degrees.marked(ANSWER, spans)
        assert struck.count("<del>") == len(spans)
        gone = [ANSWER[start:end] for start, end in spans]
        assert all(phrase not in weaker for phrase in gone)
    assert "&lt;b&gt;" in degrees.marked("<b>", [])


def test_the_field_says_where_its_gradient_holds_a_part_fixed() -> None:
    assert held_fixed(make_objective("alpha_dpo")) == "margin"
    assert held_fixed(make_objective("alpha_dpo", stop_gradient=False)) == ""
    assert held_fixed(make_objective("sgdpo")) == "something"
    assert {held_fixed(make_objective(name)) for name in ("dpo", "hinge", "ipo", "simpo", "dpop")} == {""}


def test_a_runs_name_is_inert_in_a_figure() -> None:
    label = "<b>x</b> <img src=y> $z$"
    frame = pd.DataFrame({"value": [1.0, 2.0], "step": [1, 2]}, index=[1, 2])
    drawn = overlay({label: frame}, "loss", labels=[label], title=label)
    sent = drawn.update_traces(legendgroup=None).to_json()  # a group has no text of its own
    for markup in ("<b>x", "<img", "\\u003cb\\u003ex", "\\u003cimg", "$z$"):
        assert markup not in sent


@pytest.mark.extended
def test_spo_shows_degraded_answers_and_the_heads_guess(model_folder: Callable[[str], Path], rows: list[dict[str, str]]) -> None:
    made = [row | {"chosen": f"{ANSWER} {number}"} for number, row in enumerate(rows[:4])]
    settings = {"steps": 2, "batch_size": 2, "save_every": 1, "evaluate": False, "device": "cpu"}
    run = lab.train("spo", made, model_folder("llama"), background=False, **settings)
    pair: Pair = run.pair_store().all()[0]
    guesses = degree_guesses(lab.examine(run, 2), pair)
    assert [guess.degree for guess in guesses] == [0, 1, 2, 3]
    assert all(guess.probabilities.sum() == pytest.approx(1) for guess in guesses)
    app = opened(run.dir.name, pair=pair.id)
    switch = app.segmented_control("inspect.paint")
    assert "Pilot" not in switch.options
    switch.set_value(token_view.DEGREES).run()
    until(app, lambda: "The head predicts degree" in page_text(app))
    assert html(app).count("<del>") == sum(map(len, removed_spans(pair.chosen, 4)))
    whatif.free()
