"""The Playground page: sliders from declarations, any registered objective, links, and what it says when nothing can be drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from pydantic import model_validator
from streamlit.testing.v1 import AppTest

from app.views.playground.knobs import stops
from app.views.playground.links import read_objective, read_plane, written_objective, written_plane
from lab.objectives import OBJECTIVES, Draws, Objective, Outcome, PairLogps, State, make_objective, parameter, register
from lab.plots.landscapes.landscape import HELD_MARGIN
from lab.teaching import PairNumbers, Plane
from lab.teaching import plane as planes

APP = Path(__file__).parents[2] / "app"
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
    at = AppTest.from_file(APP / "views" / "playground" / "playground.py", default_timeout=60)
    for name, value in params.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def address(at: AppTest) -> dict[str, str]:
    """The page's parameters, however AppTest wraps them."""
    return {key: value[0] if isinstance(value, list) else value for key, value in at.query_params.items()}


def said(elements: Any) -> list[str]:
    return [e.value.replace("\\", "") for e in elements]


def formulas(at: AppTest) -> list[str]:
    return [code.value for code in at.code]


def test_it_opens_with_dpo_beside_sgdpo() -> None:
    at = open_page()
    assert formulas(at) == [OBJECTIVES["dpo"].formula, OBJECTIVES["sgdpo"].formula]
    assert address(at) == {"A": "dpo", "B": "sgdpo"}
    assert not at.error
    assert not at.warning
    shown = {label.strip() for label in at.selectbox(key="play.A").options}
    assert shown >= {f"{name}: {kind.title}" for name, kind in OBJECTIVES.items()}
    assert any("pilot_chosen" in text.value and "■" in text.value for text in at.text)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_chosen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "FINE", 9)
    monkeypatch.setattr(planes, "COARSE", 5)
    at = open_page(A=name)
    assert not at.error, said(at.error)
    assert formulas(at) == [OBJECTIVES[name].formula]
    assert not at.exception


def test_a_landscape_says_which_part_its_colour_holds_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "FINE", 9)
    at = open_page(A="alpha_dpo", B="dpo")
    figures = [json.loads(element.proto.bytes)["figure"]["layout"] for element in at.get("bidi_component")]
    notes = {
        figure["title"]["text"].split(":")[0]: unescape(" ".join(note["text"] for note in figure["annotations"])).replace(
            "<br>", " "
        )
        for figure in figures
        if figure.get("annotations")
    }
    assert HELD_MARGIN in notes["A · alpha_dpo"]
    assert "hold that margin fixed" not in notes["B · dpo"]


def test_a_slider_changes_the_objective_and_the_address() -> None:
    at = open_page()
    at.select_slider(key="play.A.dpo.beta").set_value(0.5).run()
    assert not at.exception
    assert json.loads(address(at)["A"]) == {"name": "dpo", "beta": 0.5}
    at.selectbox(key="play.A").select("simpo").run()
    assert address(at)["A"] == "simpo"
    at.selectbox(key="play.C").select("alpha_dpo").run()
    assert len(formulas(at)) == 3
    assert any("Its moving statistics are mean" in message for message in said(at.caption))
    at.selectbox(key="play.A").select("").run()
    at.selectbox(key="play.B").select("").run()
    at.selectbox(key="play.C").select("").run()
    assert not at.exception
    assert "Choose an objective" in at.info[0].value


def test_a_link_brings_the_same_page_back() -> None:
    at = open_page(
        A='{"name":"spo","base":{"name":"sgdpo","r1":0.75}}',
        C="orpo",
        ref="-1,-0.5",
        batch="1,2,8,8,-2,-2",
        statistics="before the first step",
        seed="3",
    )
    assert at.select_slider(key="play.A.spo.base.sgdpo.r1").value == 0.75
    assert not at.toggle(key="play.seen").value
    assert len(formulas(at)) == 2
    first = address(at)
    assert address(open_page(**first)) == first
    assert json.loads(first["A"]) == {"name": "spo", "base": {"name": "sgdpo", "r1": 0.75}}


