"""Guided stories of the Learn page: every file loads, and every state is one of the page; `test_story_facts*` check the texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.pages import LEARN
from app.state.learn.learn_address import LearnState, read_state, write_state
from app.views.learn.knobs import stops
from app.views.learn.stories import FOLDER, STATE, read_folder, read_story
from lab.teaching import PairNumbers, Plane
from tests.app import test_story_facts, test_story_facts_batch
from tests.app.pages import open_page
from tests.app.story_facts import STORIES, objective, plane_of

STEPS = [(story.id, number) for story in STORIES.values() for number in range(1, len(story.steps) + 1)]


def test_there_are_six_stories_in_order() -> None:
    assert list(STORIES) == ["bradley-terry", "rejected-side", "pilot", "margin", "stop-gradient", "degrees"]
    assert len(list(FOLDER.iterdir())) == 6
    assert [story.lesson for story in STORIES.values()] == [2, 3, 4, 5, 5, 6]
    answers = [step.answer for story in STORIES.values() for step in story.steps]
    assert all(answers.count(index) >= 5 for index in range(3)), "the place of the right choice must not give it away"


def test_the_guide_links_to_every_story_and_to_no_other() -> None:
    guide = FOLDER.parent
    for story in STORIES.values():
        assert f"[{story.title}](learn?story={story.id}&step=1) | " in (guide / "learn.md").read_text(encoding="utf-8")
    links = [re.findall(r"\(learn\?story=([\w-]+)", path.read_text(encoding="utf-8")) for path in guide.glob("*.md")]
    assert {name for names in links for name in names} == STORIES.keys()


def test_every_step_has_a_test_of_its_facts() -> None:
    assert {f"test_{story.replace('-', '_')}_{number}" for story, number in STEPS} <= vars(test_story_facts).keys() | vars(
        test_story_facts_batch
    ).keys()


@pytest.mark.parametrize(("story", "number"), STEPS)
def test_the_state_of_a_step_is_one_of_the_page(story: str, number: int) -> None:
    given = STORIES[story].steps[number - 1].state
    state, complaints = read_state(given)
    assert complaints == []
    written, usual = write_state(state), {"point": "0,0", "quantity": "loss", "view": "field", "degrees": "4"}
    assert {name: value for name, value in given.items() if usual.get(name) != value} == written
    for slot in state.objectives:
        assert not objective(STORIES[story].steps[number - 1], slot).warnings()
    assert (given["view"] == "field") == ("point" in given) == ("quantity" in given)
    assert ("batch" in given) == (given["view"] == "batch" or "alpha_dpo" in given["A"])
    assert ("text" in given) == ("degrees" in given) == (given["view"] == "degrees")
    assert "batch" not in given or 4 <= len(state.plane.batch) <= 12


@pytest.mark.parametrize(
    ("story", "number", "slot", "parameter", "value"),
    [
        ("pilot", 4, "A", "r1", 1.0),
        ("margin", 1, "A", "gamma_beta_ratio", 0.0),
        ("margin", 4, "B", "alpha", 0.2),
        ("stop-gradient", 4, "A", "alpha", 0.1),
    ],
)
def test_a_slider_reaches_the_value_that_a_step_asks_for(story: str, number: int, slot: str, parameter: str, value: float) -> None:
    chosen = objective(STORIES[story].steps[number - 1], slot)
    assert value in stops(type(chosen).model_fields[parameter], getattr(chosen, parameter))


@pytest.mark.parametrize(("story", "number"), STEPS)
def test_a_step_is_short_and_its_points_lie_in_the_plane(story: str, number: int) -> None:
    step = STORIES[story].steps[number - 1]
    plane = plane_of(step)
    assert len(re.findall(r"[.:?] [A-Z]|[.?]$", step.look)) <= 5
    assert len(step.look) <= 330
    assert len(step.because) <= 400
    assert step.question.count("?") + step.question.count("Compare") >= 1
    for text in (step.look, step.question, step.because, *step.choices):
        for x1, x2 in re.findall(r"\((−?[\d.]+), (−?[\d.]+)\)", text):
            for value, (low, high) in zip((x1, x2), (plane.log_x1, plane.log_x2)):
                assert low <= float(value.replace("−", "-")) <= high


GOOD = (
    """id = "one"
title = "One"
summary = "A story."
lesson = 2
"""
    + 4
    * """
[[step]]
title = "Step"
look = "Look."
question = "Which?"
choices = ["this", "that"]
answer = 0
because = "Reason."
state = {A = "dpo"}
"""
)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lesson = 2", "lesson =", "bad.toml is not valid TOML"),
        ("lesson = 2", 'lesson = "2"', "bad.toml: lesson = '2' is not a whole number"),
        ('summary = "A story."\n', "", "bad.toml has no summary; add it."),
        ("lesson = 2", "lesson = 2\nlevel = 1", "bad.toml has the unknown key 'level'"),
        ("answer = 0", "answer = 2", "bad.toml, step 1: answer = 2; give the index of a choice, from 0 to 1."),
        ("answer = 0", "answer = true", "bad.toml, step 1: answer = True is not a whole number"),
        ('look = "Look."', 'look = " "', "bad.toml, step 1: look = ' ' is not a text with content"),
        ('["this", "that"]', '["this"]', "bad.toml, step 1 has 1 choices; give 2 to 4."),
        ('["this", "that"]', '["this", "this"]', "choices must be different texts"),
        ('{A = "dpo"}', '{B = "dpo"}', "state has no objective A"),
        ('{A = "dpo"}', '{A = "dpo", pont = "1,2"}', "state has 'pont', which is no parameter of the page"),
        ('{A = "dpo"}', '{A = "dpo", seed = 3}', "state has seed = 3; write it as a text"),
    ],
)
def test_a_malformed_file_is_refused_in_one_sentence(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert read_story(path).steps[0].state == {"A": "dpo"}
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        read_story(path)
    assert "\n" not in str(refusal.value).partition("(")[0]


def test_too_few_steps_and_a_repeated_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text(GOOD.partition("\n[[step]]")[0] + "step = []\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"1\.toml has 0 steps; give 4 to 6\."):
        read_folder(tmp_path)
    for name in ("1.toml", "2.toml"):
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    with pytest.raises(ValueError, match=r"2\.toml: another story has the id 'one'"):
        read_folder(tmp_path)


def test_the_parameters_of_a_step_are_those_of_the_address() -> None:
    plane = Plane((-1, 1), (-1, 1), (2, 2), (-1, -1), (PairNumbers(1, 1),), 1, "before the first step")
    specs = {slot: {"name": "dpo"} for slot in "ABC"}
    everything = LearnState(specs, plane, (0.5, 0.5), "ratio", 1.0, "batch", "log_x1", "Text.", 3)
    assert {*STATE} == write_state(everything).keys()


@pytest.mark.extended
@pytest.mark.parametrize("story", STORIES)
def test_the_page_shows_every_step(story: str) -> None:
    app = open_page(LEARN, story=story, step="1")
    for number, step in enumerate(STORIES[story].steps, 1):
        assert not app.exception
        assert not app.warning
        assert bool(app.error) == ((story, number) == ("degrees", 5)), "an answer too short for its degrees is one sentence"
        assert step.look in [text.value for text in app.text]
        guess = app.radio(key=f"learn.guess.{story}.{number}")
        guess.set_value(step.answer).run()
        assert any(step.because in message.value.replace("\\", "") for message in app.success)
        if number < len(STORIES[story].steps):
            app.button(key="learn.next").click().run()
