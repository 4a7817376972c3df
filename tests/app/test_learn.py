"""The Learn page: sliders from declarations, any registered objective, links, stories, and messages when nothing can be drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import pytest
import torch
from pydantic import model_validator
from streamlit.testing.v1 import AppTest

from app.pages import LEARN
from app.state.learn.learn_address import VIEWS, LearnState, read_objective, read_state, write_state
from app.state.recipe import build_objective
from app.views.learn.knobs import stops
from lab.objectives import OBJECTIVES, Draws, Objective, Outcome, PairLogps, State, formula_of, make_objective, parameter, register
from lab.teaching import PairNumbers, Plane
from tests.app.pages import open_page as open_main

FLOATS = [(name, key) for name, kind in OBJECTIVES.items() for key, f in kind.model_fields.items() if f.annotation is float]


@pytest.fixture
def own() -> Iterator[type[Objective]]:
    """An objective of a user's own, with a rule between two parameters and a point where it fails."""

    @register
    class Own(Objective):
        name: ClassVar[str] = "own"
        title: ClassVar[str] = "Somebody's **own**"
        formula: ClassVar[str] = "L = exp(−a h)"
        low: float = parameter(0.2, "One end.", ge=0, le=1)
        high: float = parameter(0.8, "Other end.", ge=0, le=1)
        fails: bool = parameter(False, "Raise.")

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low > self.high:
                raise ValueError(f"low = {self.low:g} is above high = {self.high:g}; choose a smaller one.")
            return self

        def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
            if self.fails:
                raise KeyError("nothing")
            return Outcome(torch.exp(-self.low * p.h) + self.high * p.X1), state

    yield Own
    del OBJECTIVES["own"]


def open_page(**params: str) -> AppTest:
    return open_main(LEARN, **params)


def widget(at: AppTest, kind: str, name: str) -> Any:
    """The widget of a name in the page's present set of widgets.

    A change draws the parts of the page that depend on it, and `AppTest` then knows those parts alone; a second `run` draws all.
    """
    return getattr(at, kind)(key=f"learn.{at.session_state['learn.generation']}.{name}")


def address(at: AppTest) -> dict[str, str]:
    """The page's parameters, however AppTest wraps them."""
    return {key: value[0] if isinstance(value, list) else value for key, value in at.query_params.items()}


def messages(elements: Any) -> list[str]:
    return [e.value.replace("\\", "") for e in elements]


def formulas(at: AppTest) -> list[str]:
    """The formulas on the page as LaTeX, and as text where they are declared so."""
    return [element.value for element in at.latex] + [code.value for code in at.code[1:]]


def test_it_opens_with_dpo_beside_sgdpo() -> None:
    at = open_page()
    for name in ("dpo", "sgdpo"):
        assert any(formula_of(make_objective(name)).latex in text for text in formulas(at))
    assert address(at) == {"A": "dpo", "B": "sgdpo"}
    assert not at.error
    assert not at.warning
    options = {label.strip() for label in widget(at, "selectbox", "A").options}
    assert options >= {f"{name}: {kind.title}" for name, kind in OBJECTIVES.items()}
    assert any("pilot_chosen" in text.value and "■" in text.value for text in at.text)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_chosen(name: str) -> None:
    at = open_page(A=name)
    assert not at.error, messages(at.error)
    assert formulas(at)


@pytest.mark.parametrize("view", [pytest.param(view, marks=pytest.mark.extended if view == "pilots" else ()) for view in VIEWS])
def test_every_view_opens_from_its_address(view: str) -> None:
    at = open_page(A="alpha_dpo", B="sgdpo", view=view)
    assert not at.error, messages(at.error)
    assert address(at).get("view", "field") == view


def test_a_slider_changes_the_objective_and_the_address() -> None:
    at = open_page()
    widget(at, "select_slider", "A.dpo.beta").set_value(0.5).run().run()
    assert not at.exception
    assert json.loads(address(at)["A"]) == {"name": "dpo", "beta": 0.5}
    widget(at, "selectbox", "A").select("simpo").run().run()
    assert address(at)["A"] == "simpo"
    widget(at, "selectbox", "C").select("alpha_dpo").run().run()
    assert address(at)["C"] == "alpha_dpo"
    assert any("moving statistics" in message for message in messages(at.caption))
    for slot in "ABC":
        widget(at, "selectbox", slot).select("").run().run()
    assert not at.exception
    assert "Choose an objective" in at.info[0].value


def test_a_setting_draws_its_own_part_and_the_pictures_alone() -> None:
    at = open_page(A="sgdpo", B="ipo", rate="2")
    for kind, name, value in (
        ("select_slider", "A.sgdpo.beta", 0.2),
        ("selectbox", "A.sgdpo.pilot", "s"),
        ("slider", "n_w", 20),
        ("toggle", "seen", False),
        ("number_input", "rate", 3.0),
        ("selectbox", "B", "dpo"),
    ):
        before = address(at)
        widget(at, kind, name).set_value(value).run()
        assert not at.exception
        assert not at.title, "the rest of the page is left alone"
        assert at.latex
        assert address(at) != before, name
        at.run()
        assert at.title
    assert address(at) == {
        "A": '{"name":"sgdpo","beta":0.2,"pilot":"s"}',
        "B": "dpo",
        "tokens": "20,8",
        "statistics": "start",
        "rate": "3",
    }


