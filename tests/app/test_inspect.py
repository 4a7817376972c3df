"""The Inspect page: over a store filled by hand, and over a real tiny run with its model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ElementTree, parse_tree_from_messages

import lab
from app.views.inspect import pair_list, virtual
from app.widgets import examining
from lab import home, whatif
from lab.run.handle import Run
from lab.store import StoreWriter
from tests.app.conftest import fill
from tests.app.pages import page_text

PAGE = str(Path(__file__).parents[2] / "app" / "views" / "inspect" / "inspect.py")
HOSTILE = "# <b>x</b> $x$ ![](http://x.invalid/p.png) :red[y] <script>alert(1)</script>"


def opened(run: str | None = None, **query: str) -> AppTest:
    app = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in query.items() if run is None else {"run": run, **query}.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def html(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def enabled(app: AppTest, label: str) -> bool:
    return next(not button.disabled for button in app.button if button.label == label)


def address(app: AppTest, name: str) -> str:
    """A parameter of the page's address; AppTest gives a list of what the test has set, and a text of what the page has."""
    value = app.query_params[name]
    return value[0] if isinstance(value, list) else value


def listed(app: AppTest) -> pd.DataFrame:
    """The first table of the page: the list of pairs."""
    return app.dataframe[0].value


def until(app: AppTest, holds: Callable[[], bool]) -> None:
    """Draw the page again, as its own clock would, until something is there."""
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, page_text(app)
        time.sleep(0.2)
        app.run()
        assert not app.exception


def test_without_a_run_the_page_says_how_to_start_one(lab_home: Path) -> None:
    app = AppTest.from_file(str(Path(PAGE).parents[2] / "main.py"), default_timeout=60).run()
    app.switch_page("views/inspect/inspect.py").run()
    assert not app.exception
    assert "No run yet" in page_text(app)


def test_a_run_that_has_seen_nothing(store_run: Callable[..., Run]) -> None:
    store_run("one", state="queued", done=0, evaluations=False)
    assert "has seen no pair yet" in page_text(opened("one"))


def test_the_list_is_sorted_searched_and_walked(store_run: Callable[..., Run]) -> None:
    run = store_run("one", steps=30)
    app = opened("one")
    margins = listed(app)["margin"]
    assert margins.is_monotonic_increasing
    lowest = run.pairs().assign(margin=lambda f: f["reward_chosen"] - f["reward_rejected"]).sort_values("margin")["pair"]
    assert list(listed(app)["pair"]) == list(lowest[: len(margins)])
    assert address(app, "pair") == lowest.iloc[0]
    assert not enabled(app, "Previous pair")
    press(app, "Next pair")
    assert address(app, "pair") == lowest.iloc[1]
    assert f"Pair {lowest.iloc[1]}" in page_text(app)
    next(box for box in app.selectbox if box.label == "Sort by").set_value("loss").run()
    assert listed(app)["loss"].is_monotonic_increasing
    next(box for box in app.text_input if box.label == "Search").set_value("pair-03").run()
    assert set(listed(app)["pair"]) <= {f"pair-03{i}" for i in range(10)}
    assert len(listed(app))
    assert "texts of the pairs cannot be shown" in page_text(app), "their store is not there"


def test_numbers_are_those_of_the_moment(store_run: Callable[..., Run]) -> None:
    run = store_run("one", steps=30)
    seen = list(run.reader.pairs.history("pair-008")["step"])
    assert len(seen) > 3
    app = opened("one", pair="pair-008", step=str(seen[1]))
    assert f"as step {seen[1]:,} saw it" in page_text(app)
    assert listed(app)["step"].max() <= seen[1]
    assert f"Step {seen[1]} of 30" in page_text(app)
    press(app, "Next step")
    assert address(app, "step") == str(seen[2])
    press(press(app, "Previous step"), "Previous step")
    assert f"as step {seen[0]:,} saw it" in page_text(app)
    assert not enabled(app, "Previous step")
    press(app, "Latest")
    assert "step" not in app.query_params
    press(app, "Previous step")
    assert address(app, "step") == str(seen[-2])
    press(app, "Next step")
    assert "step" not in app.query_params, "Back and On undo each other"
    assert f"as step {seen[-1]:,} saw it" in page_text(app)
    app = opened("one", pair="pair-039", step="1")
    assert "not seen up to step 1" in page_text(app)
    assert address(app, "pair") == "pair-039"


