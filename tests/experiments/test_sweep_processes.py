"""How an experiment's runs are divided among processes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.experiments import Driver, PairSet, declare, plan
from lab.sweep_processes import ProcessExecutor, measured_seconds, share_of_cores

from .faked import WrittenRuns, content, folder_with


@pytest.mark.parametrize(
    ("seeds", "workers", "settings", "sizes"),
    [
        (8, 2, {}, [4, 4]),
        (3, 2, {}, [2, 1]),
        (10, 2, {}, [2, 3, 3, 2]),
        (12, 2, {}, [3, 3, 3, 3]),
        (1, 4, {}, [1]),
        (3, 2, {"model": ["world", "somewhere/large"]}, [1] * 6),  # its size is not known
    ],
)
def test_runs_of_small_models_share_processes(seeds, workers, settings, sizes):
    declared = declare("dpo", seeds, {"device": "cpu", **settings})
    runs = plan(declared, {"world": PairSet("store", 1, "world")}, template_time="2026-01-31T12:00:00")
    groups = ProcessExecutor("some", 1, workers).group(runs)
    assert [len(group) for group in groups] == sizes
    assert [run for group in groups for run in group] == runs


def test_runs_that_share_a_core_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.sweep_processes.cores", lambda: 2)
    declared = replace(content("dpo", 4, steps=5, device="cpu"), threads=1, workers=2)
    assert [share_of_cores(replace(declared, workers=count)) for count in (1, 2, 4)] == [1.0, 1.0, 0.5]
    monkeypatch.setattr("lab.experiments.driver.INTERVAL", 0.01)
    folder = folder_with(declared, "done")
    Driver(folder, WrittenRuns()).run()
    last = folder.state()
    assert last is not None
    state = last.as_json()
    for run in state["runs"].values():
        run["seconds"] = 10.0
    folder.write_state(state)
    estimates = {count: measured_seconds(replace(declared, workers=count), declared.runs)[0] for count in (1, 2, 4)}
    assert estimates == {1: 40.0, 2: 20.0, 4: 20.0}, "four at once on two cores end no earlier than two at once"
