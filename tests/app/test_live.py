"""The Live page over stores that were filled by hand; what only a browser can show is in test_live_browser.py."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.state import pacing
from app.state.current_run import CHOSEN
from app.text.run_text import duration, parameters
from app.views.live import charts, refresh, save_figure
from app.widgets.save_dialog import OPENING
from lab import home
from lab.plots import run_parts
from lab.run import DeviceQueue, take
from lab.run.handle import Run
from lab.store import StoreWriter
from lab.training import lifecycle
from tests.app.conftest import HOSTILE_MARKUP, SAMPLE_PROMPT, fill
from tests.app.pages import MAIN, open_page, page_text, unescaped

HOSTILE = "# <b>x</b> $x$ ![](http://example.invalid/x) :red[y] :smile:"


def opened(run: str | None = None, *, tab: str | None = None, panel: str | None = None, step: int | None = None) -> AppTest:
    """The page; `tab` and `panel` are opened first, and time has travelled to `step`."""
    query = {"run": run, "step": None if step is None else str(step)}
    session = {"live-tab": tab, "live-panel": panel}
    return open_page(
        session={name: value for name, value in session.items() if value is not None},
        **{name: value for name, value in query.items() if value is not None},
    )


def enabled(app: AppTest) -> dict[str, bool]:
    return {button.label: not button.disabled for button in app.button}


def steering(app: AppTest) -> dict[str, bool]:
    """The three buttons at the top of the page."""
    return {label: on for label, on in enabled(app).items() if label in ("Pause", "Resume", "Stop")}


def test_without_a_run_the_page_says_how_to_start_one() -> None:
    app = opened()
    assert "No run yet" in page_text(app, escaped=True)
    assert "python -m lab train" in page_text(app, escaped=True)
    assert not app.button


def test_a_live_run(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", steps=100, done=40)
    app = opened()
    said = unescaped(page_text(app, escaped=True))
    assert "Training" in said
    assert "sgdpo: beta 0.1" in said
    assert "SGDPO tunes the embedded model on pairs of the embedded world, full fine-tuning, step 40 of 100" in said
    assert steering(app) == {"Pause": True, "Resume": False, "Stop": True}
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Remaining"] == "6 s"
    assert metrics["Trained for"] == "4 s"
    assert float(metrics["Pairs/s"]) > 0
    assert [tab.label for tab in app.tabs] == ["Curves", "Pairs", "Tokens", "Gradient", "Answers"]


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    """The figures on the page by title, as they are sent."""
    sent = [element.proto for element in app.get("bidi_component") if element.proto.component_name == "lab_figure"]
    drawn = [json.loads(proto.bytes)["figure"] for proto in sent]
    return {re.sub(r"  <span.*", "", figure["layout"]["title"]["text"]): figure for figure in drawn}


def last_step(figure: dict[str, Any]) -> int:
    """The last step of a figure's first trace."""
    packed = figure["data"][0]["x"]
    return int(np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])[-1])


def test_the_figures_of_the_head_are_those_of_the_step_that_is_shown(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="finished", steps=60)
    store = StoreWriter(run.dir)
    for step in range(1, 61):
        store.scalars(step, {"seconds/trained": 3.0 * step})
    store.close()
    row = run.scalars(["loss", "pairs_per_second"]).loc[57]
    rate = float(row["pairs_per_second"])
    assert {metric.label: metric.value for metric in opened("one", step=57).metric} == {
        "Loss": f"{row['loss']:.4g}",
        "Pairs/s": f"{rate:,.1f}",
        "Trained for": "2 min 51 s",
        "Remaining": duration(3 * 8 / rate),
    }
    latest = {metric.label: metric.value for metric in opened("one").metric}
    assert latest["Trained for"] == "6 s"
    assert latest["Remaining"] == "–"


def test_only_the_open_tab_is_drawn(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=30)
    app = opened()
    assert list(figures(app)) == [
        "Loss",
        "Reward margin",
        "Accuracy of the implicit reward",
        "Rewards of both sides",
        "Log-probs of both sides",
        "Log-ratios to the reference",
        "Pilot terms",
        "Weights of both sides",
    ]
    sizes = [len(e.proto.bytes) + len(e.proto.js_content) for e in app.get("bidi_component")]
    assert max(sizes) < 100_000, "a refresh carries no library"
    assert {"All pairs on the objective’s field", "Pilot of the chosen answer"} <= set(figures(opened(tab="Pairs")))
    assert {"Gradient by layer", "Gradient norm", "Learning rate", "Throughput"} <= set(figures(opened(tab="Gradient")))