def test_a_pair_that_was_seen_often_is_thinned_and_every_symbol_is_explained(store_run: Callable[..., Run]) -> None:
    run = store_run("one", steps=30, warnings=("too hot",))
    store = StoreWriter(run.dir)
    for step in range(31, 1231):
        store.pair_terms(step, ["pair-008"], [0], {name: np.array([1.0]) for name in run.reader.pairs.term_names()})
    store.status(step=1230)
    store.close()
    seen = run.reader.pairs.steps_of("pair-008")
    app = opened("one", pair="pair-008")
    pictures = [json.loads(element.proto.bytes) for element in app.get("bidi_component") if element.proto.bytes]
    titles = [picture["figure"]["layout"]["title"]["text"] for picture in pictures]
    assert all(f"1,000 of {len(seen):,} times seen<" in title for title in titles)
    assert f"1,000 of {len(seen):,} times seen, evenly chosen." in page_text(app)
    assert {picture["saves"] for picture in pictures} == {True}
    assert all(picture["figure"]["data"][-1]["name"] == "events" for picture in pictures)
    press(app, "Previous step")
    assert address(app, "step") == str(seen[-2]), "the step before, though the curves leave some out"
    heads = json.loads(app.dataframe[1].proto.columns)
    explained = (heads["term"]["help"] + heads["now"]["help"]).replace("\\", "")
    terms = app.dataframe[1].value["term"].tolist()
    assert explained.count("\n") >= len(terms) - 1
    assert f"{terms.index('Logit of the chosen side') + 1}. z₁: The logit of the chosen side" in explained
    assert "log X₁ [nats]: log π(y_w|x) − log ref(y_w|x)" in explained


def test_the_page_goes_with_its_run(store_run: Callable[..., Run]) -> None:
    run = store_run("one", steps=60, state="running", done=30)
    app = opened("one", pair="pair-008")
    assert "Step 30, the latest" in page_text(app)
    seen = run.reader.pairs.steps_of("pair-008")
    assert f"as step {seen[-1]} saw it" in page_text(app)
    following = [fragment for fragment in app.get("text") if "the latest" in str(fragment.value)]
    assert following
    store = StoreWriter(run.dir)
    fill(store, "sgdpo", range(31, 41), 60)
    store.status(step=40)
    store.close()
    assert following_asks_for_a_drawing(run, "pair-008", len(seen))
    assert not following_asks_for_a_drawing(run, "pair-008", len(run.reader.pairs.steps_of("pair-008")))
    assert not following_asks_for_a_drawing(run, "pair-008", len(seen), shown=20), "in the past nothing changes"


def following_asks_for_a_drawing(run: Run, pair: str, known: int, shown: int | None = None) -> bool:
    """Whether the timer of a page that knew so much would have it drawn again."""

    def script(folder: str, pair: str, known: int, shown: int | None) -> None:
        from pathlib import Path

        import streamlit as st

        from app.views.inspect import following
        from lab.run.handle import Run

        if st.session_state.setdefault("drawings", 0) < 2:
            st.session_state["drawings"] += 1
            following._follow(Run(Path(folder)), shown, pair, known, True)

    app = AppTest.from_function(script, args=(str(run.dir), pair, known, shown), default_timeout=60).run()
    assert not app.exception
    return app.session_state["drawings"] == 2