def test_a_link_brings_the_same_page_back() -> None:
    at = open_page(
        A='{"name":"spo","base":{"name":"sgdpo","r1":0.75}}', C="orpo", ref="-1,-0.5", point="1,2", statistics="start", seed="3"
    )
    assert widget(at, "select_slider", "A.spo.base.sgdpo.r1").value == 0.75
    first = address(at)
    assert address(open_page(**first)) == first
    assert json.loads(first["A"]) == {"name": "spo", "base": {"name": "sgdpo", "r1": 0.75}}
    assert first["point"] == "1,2"


def test_the_page_is_found_as_it_was_left() -> None:
    at = open_page()
    widget(at, "select_slider", "A.dpo.beta").set_value(0.5).run().run()
    widget(at, "button", "B.draw").click().run()
    left = address(at)
    at.switch_page("views/new_run/new_run.py").run()
    at.switch_page(LEARN.file).run()
    assert not at.exception
    assert widget(at, "select_slider", "A.dpo.beta").value == 0.5
    assert address(at) == left


def test_reset_begins_again() -> None:
    at = open_page(A="ipo", point="3,1", view="curves")
    at.button(key="learn.reset").click().run()
    assert address(at) == {"A": "dpo", "B": "sgdpo"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"A": "dop"}, "There is no objective 'dop'"),
        ({"A": "{"}, "is not JSON"),
        ({"A": '{"beta":1}'}, "without a name"),
        ({"A": '{"name":"dpo","beta":-1}'}, "dpo: beta = -1"),
        ({"ref": "1"}, "two numbers"),
        ({"tokens": "0,4"}, "from 1 to 512"),
        ({"log_x1": "3,-3"}, "ends above its beginning"),
        ({"log_x2": "nan,nan"}, "must be finite"),
        ({"log_x2": "-1e9,1"}, "within 500"),
        ({"ref": "-1,2"}, "from -20 to 0"),
        ({"batch": "1"}, "six numbers"),
        ({"seed": "x"}, "whole number"),
        ({"point": "1"}, "two numbers"),
        ({"quantity": "weight"}, "choose one of loss"),
        ({"view": "none"}, "choose one of field"),
        ({"rate": "0"}, "above 0"),
        ({"degrees": "1"}, "from 2 to"),
        ({"story": "none"}, "There is no story"),
    ],
)
def test_a_broken_link_is_reported_and_the_page_opens(params: dict[str, str], message: str) -> None:
    at = open_page(**params)
    assert any(message in warning for warning in messages(at.warning)), messages(at.warning)
    assert not at.error


def test_a_users_objective_appears_by_itself(own: type[Objective]) -> None:
    at = open_page()
    widget(at, "selectbox", "A").select("own").run().run()
    assert not at.exception
    assert own.formula in formulas(at)
    assert widget(at, "select_slider", "A.own.low").value == 0.2
    assert any("\\*\\*own\\*\\*" in message.value for message in at.markdown)


def test_an_invalid_combination_is_refused_and_the_last_picture_stays(own: type[Objective]) -> None:
    at = open_page(A="own")
    widget(at, "select_slider", "A.own.low").set_value(0.9).run().run()
    assert messages(at.error) == ["low = 0.9 is above high = 0.8; choose a smaller one."]
    assert any("last values that worked" in message for message in messages(at.caption))
    assert address(at)["A"] == "own"
    widget(at, "select_slider", "A.own.high").set_value(1.0).run().run()
    assert not at.error


def test_an_objective_that_fails_leaves_the_others(own: type[Objective]) -> None:
    at = open_page(A="own", B="dpo")
    widget(at, "toggle", "A.own.fails").set_value(True).run()
    assert not at.exception
    assert messages(at.error) == ["A · own cannot be computed: KeyError: 'nothing'"]
    assert formulas(at)


def test_drawing_again_changes_the_pilot() -> None:
    at = open_page(B="sgdpo", tokens="40,40")
    before = [text.value for text in at.text]
    widget(at, "button", "B.draw").click().run()
    assert address(at)["seed"] == "1"
    assert [text.value for text in at.text] != before


def test_the_curves_can_follow_one_side() -> None:
    at = open_page(A="dpo", view="curves")
    for choice in ("log_x1", "log_x2", "margin"):
        widget(at, "button_group", "along").set_value(choice).run()
        assert not at.exception


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("name", "key"), FLOATS)
def test_a_slider_reaches_only_what_the_objective_takes(name: str, key: str, wide: bool) -> None:
    info = OBJECTIVES[name].model_fields[key]
    values = stops(info, 0.123, wide=wide)
    assert {info.default, 0.123} <= set(values)
    assert values == sorted(values)
    assert 10 < len(values) < 110
    for value in {values[0], values[1], values[-1]}:
        make_objective(name, **{key: value})


def test_links_hold_everything() -> None:
    plane = Plane((-4, 3), (-2, 9), (5, 6), (-1.5, -0.5), (PairNumbers(1.0, -2.5),), 7, "before the first step")
    state = LearnState(
        objectives={"B": read_objective(json.dumps({"name": "alpha_dpo", "alpha": 0.1, "normalize": "none"}))},
        plane=plane,
        point=(1.5, -2.0),
        quantity="ratio",
        rate=3.0,
        view="degrees",
        along="log_x1",
        text="An & answer = with ? signs",
        degrees=3,
        projector=True,
    )
    assert read_state(write_state(state)) == (state, [])
    assert build_objective(state.objectives["B"]) == make_objective("alpha_dpo", alpha=0.1, normalize="none")
    assert write_state(LearnState()) == {"A": "dpo", "B": "sgdpo"}