def test_an_adaptive_margin_has_its_curve_where_there_is_one(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=30, objective="alpha_dpo")
    assert list(figures(opened()))[6:] == ["Weights of both sides", "Target margin"]


def test_any_recorded_scalar_has_a_curve_for_the_asking(store_run: Callable[..., Run]) -> None:
    run = store_run("alpha", objective="alpha_dpo", steps=60)
    app = opened(run.dir.name)
    (more,) = [pills for pills in app.get("button_group") if pills.key == "scalars-alpha"]
    assert "z" in more.options
    assert "loss" not in more.options, "what is drawn already is not offered again"
    more.set_value(["z"]).run()
    assert not app.exception
    drawn = json.loads(app.session_state["charts"]["scalar:z"][1])
    assert drawn["listens"]
    assert drawn["name"] == "alpha-scalar-z"
    assert drawn["figure"]["data"]


def test_a_figure_is_built_again_only_when_there_is_something_new(
    store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store_run("one", state="running", steps=100, done=30)
    built: list[str] = []
    monkeypatch.setattr(charts, "run_parts", lambda record, name, dark: built.append(name) or run_parts(record, name, dark))
    app = opened()
    assert len(built) == 8
    app.run()
    assert len(built) == 8
    with contextlib.closing(StoreWriter(run.dir)) as store:
        fill(store, "sgdpo", range(31, 33), 100)
        store.status(step=32)
    app.run()
    assert len(built) == 16
    assert last_step(figures(app)["Loss"]) == 32


class TestTimeTravel:
    """The page at an earlier step."""

    def test_every_figure_ends_there(self, store_run: Callable[..., Run]) -> None:
        store_run("one", state="finished", steps=80)
        app = opened("one", step=33)
        drawn = figures(app)
        assert {last_step(figure) for figure in drawn.values()} == {33}
        assert all(figure["layout"]["xaxis"]["range"] == [0, 80] for figure in drawn.values())
        assert app.query_params["step"] in ("33", ["33"])
        loss = next(metric.value for metric in app.metric if metric.label == "Loss")
        assert loss != next(metric.value for metric in opened("one").metric if metric.label == "Loss")

    def test_the_pairs_are_those_of_that_time(self, store_run: Callable[..., Run]) -> None:
        run = store_run("one", state="finished", steps=80)
        parts = figures(opened("one", tab="Pairs", step=3))["All pairs on the objective’s field"]
        points = [trace for trace in parts["data"] if trace["type"] == "scattergl"]
        assert sum(len(trace["customdata"]) for trace in points) == len(run.pairs(3))
        assert [trace["name"] for trace in points] == ["pairs, where they were last seen", "pairs in the batch of step 3"]

    def test_another_run_is_shown_as_it_is_now(self, store_run: Callable[..., Run]) -> None:
        for name in ("one", "two"):
            store_run(name, state="finished", steps=40)
        app = opened("one", step=9)
        app.selectbox(key="run").select("two").run()
        assert not app.exception
        assert {last_step(figure) for figure in figures(app).values()} == {40}
        assert "step" not in app.query_params
        app.selectbox(key="run").select("one").run()
        assert app.query_params["step"] in ("9", ["9"])

    @pytest.mark.parametrize("step", ["999999", "x", "-3", "9" * 40])
    def test_a_step_that_there_is_not_is_the_latest(self, store_run: Callable[..., Run], step: str) -> None:
        store_run("one", state="finished", steps=40)
        app = AppTest.from_file(MAIN, default_timeout=60)
        app.query_params["run"], app.query_params["step"] = "one", step
        app.run()
        assert not app.exception
        assert {last_step(figure) for figure in figures(app).values()} == {40}


def test_a_chart_is_saved_from_a_dialog(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=40)
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.session_state[save_figure.REQUESTED], app.session_state[OPENING] = "margins", True  # as the button in the bar leaves it
    app.run()
    assert not app.exception
    chosen = next(box for box in app.selectbox if box.label == "Chart")
    assert chosen.value == "margins"
    assert "Spread: Pilot of the chosen answer" in chosen.options
    assert app.get("download_button")
    assert "one-margins.csv" in unescaped(page_text(app, escaped=True))


def test_the_tokens_that_the_pilot_drew_are_painted(model_folder: Callable[[str], Path], rows: list[dict[str, str]]) -> None:
    hostile = [row | {"chosen": f"<img src=x onerror=alert(1)> {row['chosen']}"} for row in rows]
    run = lab.train("sgdpo", hostile, model_folder("llama"), steps=2, batch_size=4, lora_rank=2, device="cpu", background=False)
    app = opened(run.dir.name, tab="Tokens")
    html = "".join(element.proto.body for element in app.get("html"))
    assert ": in the pilot" in html
    assert "<img" not in html
    assert "&lt;" in html
    rows_ = run.reader.tokens.read(2)
    first = rows_[(rows_["pair"] == rows_["pair"].iloc[0]) & (rows_["side"] == "chosen")].iloc[0]
    assert f"{int(first.pilot.sum())} of {len(first.pilot)} tokens drawn by the pilot, log-ratio" in page_text(app, escaped=True)
    assert next(box for box in app.selectbox if box.label == "Pair of step 2").options == list(dict.fromkeys(rows_["pair"]))
    assert app.segmented_control("live.paint").options == ["Pilot", "Credit", "Log-ratio"]
    app.segmented_control("live.paint").set_value("credit").run()
    assert ": credit" in "".join(element.proto.body for element in app.get("html"))


def test_tokens_are_painted_where_the_base_model_has_moved(
    model_folder: Callable[[str], Path], rows: list[dict[str, str]], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(model_folder("llama"), base)
    run = lab.train("sgdpo", rows, base, steps=2, batch_size=4, lora_rank=2, device="cpu", background=False, evaluate=False)
    base.rename(tmp_path / "elsewhere")
    app = opened(run.dir.name, tab="Tokens")
    assert ": in the pilot" in "".join(element.proto.body for element in app.get("html"))


def test_no_tokens_are_a_sentence(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=20)
    assert "The tokens of this step are not kept" in page_text(opened(tab="Tokens"), escaped=True)


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
    assert "Finished" in page_text(app, escaped=True)
    assert steering(app) == {"Pause": False, "Resume": False, "Stop": False}
    assert not app.error


def test_a_failed_run_shows_its_reason(store_run: Callable[..., Run]) -> None:
    store_run("one", state="failed", steps=100, done=17, error="Loss nan at step 17 is not finite; lower the learning rate.")
    app = opened()
    assert "Loss nan at step 17 is not finite; lower the learning rate." in unescaped(app.error[0].value)
    assert "step 17 of 100" in unescaped(app.error[0].value)
    assert enabled(app)["Resume"]


def test_a_dead_run_is_called_dead(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="crashed", steps=100, done=23)
    app = opened()
    assert "process of this run ended" in app.error[0].value
    assert "23 of 100" in app.error[0].value
    assert f"python -m lab train --run-dir {run.dir} --resume" in page_text(app, escaped=True)
    assert steering(app) == {"Pause": False, "Resume": True, "Stop": False}


def test_a_paused_run_waits(store_run: Callable[..., Run]) -> None:
    store_run("one", state="paused")
    app = opened()
    assert "Paused" in page_text(app, escaped=True)
    assert steering(app) == {"Pause": False, "Resume": True, "Stop": True}


def test_a_run_that_prepares_says_what_it_does(store_run: Callable[..., Run]) -> None:
    store_run("one", state="queued", done=0, stage="computing reference log-probs", stage_share=0.4, stage_remaining=70)
    app = opened()
    assert "Preparing" in page_text(app, escaped=True)
    bar = app.get("progress")[0].proto
    assert bar.value == 40
    assert unescaped(bar.text) == "Computing reference log-probs: 40%, about 1 min 10 s left"


def test_the_newest_live_run_is_shown_and_the_address_says_so(store_run: Callable[..., Run]) -> None:
    store_run("alive", state="running")
    store_run("later", state="finished")
    app = opened()
    assert app.selectbox(key="run").value == "alive"
    assert app.query_params["run"] == "alive"


def test_a_run_that_trains_comes_before_one_that_waits(store_run: Callable[..., Run]) -> None:
    store_run("trains", state="running")
    store_run("waits", state="queued", done=0)
    assert opened().selectbox(key="run").value == "trains"


def test_the_address_finds_the_run_again(store_run: Callable[..., Run]) -> None:
    store_run("alive", state="running")
    store_run("other", state="finished", objective="alpha_dpo")
    app = opened("other")
    assert app.selectbox(key="run").value == "other"
    assert "alpha_dpo" in unescaped(page_text(app, escaped=True))
    app.selectbox(key="run").select("alive").run()
    assert app.query_params["run"] == "alive"


def test_a_run_that_trains_here_is_drawn_less_often_where_that_costs_too_much(
    store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store_run("one", state="running")
    monkeypatch.setattr(pacing, "SHARE", 1e-6)  # any drawing costs more
    app = opened()
    for _ in range(5):
        app.run()
    assert refresh.INTERVALS not in app.session_state, "a run in another process never waits for the page"
    monkeypatch.setitem(lifecycle._threads, run.dir.resolve(), threading.current_thread())
    for _ in range(5):
        app.run()
    assert app.session_state[refresh.INTERVALS] == {"one": pacing.LONGEST}


def test_the_pace_is_kept_where_the_home_is_a_link(
    lab_home: Path, tmp_path: Path, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab_home.mkdir(parents=True, exist_ok=True)
    link = tmp_path / "link"
    link.symlink_to(lab_home, target_is_directory=True)
    monkeypatch.setenv("LAB_HOME", str(link))
    monkeypatch.setattr(pacing, "SHARE", 1e-6)
    run = store_run("one", state="running")
    assert run.dir != run.dir.resolve()
    monkeypatch.setitem(lifecycle._threads, run.dir.resolve(), threading.current_thread())
    app = opened()
    for _ in range(5):
        app.run()
    assert app.session_state[refresh.INTERVALS] == {"one": pacing.LONGEST}


def test_a_link_to_another_step_and_the_way_back_are_obeyed(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="finished", steps=60)
    app = opened(run.dir.name)
    assert app.session_state["moments"] == {"one": None}
    for asked, shown in (("50", 50), ("40", 40), (None, None), ("40", 40), ("x", None)):
        if asked is None:
            del app.query_params["step"]
        else:
            app.query_params["step"] = asked
        app.run()
        assert not app.exception
        assert app.session_state["moments"] == {"one": shown}


def test_a_click_travels_only_where_steps_go_to_the_right(store_run: Callable[..., Run]) -> None:
    run = store_run("spo", objective="spo", state="finished", steps=20)
    store = StoreWriter(run.dir)
    store.scalars(20, {f"degree_confusion/{true}/{named}": 4.0 for true in range(3) for named in range(3)})
    store.close()
    app = opened(run.dir.name)
    drawn = {name: json.loads(payload) for name, (_, payload) in app.session_state["charts"].items()}
    assert drawn["loss"]["listens"]
    assert drawn["confusion"]["figure"]["data"]
    assert not drawn["confusion"]["listens"]


def test_the_run_stays_chosen_from_page_to_page(store_run: Callable[..., Run]) -> None:
    store_run("alive", state="running")
    store_run("other", state="finished", objective="alpha_dpo")
    assert opened("other").session_state[CHOSEN] == "other"
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.session_state[CHOSEN] = "other"  # all that is left when a link of the navigation, which names no run, leads to a page
    app.run()
    assert app.selectbox(key="run").value == "other"
    assert app.query_params["run"] == "other"


def test_an_address_without_a_run_is_not_the_end(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    app = opened("gone")
    assert "no run gone" in unescaped(app.warning[0].value)
    assert app.selectbox(key="run").value == "one"


def test_warnings_are_shown_in_words_and_inert(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", warnings=(f"Pair {HOSTILE} was cut.",))
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.session_state["checks-one"] = True
    app.run()
    assert any("1 warning**" in one.label for one in app.expander)
    shown = next(one.value for one in app.warning if "was cut" in one.value)
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
    app = opened(tab="Answers")
    texts = [element.value for element in app.text]
    assert "An answer after 40 steps. **bold** :red[x]" in texts
    assert f"Reference {HOSTILE_MARKUP}" in texts
    assert "Policy after step 40, reward 0.620" in page_text(app, escaped=True)
    assert "Reference, reward 0.250" in page_text(app, escaped=True)
    assert app.selectbox(key="prompt-one").options == [SAMPLE_PROMPT]
    assert app.selectbox(key="evaluation-one").options == ["latest", "before training", "after step 40"]
    app.selectbox(key="evaluation-one").select(0).run()
    assert not app.exception
    assert "An answer after 0 steps. **bold** :red[x]" in [element.value for element in app.text]


def test_figures_of_sampled_answers_are_those_that_were_measured(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", steps=40)
    drawn = figures(opened(tab="Answers"))
    assert "Oracle reward of sampled answers" in drawn
    assert "Distance from the reference (KL)" in drawn
    assert "Reward of sampled answers" not in drawn  # no reward model was asked


def test_a_look_says_how_far_it_is(store_run: Callable[..., Run]) -> None:
    store_run("one", state="running", stage="sampling answers 40 of 100", stage_share=0.4, stage_remaining=12)
    bar = opened().get("progress")[0]
    assert bar.proto.text == "Step 50 of 100, sampling answers 40 of 100: 40%, about 12 s left"


def test_distributions_are_those_the_run_has(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished", objective="alpha_dpo", steps=30)
    chosen = next(group for group in opened(tab="Pairs").get("button_group") if group.key == "terms-one")
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
    assert "Queued: place 2 on cpu, behind b." in page_text(app, escaped=True)
    assert "trains  a\n1  b\n2  c" in page_text(app, escaped=True)
    next(b for b in app.button if b.label == "Train next").click().run()
    assert not app.exception
    assert [place.run.name for place in lab.queue()] == ["a", "c", "b"]
    assert "Queued: place 1 on cpu, behind a." in page_text(app, escaped=True)
    assert not enabled(app)["Train next"]


def test_a_waiting_run_can_be_removed(queued: list[Run]) -> None:
    app = opened("b")
    next(b for b in app.button if b.label == "Remove").click().run()
    assert not app.exception
    assert [request.kind for request in take(queued[1].dir)] == ["stop"]


def test_a_run_that_trains_shows_no_queue(queued: list[Run]) -> None:
    assert "Queued" not in page_text(opened("a"), escaped=True)


def test_a_dead_process_says_its_last_words(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="crashed", executor="process")
    (run.dir / "process.log").write_text("--- 2026-01-01 python -m lab train\nerror: The disk is *full*.\n")
    assert "The process of this run ended: The disk is *full*." in unescaped(opened().error[0].value)


def test_a_process_run_is_taken_up_by_a_process(store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    run = store_run("one", state="stopped", executor="process")

    def train(**arguments: object) -> Run:
        given.update(arguments)
        return run

    monkeypatch.setattr("lab.train", train, raising=False)
    next(b for b in opened().button if b.label == "Resume").click().run()
    assert given["executor"] == "process"


def test_the_second_address_of_the_page_opens_it(store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    store_run("two", state="finished")
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.query_params["run"] = "one"
    app.switch_page("views/live/live.py")  # before the first run this is the address /live
    app.run()
    assert not app.exception
    assert app.selectbox(key="run").value == "one"


def test_a_stopped_run_is_said_on_one_line(store_run: Callable[..., Run]) -> None:
    run = store_run("one", state="stopped", steps=100, done=40)
    app = opened()
    assert not app.info
    assert any("Stopped at step 40 of 100" in caption.value for caption in app.caption)
    assert f"python -m lab train --run-dir {run.dir} --resume" in page_text(app, escaped=True)


def test_a_broken_extension_is_named_until_it_is_corrected(lab_home: Path, store_run: Callable[..., Run]) -> None:
    store_run("one", state="finished")
    file = lab_home / "objectives" / "broken.py"
    file.parent.mkdir(parents=True)
    file.write_text("1 / 0\n")
    app = opened()
    for _ in range(2):
        assert any("broken.py was not loaded: ZeroDivisionError" in unescaped(warning.value) for warning in app.warning)
        app.run()
    file.write_text("")
    os.utime(file, (0, 0))
    app.run()
    assert not app.warning
