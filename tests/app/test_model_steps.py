"""Step by step on the Learn page: the controls, both objectives side by side, and texts as data."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import lab.world
from lab.teaching.steps import world_model
from tests.app.pages import page_text
from tests.helpers import open_tiny_worlds, until


def script(names: tuple[str, ...]) -> None:
    """The view on a page of its own, with these objectives."""
    import streamlit as st

    from app.views.learn.model_steps import draw
    from lab.objectives import make_objective

    st.session_state["drawn"] = True
    slots = zip("ABC", names)
    draw([(f"{slot} · {name}", make_objective(name)) for slot, name in slots], dark=False)


@pytest.fixture(autouse=True)
def tiny_world(monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> None:
    open_tiny_worlds(monkeypatch)
    monkeypatch.setattr("app.views.learn.model_steps.QUICK", 60)  # also on a busy machine a step is drawn once it is taken


def opened(*names: str) -> AppTest:
    """The view once its models are open."""
    app = AppTest.from_function(script, args=(names,), default_timeout=60)
    app.run()

    def ready() -> bool:
        app.run()
        return bool(app.session_state["learn.steps.open"][1].done.is_set() and app.button)

    until(ready)
    assert not app.exception
    return app


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception
    return app


def models(app: AppTest) -> list[Any]:
    return app.session_state["learn.steps.open"][1].result


def enabled(app: AppTest) -> dict[str, bool]:
    return {button.label: not button.disabled for button in app.button}


def test_without_an_objective_it_asks_for_one():
    app = AppTest.from_function(script, args=((),), default_timeout=60).run()
    assert not app.exception
    assert "Choose an objective" in app.info[0].value


def test_steps_back_and_reset_move_both_models():
    app = opened("dpo", "sgdpo")
    assert "Press Step" in app.info[0].value
    assert enabled(app) == {"Play": True, "Step": True, "Step back": False, "Reset": False}
    begin = [model.weights["model.norm.weight"] for model in models(app)]
    press(app, "Step")
    press(app, "Step")
    assert [model.number for model in models(app)] == [2, 2]
    text = page_text(app)
    assert "Step 2" in text
    assert not app.info
    for label in ("A · dpo", "B · sgdpo"):
        for part in (label, f"{label}: tokens of pair 1", f"{label}: held-out pairs helped most"):
            assert f"**{part}**" in text, part
    press(app, "Step back")
    assert [model.number for model in models(app)] == [1, 1]
    press(app, "Reset")
    assert [model.number for model in models(app)] == [0, 0]
    assert all((model.weights["model.norm.weight"] == old).all() for model, old in zip(models(app), begin))
    assert "Press Step" in app.info[0].value


def test_the_page_shows_the_numbers_of_the_library():
    app = press(opened("dpo"), "Step")
    record = models(app)[0].current
    loss = next(metric for metric in app.metric if metric.label == "Loss")
    before, after = record.mean("loss")
    assert (loss.value, loss.delta) == (f"{after:.4g}", f"{after - before:+.3g} nats")
    tables = [table.value for table in app.dataframe]
    assert list(tables[0]["chosen"]) == [pair.chosen for pair in record.pairs]
    assert list(tables[1]["logps_chosen_after"]) == list(record.terms_after["logps_chosen"])
    helped = record.helped.head(5)
    assert list(tables[2]["margin_change"]) == list(helped["margin_change"])
    prompts = {pair.id: pair.prompt for pair in models(app)[0].others}
    assert [text[:20] for text in tables[2]["prompt"]] == [prompts[id][:20] for id in helped["pair"]]


def test_another_pair_is_painted_and_its_log_probs_are_named():
    app = press(opened("sgdpo"), "Step")
    record = models(app)[0].current
    app.selectbox(key="learn.steps.pair.8").set_value(3).run()
    assert not app.exception
    before, after = record.terms["logps_rejected"][3], record.terms_after["logps_rejected"][3]
    assert f"log-prob {before:.3f} → {after:.3f} nats by this step" in page_text(app)
    for wanted in ("pilot", "log_ratio"):
        app.session_state["learn.steps.paint"] = wanted
        app.run()
        assert not app.exception


def test_learning_rate_and_batch_size():
    app = opened("dpo")
    first = models(app)[0]
    app.select_slider(key="learn.steps.rate").set_value(1e-3).run()
    press(app, "Step")
    assert first.current.learning_rate == 1e-3
    assert models(app)[0] is first
    app.select_slider(key="learn.steps.batch").set_value(4).run()
    until(lambda: app.session_state["learn.steps.open"][1].done.is_set())
    app.run()
    assert models(app)[0] is not first
    assert models(app)[0].number == 0
    press(app, "Step")
    assert len(models(app)[0].current.pairs) == 4


def test_playing_takes_steps_until_it_is_paused():
    app = press(opened("dpo"), "Play")
    assert models(app)[0].number == 1
    app.run()
    assert models(app)[0].number == 1, "another click in the meantime takes no step"
    app.session_state["learn.steps.at"] = time.monotonic() - 60
    app.run()
    assert models(app)[0].number == 2
    press(app, "Pause")
    app.session_state["learn.steps.at"] = time.monotonic() - 60
    app.run()
    assert models(app)[0].number == 2
    assert "Play" in enabled(app)


def test_a_step_that_fails_leaves_all_models_where_they_were(monkeypatch):
    app = opened("dpo", "sgdpo")
    press(app, "Step")

    def fail() -> None:
        raise ValueError("Step 2 was not taken: **a reason**.")

    monkeypatch.setattr(models(app)[1], "step", fail)
    press(app, "Step")
    assert [model.number for model in models(app)] == [1, 1]
    assert "\\*\\*a reason\\*\\*" in app.error[0].value
    app.run()
    assert not app.error


def test_a_long_step_shows_its_progress_and_takes_no_other(monkeypatch):
    app = opened("dpo", "sgdpo")
    monkeypatch.setattr("app.views.learn.model_steps.QUICK", 0.1)
    release, step = threading.Event(), models(app)[1].step
    monkeypatch.setattr(models(app)[1], "step", lambda: release.wait(60) and step())
    press(app, "Step")
    until(lambda: models(app)[0].number == 1)
    app.run()
    assert app.get("progress")[0].proto.text == "Step 1 with sgdpo"
    assert enabled(app) == {"Play": True, "Step": False, "Step back": False, "Reset": False}
    assert not app.metric
    press(app, "Play")
    assert [model.number for model in models(app)] == [1, 0], "one step at a time"
    release.set()
    until(lambda: models(app)[1].number == 1)
    app.run()
    until(lambda: models(app)[0].number == models(app)[1].number)  # while it plays, the next step may have begun
    press(app, "Pause")
    until(lambda: not app.run().get("progress"))
    assert app.metric


def test_texts_are_data(monkeypatch):
    """A pair with markup is shown literally: no Markdown, no HTML."""
    hostile = "<b>bold</b> **bold** $x$ :red[x]"
    real = world_model.read_pairs

    def read(path: Path) -> list[Any]:
        return [lab.pairs.Pair(p.id, hostile + p.prompt, hostile + p.chosen, hostile + p.rejected) for p in real(path)]

    monkeypatch.setattr(world_model, "read_pairs", read)
    monkeypatch.setattr(world_model, "_loaded", {})
    app = press(opened("dpo"), "Step")
    assert hostile not in "".join(
        str(element.value) for kind in ("markdown", "caption", "error", "info") for element in app.get(kind)
    )
    assert "<b>" not in "".join(str(element.proto.body) for element in app.get("html")).replace("<b>−∂L/∂log π(y_t)</b>", "")
    assert hostile in app.dataframe[0].value["chosen"].iloc[0]