def test_one_finds_it_as_one_left_it() -> None:
    at = AppTest.from_file(APP / "main.py", default_timeout=60).run()
    at.switch_page("views/playground/playground.py").run()
    at.select_slider(key="play.A.dpo.beta").set_value(0.5).run()
    at.button(key="play.B.draw").click().run()
    left = address(at)
    at.switch_page("views/new_run/new_run.py").run()
    at.switch_page("views/playground/playground.py").run()
    assert not at.exception
    assert at.select_slider(key="play.A.dpo.beta").value == 0.5
    assert address(at) == left


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"A": "dop"}, "There is no objective 'dop'"),
        ({"A": "{"}, "is not JSON"),
        ({"A": '{"beta":1}'}, "without a name"),
        ({"A": '{"name":"dpo","beta":-1}'}, "dpo: beta = -1"),
        ({"ref": "1"}, "two numbers"),
        ({"tokens": "0,4"}, "from 1 to 64"),
        ({"log_x1": "3,-3"}, "ends above its beginning"),
        ({"log_x2": "nan,nan"}, "ends above its beginning"),
        ({"log_x2": "-1e9,1"}, "within 50"),
        ({"ref": "-1,2"}, "from -8 to 0"),
        ({"batch": "1"}, "six numbers"),
        ({"seed": "x"}, "whole number"),
    ],
)
def test_a_broken_link_is_said_and_the_page_opens(params: dict[str, str], message: str) -> None:
    at = open_page(**params)
    assert any(message in warning for warning in said(at.warning))
    assert not at.error


def test_a_users_objective_appears_by_itself(own: type[Objective]) -> None:
    at = open_page()
    at.selectbox(key="play.A").select("own").run()
    assert not at.exception
    assert formulas(at)[0] == own.formula
    assert at.select_slider(key="play.A.own.low").value == 0.2
    assert any("\\*\\*own\\*\\*" in message.value for message in at.markdown)


def test_an_invalid_combination_is_refused_and_the_last_picture_stays(own: type[Objective]) -> None:
    at = open_page(A="own")
    at.select_slider(key="play.A.own.low").set_value(0.9).run()
    assert said(at.error) == ["low = 0.9 is above high = 0.8; choose a smaller one."]
    assert any("last values that worked" in message for message in said(at.caption))
    assert formulas(at) == [own.formula]
    assert address(at)["A"] == "own"
    at.select_slider(key="play.A.own.high").set_value(1.0).run()
    assert not at.error


def test_an_objective_that_fails_leaves_the_others(own: type[Objective]) -> None:
    at = open_page(A="own", B="dpo")
    at.toggle(key="play.A.own.fails").set_value(True).run()
    assert not at.exception
    assert said(at.error) == ["A · own cannot be drawn: KeyError: 'nothing'"]
    assert formulas(at) == [OBJECTIVES["dpo"].formula]


def test_drawing_again_changes_the_pilot() -> None:
    at = open_page(B="sgdpo", tokens="40,40")
    before = [text.value for text in at.text]
    at.button(key="play.B.draw").click().run()
    assert address(at)["seed"] == "1"
    assert [text.value for text in at.text] != before


def test_the_cut_can_follow_one_side() -> None:
    at = open_page(A="dpo")
    for choice in ("log X₁", "log X₂", "margin"):
        at.button_group(key="play.along").set_value(choice).run()
        assert not at.exception
    for quantity in ("loss", "ratio", "log_space_ratio", "d_log_x1", "d_log_x2"):
        at.button_group(key="play.quantity").set_value(quantity).run()
        assert not at.exception


@pytest.mark.parametrize(("name", "key"), FLOATS)
def test_a_slider_reaches_only_what_the_objective_takes(name: str, key: str) -> None:
    info = OBJECTIVES[name].model_fields[key]
    values = stops(info, 0.123)
    assert {info.default, 0.123} <= set(values)
    assert values == sorted(values)
    assert 20 < len(values) < 110
    for value in {values[0], values[1], values[-1]}:
        make_objective(name, **{key: value})


def test_links_hold_everything() -> None:
    plane = Plane((-4, 3), (-2, 9), (5, 6), (-1.5, -0.5), (PairNumbers(1.0, -2.5),), 7, "before the first step")
    assert read_plane(written_plane(plane)) == plane
    assert written_plane(Plane()) == {}
    objective = make_objective("alpha_dpo", alpha=0.1, normalize="none")
    assert make_objective(**read_objective(written_objective(objective))) == objective
