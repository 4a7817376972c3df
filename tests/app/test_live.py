"""The Live page over stores that were filled by hand; what only a browser can show is in test_live_browser.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.words import duration, parameters
from lab import home
from lab.monitor import DeviceQueue, take
from lab.run import Run
from tests.app.conftest import HOSTILE_MARKUP, SAMPLE_PROMPT

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
HOSTILE = "# <b>x</b> $x$ ![](http://example.invalid/x) :red[y] :smile:"


def opened(run: str | None = None) -> AppTest:
    app = AppTest.from_file(MAIN, default_timeout=30)
    if run is not None:
        app.query_params["run"] = run
    app.run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    """Everything the page says."""
    kinds = ("title", "subheader", "markdown", "text", "caption", "error", "warning", "info", "code", "success")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def enabled(app: AppTest) -> dict[str, bool]:
    return {button.label: not button.disabled for button in app.button}


def steering(app: AppTest) -> dict[str, bool]:
    """The three buttons at the top of the page."""
    return {label: on for label, on in enabled(app).items() if label in ("Pause", "Resume", "Stop")}


def unescaped(text: str) -> str:
    return text.replace("\\", "")


def test_without_a_run_the_page_says_how_to_start_one() -> None:
    app = opened()
    assert "No run yet" in words(app)
    assert "python -m lab train" in words(app)
    assert not app.button


def test_a_live_run(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", steps=100, done=40)
    app = opened()
    said = words(app)
    assert "Training" in said
    assert "sgdpo: beta 0.1" in said
    assert steering(app) == {"Pause": True, "Resume": False, "Stop": True}
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Remaining"] == "6 s"
    assert metrics["Trained for"] == "4 s"
    assert metrics["Throughput"].endswith("pairs/s")
    for heading in ("Objective", "Rewards and log-probs of both sides", "Over the pairs", "Gradient flow"):
        assert heading in said


def test_the_figures_reach_the_page(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=30)
    figures = {element.proto.id.rsplit("-", 1)[-1]: element.proto for element in opened().get("bidi_component")}
    titles = [json.loads(proto.bytes)["figure"]["layout"]["title"]["text"] for proto in figures.values()]
    for expected in ("Loss", "Reward margin", "Rewards of both sides", "Log-probs of both sides"):
        assert expected in titles
    assert any(title.startswith("Pilot of the chosen answer") for title in titles)
    assert max(len(proto.bytes) + len(proto.js_content) for proto in figures.values()) < 100_000, "a refresh carries no library"


@pytest.mark.parametrize(("button", "state"), [("Pause", "running"), ("Resume", "paused"), ("Stop", "running"), ("Stop", "paused")])
def test_buttons_send_what_they_say(store_run: Callable[..., Run], button: str, state: str) -> None:
    run = store_run("one", state=state)
    app = opened()
    next(b for b in app.button if b.label == button).click().run()
    assert not app.exception
    assert [request.kind for request in take(run.dir)] == [button.lower()]


def test_a_finished_run_cannot_be_steered(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    app = opened()
    assert "Finished" in words(app)
    assert steering(app) == {"Pause": False, "Resume": False, "Stop": False}
    assert not app.error


def test_a_failed_run_shows_its_reason(store_run: Callable[..., Run]) -> None:
    store_run("one", state="failed", steps=100, done=17, error="Loss nan at step 17 is not finite; lower the learning rate.")
    app = opened()
    assert "Loss nan at step 17 is not finite; lower the learning rate." in unescaped(app.error[0].value)
    assert "step 17 of 100" in unescaped(app.error[0].value)
    assert enabled(app)["Resume"]


def test_a_dead_run_is_called_dead(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="dead", steps=100, done=23)
    app = opened()
    assert "dead" in app.error[0].value
    assert "23 of 100" in app.error[0].value
    assert f"python -m lab train --run-dir {run.dir} --resume" in words(app)
    assert steering(app) == {"Pause": False, "Resume": True, "Stop": False}


def test_a_paused_run_waits(store_run: Callable[..., Run]) -> None:
    store_run("one", state="paused")
    app = opened()
    assert "Paused" in words(app)
    assert steering(app) == {"Pause": False, "Resume": True, "Stop": True}


def test_a_run_that_prepares_says_what_it_does(store_run: Callable[..., Run]) -> None:
    store_run("one", state="queued", done=0, stage="computing reference log-probs", stage_share=0.4, stage_remaining=70)
    app = opened()
    assert "Preparing" in words(app)
    bar = app.get("progress")[0].proto
    assert bar.value == 40
    assert unescaped(bar.text) == "Computing reference log-probs: 40%, about 1 min 10 s left"


def test_the_newest_live_run_is_shown_and_the_address_says_so(store_run: Callable[..., Run]) -> None:
    store_run("alive", state="running")
    store_run("later", state="finished")
    app = opened()
    assert app.selectbox(key="run").value == "alive"
    assert app.query_params["run"] == "alive"


def test_the_address_finds_the_run_again(store_run: Callable[..., Run]) -> None:
    store_run("alive", state="running")
    store_run("other", state="finished", objective="alpha_dpo")
    app = opened("other")
    assert app.selectbox(key="run").value == "other"
    assert "alpha_dpo" in words(app)
    app.selectbox(key="run").select("alive").run()
    assert app.query_params["run"] == "alive"


def test_an_address_without_a_run_is_not_the_end(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    app = opened("gone")
    assert "no run gone" in unescaped(app.warning[0].value)
    assert app.selectbox(key="run").value == "one"


def test_warnings_are_shown_in_words_and_inert(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", warnings=(f"Pair {HOSTILE} was cut.",))
    app = opened()
    shown = app.warning[0].value
    assert HOSTILE in unescaped(shown)
    for mark in ("<b>", "$x$", "![", ":red[", ":smile:"):
        assert mark not in shown


def test_the_reason_of_a_failure_is_inert(store_run: Callable[..., Run]) -> None:
    store_run("one", state="failed", error=HOSTILE)
    shown = opened().error[0].value
    assert HOSTILE in unescaped(shown)
    assert "![" not in shown


def test_sampled_answers_of_policy_and_reference_stand_side_by_side_as_plain_text(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=40)
    app = opened()
    texts = [element.value for element in app.text]
    assert "An answer after 40 steps. **bold** :red[x]" in texts
    assert f"Reference {HOSTILE_MARKUP}" in texts
    assert "Policy after step 40, reward 0.620" in words(app)
    assert "Reference, reward 0.250" in words(app)
    assert app.selectbox(key="prompt-one").options == [SAMPLE_PROMPT]
    assert app.selectbox(key="look-one").options == ["latest", "before training", "after step 40"]
    app.selectbox(key="look-one").select(0).run()
    assert not app.exception
    assert "An answer after 0 steps. **bold** :red[x]" in [element.value for element in app.text]


def test_figures_of_sampled_answers_are_those_that_were_measured(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=40)
    figures = [json.loads(element.proto.bytes)["figure"]["layout"]["title"]["text"] for element in opened().get("bidi_component")]
    assert "Oracle reward of sampled answers" in figures
    assert "Distance to the reference" in figures
    assert "Reward of sampled answers" not in figures  # no reward model was asked


def test_a_look_says_how_far_it_is(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", stage="sampling answers 40 of 100", stage_share=0.4, stage_remaining=12)
    bar = opened().get("progress")[0]
    assert bar.proto.text == "Step 50 of 100, sampling answers 40 of 100: 40%, about 12 s left"


def test_distributions_are_those_the_run_has(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", objective="alpha_dpo", steps=30)
    chosen = opened().get("button_group")[0]
    assert "target_margin" in chosen.value
    assert "pilot_chosen" not in chosen.value


def test_a_store_that_vanishes_is_one_sentence(store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = store_run("one", state="finished")
    monkeypatch.setattr(Run, "state", property(lambda self: (run.dir / "nothing").read_text()))
    app = opened()
    assert len(app.error) == 1
    assert "cannot be read" in app.error[0].value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (45.4, "45 s"),
        (59.6, "1 min"),
        (130, "2 min 10 s"),
        (3600, "1 h"),
        (3900, "1 h 5 min"),
        (3 * 86400 + 7200, "3 d 2 h"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_objective_on_a_line() -> None:
    spec = {"name": "spo", "weight": 0.1, "base": {"name": "dpo", "beta": 0.1}, "on": True}
    assert parameters(spec) == "spo: weight 0.1, base (dpo: beta 0.1), on yes"


@pytest.fixture
def queued(store_run: Callable[..., Run]) -> list[Run]:
    """One run that trains and two that wait for it."""
    queue = DeviceQueue(home.queue_dir(), "cpu")
    runs = [store_run(name, state="running" if name == "a" else "queued", done=0) for name in "abc"]
    for run in runs:
        queue.join(run.dir.resolve())
        queue.advance(run.dir.resolve())
    return runs


def test_a_waiting_run_says_its_place_and_can_be_the_next(queued: list[Run]) -> None:
    app = opened("c")
    assert "Queued: place 2 on cpu, behind b." in words(app)
    assert "trains  a\n1  b\n2  c" in words(app)
    next(b for b in app.button if b.label == "Train next").click().run()
    assert not app.exception
    assert [place.run.name for place in lab.queue()] == ["a", "c", "b"]
    assert "Queued: place 1 on cpu, behind a." in words(app)
    assert not enabled(app)["Train next"]


def test_a_waiting_run_can_be_removed(queued: list[Run]) -> None:
    app = opened("b")
    next(b for b in app.button if b.label == "Remove").click().run()
    assert not app.exception
    assert [request.kind for request in take(queued[1].dir)] == ["stop"]


def test_a_run_that_trains_shows_no_queue(queued: list[Run]) -> None:
    assert "Queued" not in words(opened("a"))


def test_a_dead_process_says_its_last_words(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="dead", executor="process")
    (run.dir / "process.log").write_text("--- 2026-01-01 python -m lab train\nerror: The disk is *full*.\n")
    assert "its process ended: The disk is *full*." in unescaped(opened().error[0].value)


def test_a_process_run_is_taken_up_by_a_process(store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    run = store_run("one", state="stopped", executor="process")

    def train(**arguments: object) -> Run:
        given.update(arguments)
        return run

    monkeypatch.setattr("lab.train", train, raising=False)
    next(b for b in opened().button if b.label == "Resume").click().run()
    assert given["executor"] == "process"