def test_a_late_word_of_a_table_is_no_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser tells the selection that a table was drawn with, too: it must not open the pair that was open then."""
    opens: list[str | None] = []
    state = {name: {"selection": {"rows": [row], "cells": []}} for name, row in (("old", 0), ("same", 1), ("click", 2))}
    monkeypatch.setattr(pair_list.st, "session_state", state)
    monkeypatch.setattr(pair_list, "open_pair", opens.append)
    for widget, drawn in (("old", "click"), ("same", "same"), ("click", "click")):
        state[pair_list.DRAWN] = drawn  # type: ignore[assignment]
        pair_list._clicked(widget, ["a", "b", "c"], 1)
    assert opens == ["c"]


def test_a_pair_that_is_not_there(store_run: Callable[..., Run]) -> None:
    store_run("one", steps=10)
    assert "There is no pair nobody in this run" in page_text(opened("one", pair="nobody"))


# A real run.


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path], shared_cache: Path) -> Iterator[Path]:
    """The folder of a finished SGDPO run of hostile pairs, which keeps token values of its last two steps."""
    place = tmp_path_factory.mktemp("real")
    rows = [{"prompt": f"{HOSTILE} {i}\n", "chosen": f"good 🙂 {HOSTILE} {i}", "rejected": f"bad answer {i}"} for i in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(place / "home"))
        patch.setenv("LAB_CACHE", str(shared_cache))
        settings = {"steps": 6, "batch_size": 2, "save_every": 2, "token_steps": 2, "evaluate": False, "device": "cpu"}
        run = lab.train(
            "sgdpo", rows, model_folder("llama"), run_dir=place / "run", learning_rate=1e-3, background=False, **settings
        )
    assert run.state == "finished", run.error
    yield run.dir
    whatif.free()


@pytest.fixture
def run(real: Path) -> Run:
    home.list_run(real)
    return next(run for run in lab.runs())


def pair_of_step(run: Run, step: int) -> str:
    return str(run.reader.pairs.batch(step)["pair"].iloc[0])


def painted(app: AppTest, kind: str) -> AppTest:
    app.segmented_control("inspect.paint").set_value(kind).run()
    assert not app.exception
    return app


def test_both_answers_and_their_heat_maps(run: Run) -> None:
    app = opened(run.dir.name, pair=pair_of_step(run, 6))
    shown = html(app)
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "<mark>" in shown
    for kind, expected in (("log_ratio", "log-ratio"), ("credit", "credit"), ("pilot", "in the pilot")):
        shown = html(painted(app, kind))
        assert "token 1 of" in shown
        assert expected in shown
        assert "<script" not in shown
        assert "🙂" in shown
        assert "&lt;/s&gt;" in shown
        assert "As step 6 computed them" in page_text(app)


def test_token_values_that_are_kept_no_more_are_computed_again(run: Run) -> None:
    latest = {*run.reader.pairs.batch(5)["pair"], *run.reader.pairs.batch(6)["pair"]}
    early = next(pair for pair in run.reader.pairs.batch(1)["pair"] if pair not in latest)
    app = painted(opened(run.dir.name, pair=str(early), step="2"), "credit")
    until(app, lambda: "token 1 of" in html(app))
    assert "Computed again by the model after step 2." in page_text(app)


def test_a_picture_that_is_being_computed_shows_no_colours_of_another(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    latest = {*run.reader.pairs.batch(5)["pair"], *run.reader.pairs.batch(6)["pair"]}
    early = next(pair for pair in run.reader.pairs.batch(1)["pair"] if pair not in latest)
    drawn: list[Any] = []
    screens: list[tuple[str, str]] = []

    def parsed(messages: list[Any]) -> ElementTree:
        drawn[:] = messages
        return parse_tree_from_messages(messages)

    monkeypatch.setattr("streamlit.testing.v1.local_script_runner.parse_tree_from_messages", parsed)

    def still_computing(*_: Any) -> None:
        context = get_script_run_ctx()
        assert context is not None
        messages = [*drawn, *context._enqueue.__self__.forward_msg_queue._queue]  # type: ignore[attr-defined]
        screen = parse_tree_from_messages(messages)  # as a browser has it: what is sent takes the place of what was there
        screens.append(("\n".join(e.proto.body for e in screen.get("html")), "\n".join(e.value for e in screen.get("caption"))))

    app = painted(opened(run.dir.name, pair=str(early), step="2"), "credit")
    until(app, lambda: ": credit " in html(app))
    with monkeypatch.context() as patch:
        patch.setattr("app.views.inspect.what_if.scored_soon", still_computing)
        painted(app, "log_ratio")
    ((shown, captions),) = screens
    assert "Computing the log-ratio of every token ..." in captions
    for page in (shown, html(app)):
        assert "token 1 of" not in page
        assert 'style="background' not in page
        assert "bad answer" in page, "the text without colours"
    app.run()
    until(app, lambda: ": log-ratio " in html(app))
    assert ": credit " not in html(app)


def tab(app: AppTest, name: str) -> AppTest:
    app.session_state["inspect.tab"] = name
    app.run()
    assert not app.exception
    return app


def table_with(app: AppTest, column: str) -> pd.DataFrame | None:
    return next((element.value for element in app.dataframe if column in element.value.columns), None)


def test_what_if_scores_an_edited_text_and_saves_it(run: Run) -> None:
    store = run.pair_store()
    id = pair_of_step(run, 3)
    app = tab(opened(run.dir.name, pair=id, step="4"), "What if")
    until(app, lambda: table_with(app, "stored") is not None)
    assert "model after step 4" in page_text(app), "the checkpoint at or before the moment"
    before = table_with(app, "stored")
    model = lab.examine(run, 4)
    expected = model.score([store.get(id)]).terms.iloc[0]
    assert before is not None
    assert before.set_index("term").loc["Loss [nats]", "stored"] == pytest.approx(float(expected["loss"]))
    next(area for area in app.text_area if area.label == "Chosen answer").set_value(f"another {HOSTILE} answer").run()
    after = table_with(app, "difference")
    assert after is not None
    line = after.set_index("term").loc["Log-prob of the chosen answer [nats]"]
    assert line["difference"] == pytest.approx(line["edited"] - line["stored"])
    assert line["difference"] != 0
    assert store.get(id).version == 1, "nothing is stored yet"
    assert not enabled(app, "Let the run train on it")
    press(app, "Save as an edit of the pair")
    assert "Saved as version 2" in page_text(app)
    assert store.get(id).chosen == f"another {HOSTILE} answer"
    press(app, "Undo")
    assert store.get(id).chosen.startswith("good")
    next(area for area in app.text_area if area.label == "Chosen answer").set_value("").run()
    press(app, "Save as an edit of the pair")
    assert "Not saved: chosen is empty" in page_text(app)


def test_edits_on_inspect_lose_nothing_beside_those_of_another_person(run: Run) -> None:
    store = run.pair_store()
    id, other = store.ids()[3], store.ids()[4]
    app = tab(opened(run.dir.name, pair=id), "What if")
    until(app, lambda: any(button.label == "Save as an edit of the pair" for button in app.button))
    next(area for area in app.text_area if area.label == "Chosen answer").set_value("typed by me").run()
    store.edit(id, rejected="by Ann", author="Ann")
    press(app, "Save as an edit of the pair")
    assert "by Ann" in " ".join(warning.value for warning in app.warning)
    assert "typed by me" in [area.value for area in app.text_area]
    press(app, "Save as an edit of the pair")
    assert (store.get(id).chosen, store.get(id).rejected) == ("typed by me", "by Ann")
    store.edit(other, note="mine")
    store.edit(id, note="by Ann", author="Ann")
    press(app, "Undo")
    assert "Your latest change of this set was made to another pair" in page_text(app)
    assert store.get(other).note == "mine"


def test_a_virtual_step_on_the_page(run: Run) -> None:
    virtual.STEPS.clear()
    id = pair_of_step(run, 5)
    app = tab(opened(run.dir.name, pair=id), "Virtual step")
    until(app, lambda: any(button.label == "Take a virtual step" for button in app.button))
    next(number for number in app.number_input if number.label == "Learning rate").set_value(0.001).run()
    press(app, "Take a virtual step")
    until(app, lambda: any(metric.label == "Others helped" for metric in app.metric))
    metrics = {metric.label: metric.value for metric in app.metric}
    job = virtual.STEPS[run.dir]
    assert int(metrics["Others helped"]) == len(job.result.helped)
    assert int(metrics["Others helped"]) + int(metrics["Others hurt"]) == 7
    assert job.result.own["margin_change"].item() > 0
    assert "A step of the run's AdamW on this pair after step 6" in page_text(app)
    assert f"the gradient's norm ‖g‖ was {job.result.grad_norm:.4g}" in page_text(app)
    assert f"‖Δθ‖ = {job.result.moved:.4g}" in page_text(app)
    data = json.loads(app.get("bidi_component")[-1].proto.bytes)
    assert data["saves"]
    assert len(job.result.changes) == 8
    tables = [frame.proto.columns for frame in app.dataframe if "margin_before" in frame.proto.columns]
    assert tables
    assert all("Reward of the chosen answer of this pair minus" in columns for columns in tables)
    assert {"Helped most", "Hurt most"} <= {line.strip("*") for line in page_text(app).splitlines()}


def test_a_step_that_is_cancelled_says_so(run: Run) -> None:
    model = lab.examine(run)
    with model.lock:  # it cannot measure before it is cancelled
        job = virtual.StepJob(model, model.pairs()[0], sample=3)
        job.cancelled.set()
    assert job.done.wait(60)
    assert job.error == "The virtual step was cancelled; the weights are as they were."


def test_the_model_nearest_at_or_before_a_moment() -> None:
    assert examining.nearest([0, 50, 100], None) == 100
    assert examining.nearest([0, 50, 100], 99) == 50
    assert examining.nearest([50, 100], 20) == 50
