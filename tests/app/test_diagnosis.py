"""What the Live page says of a run's trouble: words, numbers, thresholds one can change, and time travel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.views.live import findings
from app.widgets import notifying
from lab.diagnosis import CHECKS, read_thresholds
from lab.run.handle import Run
from lab.store import StoreWriter
from tests.app.pages import MAIN, open_page
from tests.app.test_live import unescaped
from tests.diagnosis import changing_runs
from tests.helpers import until


def displaced(store_run: Callable[..., Run], name: str = "displaced") -> Run:
    """A run of 100 steps whose chosen answers fall by 10 nats from step 50 on, and whose loss jumps at step 90."""
    run = store_run(name, objective="dpo", steps=100, done=0, evaluations=False, state="stopped")
    store, rng = StoreWriter(run.dir), np.random.default_rng(0)
    for step in range(1, 101):
        chosen = (-10.0 if step > 50 else 0.1) + 0.1 * rng.normal(size=8)
        terms = {"loss": np.full(8, 2.0 if step == 90 else 0.6), "log_ratio_chosen": chosen, "log_ratio_rejected": chosen - 10}
        terms |= {"reward_chosen": 0.1 * chosen, "reward_rejected": 0.1 * (chosen - 10)}
        store.scalars(step, {key: float(value.mean()) for key, value in terms.items()} | {"num_tokens": 800.0 * step})
        store.scalars(step, {"grad_norm": 1.0 + 0.01 * rng.normal(), "rewards/margins": 1.0})
        store.pair_terms(step, [f"pair-{i}" for i in range(8)], [0] * 8, terms)
    store.event(50, "warning", message="The first loss is off.", diagnosed=True)
    store.status(step=100, state="stopped")
    store.close()
    return run


def opened(name: str) -> AppTest:
    """The page with its findings open."""
    return open_page(session={f"checks-{name}": True}, run=name)


def boxes(app: AppTest) -> list[str]:
    return [unescaped(str(one.value)) for kind in ("error", "warning", "info") for one in getattr(app, kind)]


def said(app: AppTest, message: str) -> bool:
    return any(message in box for box in boxes(app))


def test_findings_stand_on_the_page_with_numbers_and_pairs(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    app = opened(run.dir.name)
    assert said(app, "Since step 50 the chosen log-prob fell 10 nats below its start")
    assert said(app, "The loss jumped in one batch: to 2 at step 90")
    assert not said(app, "The first loss is off"), "what the diagnosis says is not said a second time"
    tables = [unescaped(str(one.value)) for one in app.markdown if str(one.value).startswith("| ")]
    assert any("chosen log-prob against its start [nats]" in table for table in tables)
    checks = next(table for table in tables if table.startswith(f"| All {len(CHECKS)} checks"))
    assert len(checks.splitlines()) == len(CHECKS) + 2
    assert {line.split(" | ")[1] for line in checks.splitlines()[2:]} == {"finding", "fine", "not yet"}
    assert any("pair-" in str(one.value) for one in app.code) or app.get("page_link")


def test_closed_the_findings_are_one_line_with_their_count(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.query_params["run"] = run.dir.name
    app.run()
    (line,) = [one.label for one in app.expander if "finding" in one.label]
    assert re.match(r"\*\*\d findings\*\*: ", line)
    assert not said(app, "chosen log-prob fell"), "what is not open is not sent"


def test_it_obeys_time_travel(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    app = AppTest.from_file(MAIN, default_timeout=30)
    app.query_params["run"], app.query_params["step"] = run.dir.name, "45"
    app.run()
    assert not app.exception
    assert not said(app, "chosen log-prob fell")
    assert f"No trouble found ({len(CHECKS)} checks)" in [one.label for one in app.expander]


def test_thresholds_change_what_is_said_and_go_back(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    app = opened(run.dir.name)
    name = f"threshold-{run.dir.name}-chosen_fall"
    app.number_input(key=name).set_value(5.0).run()
    assert not app.exception
    assert not said(app, "chosen log-prob fell")
    assert said(app, "The loss jumped"), "the others stand"
    app.selectbox(key=f"checked-{run.dir.name}").set_value("chosen_falls").run()
    assert app.number_input(key=name).value == 5.0
    app.button(key=f"keep-{run.dir.name}-chosen_falls").click().run()
    assert read_thresholds(run.dir).chosen_fall == 5.0
    app.button(key=f"default-{run.dir.name}-chosen_falls").click().run()
    assert not app.exception
    assert said(app, "chosen log-prob fell")
    assert read_thresholds(run.dir).chosen_fall == 5.0, "kept until it is kept anew"


def test_a_threshold_out_of_range_is_refused_in_a_sentence(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    app = opened(run.dir.name)
    app.number_input(key=f"threshold-{run.dir.name}-chosen_fall").set_value(-1.0).run()
    assert not app.exception
    assert said(app, "The threshold chosen_fall = -1.0 does not work: input should be greater than or equal to 0.")
    assert said(app, "chosen log-prob fell")


def test_damaged_thresholds_are_said_and_the_defaults_hold(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    (run.dir / "thresholds.json").write_text("{")
    app = opened(run.dir.name)
    assert said(app, "delete it to restore the default thresholds")
    assert said(app, "chosen log-prob fell")


def test_news_are_findings_and_the_end(store_run: Callable[..., Run]) -> None:
    run = displaced(store_run)
    store = StoreWriter(run.dir)
    store.event(60, "diagnosis", finding="chosen_falls", severity="warning", message="It falls.")
    store.event(70, "diagnosis", finding="chosen_falls", severity="notice", message="It falls.", over=True)
    store.close()
    told = notifying.news(run)
    assert [one.message for one in told] == ["It falls.", "It has stopped."]
    assert [one.id for one in told] == [one.id for one in notifying.news(run)]


def test_the_script_of_the_notifications_reads_what_the_server_sends() -> None:
    sent = {field.name for field in fields(notifying.News)}
    assert set(re.findall(r"(?<!data\.)\bnews\.(\w+)", notifying.JAVASCRIPT)) == sent


@pytest.mark.extended
def test_a_failed_run_is_resumed_without_the_change_that_caused_it(model_folder: Callable[[str], Path], lab_home: Path) -> None:
    name = "changed"
    change = changing_runs.setting(learning_rate=1e30)
    run = changing_runs.run("dpo", model_folder("gpt2"), lab_home / "runs" / name, change, at=4, steps=8, save_every=2)
    assert run.state == "failed"
    app = opened(name)
    assert said(app, "learning_rate changed from 3e-05 to 1e+30")
    button = app.button(key=f"without-{name}-not_finite")
    assert button.label == "Resume without the change at step 4"
    assert not button.disabled
    button.click().run()
    assert not app.exception
    until(lambda: run.state == "finished", 60, lambda: str(run.error))
    assert run.changes() == []
    assert run.step == 8
    app = opened(name)
    assert not said(app, "learning_rate changed")
    assert [one.key for one in app.button if str(one.key).startswith("without-")] == []


def test_numbers_are_written_in_full() -> None:
    assert [findings._written(value) for value in (12345.6, 0.12345, 1e-7, float("nan"))] == ["12,346", "0.1235", "1e-07", "–"]
