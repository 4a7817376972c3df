"""The monitor of a run in training: it records each finding once, and its failure never stops training."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lab.diagnosis import Diagnosis, monitor
from lab.diagnosis.alerts import Alert
from lab.diagnosis.monitor import DiagnosticsMonitor, open_findings
from lab.store import StoreReader, StoreWriter
from tests.diagnosis import troubled


class FakeAlerts:
    """Stands for Alerts."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.closed = False

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)

    def close(self) -> None:
        self.closed = True


def test_a_run_writes_down_what_was_found_and_alerts_nobody(model_folder):
    run = troubled.run({"name": "simpo", "beta": 0.1}, troubled.told_apart(8), model_folder("gpt2"), steps=2, probe_budget=0)
    events = run.events("diagnosis")
    assert [detail["finding"] for detail in events["detail"]] == ["parameters", "nothing_held_out"]
    assert "beta = 0.1 is outside 2 to 10" in events["detail"].iloc[0]["message"]
    assert events["step"].iloc[0] in (0, 1, 2), "whenever it looked"
    assert run.config.alerts == "none"
    from lab.plots.marks import describe, notable

    assert "diagnosis" in notable(run.events())["kind"].tolist()
    assert describe("diagnosis", events["detail"].iloc[0]).startswith("Finding: simpo: beta")


def finding(kind="loss_spike", severity="warning", step=1):
    return Diagnosis(kind, severity, f"{kind} at {step}", {"n": float("nan")}, {}, ("a",), step)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A store with a monitor whose examinations return the findings in a list, one after the other."""
    results: list[list[Diagnosis]] = []
    taken: list[int] = []

    def diagnose(reader, *, step, thresholds):
        taken.append(step)
        return results.pop(0) if results else []

    monkeypatch.setattr(monitor, "diagnose", diagnose)
    store, alerts = StoreWriter(tmp_path), FakeAlerts()
    one = DiagnosticsMonitor(tmp_path, store, alerts, interval=0.01)
    store.listeners.append(one)

    def go(*found):
        """One look at one more step."""
        results.append(list(found))
        before = len(taken)
        store.scalars(before + 1, {"loss": 0.5})
        deadline = time.monotonic() + 20
        while len(taken) == before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.02)

    yield go, store, alerts, tmp_path
    if not alerts.closed:
        store.close()


def test_what_persists_is_told_once_and_its_end_too(watched):
    go, store, alerts, folder = watched
    go(finding(step=1))
    go(finding(step=2))
    go()
    go(finding(step=4))  # gone for a moment: it is at the edge of its threshold
    for _ in range(monitor.ABSENT):
        go()
    go(finding(step=8))
    go(finding(severity="error", step=9))
    store.status(state="failed", error="No disk.", step=9)
    store.close()
    events = StoreReader(folder).events.read("diagnosis")
    recorded = [(detail["finding"], bool(detail.get("over"))) for detail in events["detail"]]
    assert recorded == [("loss_spike", False), ("loss_spike", True), ("loss_spike", False), ("loss_spike", False)]
    assert [(alert.kind, alert.severity) for alert in alerts.alerts] == [
        ("loss_spike", "warning"),
        ("loss_spike", "warning"),
        ("loss_spike", "error"),
        ("failed", "error"),
    ]
    assert alerts.alerts[-1].message == "The run failed. No disk."
    assert alerts.closed


def test_a_run_that_goes_on_repeats_nothing(watched):
    _, store, _, folder = watched
    store.event(3, "diagnosis", finding="loss_spike", severity="warning", message="x")
    store.event(5, "diagnosis", finding="saturated", severity="warning", message="y")
    store.event(6, "diagnosis", finding="loss_spike", over=True, severity="notice", message="x")
    store.flush()
    reader = StoreReader(folder)
    assert open_findings(reader, 5).keys() == {"loss_spike", "saturated"}
    assert open_findings(reader, 4).keys() == {"loss_spike"}
    assert open_findings(reader, 9).keys() == {"saturated"}


def test_a_monitor_that_fails_stops_nothing(model_folder, monkeypatch, caplog):
    monkeypatch.setattr(monitor, "diagnose", lambda *_, **__: 1 / 0)
    run = troubled.run("dpo", troubled.told_apart(8), model_folder("gpt2"), steps=2, probe_budget=0)
    assert run.state == "finished"
    assert "The diagnosis of" in caplog.text
    assert run.events("diagnosis").empty


def test_looks_take_a_small_share_of_the_time(watched, monkeypatch):
    _, store, _, _ = watched
    monkeypatch.setattr(monitor, "SHARE", 0.05)

    def slow(reader, *, step, thresholds):
        looked.append(time.monotonic())
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            np.ones(10).sum()
        return []

    looked: list[float] = []
    monkeypatch.setattr(monitor, "diagnose", slow)
    began = time.monotonic()
    while time.monotonic() - began < 1.5:
        store.scalars(len(looked) + 1000, {"loss": 0.5})
        time.sleep(0.01)
    assert 1 <= len(looked) <= 1.5 / (0.02 / 0.05) + 2
