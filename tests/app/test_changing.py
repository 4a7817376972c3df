"""The Live page's Change and Branch over a run that really trains, and over ones filled by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.views.live import change_and_branch
from lab.run import take
from lab.run.handle import Run
from tests.app.pages import page_text
from tests.app.test_live import opened, unescaped
from tests.helpers import until


@pytest.fixture(autouse=True)
def no_jobs() -> Iterator[None]:
    yield
    change_and_branch.BRANCHES.clear()


@pytest.fixture
def live(store_run: Callable[..., Run], rows) -> Run:
    """A running run whose pairs are in a store."""
    run = store_run("one", state="running", objective="sgdpo", steps=100, done=40)
    store = lab.open_pairs(rows)
    Path(run.manifest["pairs_store"]).parent.mkdir(parents=True, exist_ok=True)
    Path(run.manifest["pairs_store"]).symlink_to(store.path)
    return run


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    return app


def number(app: AppTest, label: str):
    return next(widget for widget in app.number_input if widget.label.startswith(label))


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_settings_are_shown_as_they_are_and_sent_when_changed(live: Run) -> None:
    app = opened(panel="Change")
    assert number(app, "Learning rate").value == 1e-4
    assert number(app, "Beta").value == 0.1
    number(app, "Beta").set_value(0.3)
    press(app, "Set")
    assert "The run sets beta" in page_text(app)
    (request,) = take(live.dir)
    assert (request.kind, request.detail) == ("set", {"settings": {"beta": 0.3}})


@pytest.mark.parametrize(("beta", "sentence"), [(-1.0, "beta = -1.0 does not work"), (0.1, "Say what to set")])
def test_what_cannot_be_set_is_said_at_once(live: Run, beta: float, sentence: str) -> None:
    app = opened(panel="Change")
    number(app, "Beta").set_value(beta)
    press(app, "Set")
    assert sentence in unescaped(app.error[0].value)
    assert take(live.dir) == []


def test_a_checkpoint_on_request(live: Run) -> None:
    press(opened(panel="Change"), "Checkpoint now")
    assert [request.kind for request in take(live.dir)] == ["checkpoint"]


def test_edits_are_offered_when_there_are_some(live: Run) -> None:
    assert "Take edits" not in labels(opened())
    store = live.pair_store()
    store.drop(store.ids()[0])
    app = opened()
    assert "the run uses version 0 of them, and there is version 1" in page_text(app)
    press(app, "Take edits")
    (request,) = take(live.dir)
    assert (request.kind, request.detail) == ("edits", {"version": 1})


@pytest.mark.parametrize(("setting", "expected"), [("follow", "The run follows its pairs"), ("0", "")])
def test_a_run_that_follows_or_keeps_a_version_offers_no_edits(live: Run, setting: str, expected: str) -> None:
    manifest = json.loads((live.dir / "run.json").read_text())
    manifest["config"]["pairs_version"] = setting
    (live.dir / "run.json").write_text(json.dumps(manifest))
    store = live.pair_store()
    store.drop(store.ids()[0])
    app = opened()
    assert "Take edits" not in labels(app)
    assert expected in page_text(app)
    assert ("there is version 1" in page_text(app)) == bool(expected)


def test_an_ended_run_has_nothing_to_change(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    assert not {"Set", "Checkpoint now", "Take edits", "Start the branch"} & set(labels(opened()))


@pytest.mark.extended
def test_a_branch_is_started_and_watched(rows, model_folder) -> None:
    parent = lab.train(
        "dpo", rows, model_folder("llama"), background=False, steps=4, save_every=2, batch_size=4, device="cpu", eval_tokens=8
    )
    app = opened(panel="Branch")
    next(box for box in app.selectbox if box.label == "From step").select(2).run()
    next(box for box in app.selectbox if box.key == f"branch.{parent.dir.name}.objective").select("sgdpo").run()
    number(app, "r1").set_value(0.9)
    press(app, "Start the branch")
    (job,) = change_and_branch.BRANCHES.values()
    assert job.done.wait(60)
    app.run()
    press(app, "Watch the branch")
    until(lambda: job.result.state == "finished")
    assert app.selectbox(key="run").value == job.result.dir.name
    assert job.result.config.objective.spec()["r1"] == 0.9
    assert job.result.manifest["branch"]["step"] == 2


def test_what_cannot_branch_is_a_sentence(rows, model_folder) -> None:
    lab.train("dpo", rows, model_folder("llama"), background=False, steps=2, batch_size=4, device="cpu", eval_tokens=8)
    app = opened(panel="Branch")
    [widget for widget in app.number_input if widget.label == "Steps"][-1].set_value(1)
    press(app, "Start the branch")
    (job,) = change_and_branch.BRANCHES.values()
    assert job.done.wait(60)
    app.run()
    assert "give steps, more than 2" in unescaped(app.error[0].value)
    press(app, "Close")
    assert "Start the branch" in labels(app)


@pytest.mark.extended
def test_changes_show_on_the_page(rows, model_folder, tmp_path) -> None:
    folder = lab.home.runs_dir() / "mine"
    from tests.training.run_comparison import asking

    ask = asking(folder, 1, "set", settings={"beta": 0.7})
    bad = asking(folder, 2, "set", settings={"beta": -7})
    lab.train(
        "dpo",
        rows,
        model_folder("llama"),
        run_dir=folder,
        background=False,
        steps=4,
        batch_size=4,
        device="cpu",
        on_step=lambda *step: (ask(*step), bad(*step)),
    )
    app = opened()
    app.session_state["checks-mine"] = True  # the refusal is a warning, which is folded
    app.run()
    assert "dpo: beta 0.7" in unescaped(page_text(app))
    assert "beta = -7 does not work" in unescaped(page_text(app))
