"""How an experiment's runs are divided among processes."""

from __future__ import annotations

import pytest

from lab.experiments import PairSet, declare, plan
from lab.sweep_processes import ProcessExecutor


@pytest.mark.parametrize(
    ("seeds", "workers", "settings", "sizes"),
    [
        (8, 2, {}, [4, 4]),
        (3, 2, {}, [2, 1]),
        (10, 2, {}, [4, 4, 2]),
        (3, 2, {"model": ["world", "somewhere/large"]}, [1] * 6),  # its size is not known
    ],
)
def test_runs_of_small_models_share_processes(seeds, workers, settings, sizes):
    declared = declare("dpo", seeds, {"device": "cpu", **settings})
    runs = plan(declared, {"world": PairSet("store", 1, "world")}, template_time="2026-01-31T12:00:00")
    groups = ProcessExecutor("some", 1, workers).group(runs)
    assert [len(group) for group in groups] == sizes
    assert [run for group in groups for run in group] == runs
