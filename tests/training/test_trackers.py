"""Trackers: they get every scalar and setting, never delay a run and never end one."""

from __future__ import annotations

import importlib.util
import threading

import pytest
from accelerate import tracking

import lab
from lab.run.config import ConfigError, TrainConfig
from lab.training.trackers import Recorder, TrackedRun, hyper_parameters, tracked_run, tracker_names
from tests.helpers import until

SETTINGS = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 3,
    "device": "cpu",
    "eval_tokens": 8,
    "probe_budget": 0,
}


class Notebook(tracking.GeneralTracker):
    """A registered tracker that keeps what it receives."""

    name = "notebook"
    requires_logging_directory = False
    opened: list[Notebook] = []
    fail_at: str = ""
    gate: threading.Event | None = None

    def __init__(self, run_name, **_):
        super().__init__()
        self.project, self.settings, self.logged, self.finished = run_name, None, [], False

    @property
    def tracker(self):
        return self

    def start(self):
        self._meet("start")
        self.opened.append(self)

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None, **_):
        self._meet("log")
        if self.gate is not None:
            self.gate.wait(30)
        self.logged.append((step, values))

    def finish(self):
        self._meet("finish")
        self.finished = True

    def _meet(self, moment):
        if self.fail_at == moment:
            raise ConnectionError("the network\nis gone")


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    for name, value in (("opened", []), ("fail_at", ""), ("gate", None)):
        monkeypatch.setattr(Notebook, name, value)
    return Notebook


def test_every_scalar_and_setting_reaches_the_tracker(rows, model_folder, notebook):
    objective = {"name": "spo", "base": {"name": "sgdpo", "r1": 0.7}}
    run = lab.train(objective, rows, model_folder("llama"), trackers="notebook", background=False, **SETTINGS)
    assert run.state == "finished"
    (tracker,) = notebook.opened
    assert tracker.finished
    assert tracker.settings["objective.base.r1"] == 0.7
    assert tracker.settings["learning_rate"] == 1e-3
    assert tracker.settings["micro_batch_size"] == "none"
    stored = run.scalars()
    for name in stored:
        logged = {step: values[name] for step, values in tracker.logged if name in values}
        expected = stored[name].dropna()
        assert logged.keys() >= set(expected.index), name
        assert all(logged[step] == value for step, value in expected.items()), name
    assert {"loss", "rewards/margins", "logps/chosen", "grad_norm", "learning_rate"} <= set(stored)


def test_evaluation_scalars_reach_the_tracker(notebook, tmp_path, lab_home):
    from lab.store import StoreWriter

    store = StoreWriter(tmp_path)
    store.listeners.append(Recorder("notebook", TrackedRun("n", "k", tmp_path, False, {}), lambda *_: None))
    store.scalars(0, {"eval/oracle_reward": 0.25})
    store.scalars(1, {"loss": 0.5})
    store.close()
    assert notebook.opened[0].logged == [(0, {"eval/oracle_reward": 0.25}), (1, {"loss": 0.5})]


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
def test_a_failing_tracker_is_warned_of_once_and_the_run_continues(moment, rows, model_folder, notebook):
    notebook.fail_at = moment
    run = lab.train("dpo", rows, model_folder("llama"), trackers="notebook", background=False, **SETTINGS)
    assert run.state == "finished"
    assert run.step == 6
    warnings = [d["message"] for d in run.events("warning")["detail"] if "tracker" in d["message"]]
    assert warnings == ["The tracker notebook failed (ConnectionError: the network is gone); the run goes on without it."]


def test_a_slow_tracker_does_not_delay_the_loop(tmp_path, notebook):
    notebook.gate = threading.Event()
    warnings = []
    recorder = Recorder("notebook", TrackedRun("n", "k", tmp_path, False, {}), lambda step, message: warnings.append(message))
    try:
        for step in range(1000):
            recorder.scalars(step, {"loss": 1.0})
        assert not notebook.opened or len(notebook.opened[0].logged) == 0  # queued, and nothing written yet
        recorder.close(patience=0.05)
        assert "had not written everything" in warnings[0]
    finally:
        notebook.gate.set()
    until(lambda: notebook.opened[0].finished, seconds=10)
    assert [step for step, _ in notebook.opened[0].logged] == list(range(1000))


def test_values_dropped_for_a_slow_tracker_are_counted(tmp_path, notebook, monkeypatch):
    from lab.training import trackers

    monkeypatch.setattr(trackers, "QUEUE_LIMIT", 10)
    notebook.gate = threading.Event()
    warnings = []
    recorder = Recorder("notebook", TrackedRun("n", "k", tmp_path, False, {}), lambda step, message: warnings.append(message))
    for step in range(100):
        recorder.scalars(step, {"loss": 1.0})
    notebook.gate.set()
    recorder.close()
    dropped = 100 - len(notebook.opened[0].logged)
    assert dropped >= 89
    assert f"{dropped} of its values were left out" in warnings[0]


def test_a_resumed_run_has_the_same_tracker_key(rows, model_folder, tmp_path, notebook):
    import shutil

    folder = tmp_path / "run"
    run = lab.train("dpo", rows, model_folder("llama"), trackers="notebook", run_dir=folder, background=False, **SETTINGS)
    shutil.rmtree(run.checkpoints()[-1])
    resumed = lab.train(run_dir=folder, resume=True, background=False)
    assert resumed.state == "finished"
    first, second = notebook.opened
    assert first.settings
    assert second.settings is None  # stored by the first one
    again = [(step, values["loss"]) for step, values in second.logged if "loss" in values]
    assert again == [(step, values["loss"]) for step, values in first.logged if "loss" in values and step > 3]
    made = resumed.manifest["created"]
    keys = {tracked_run(folder, run.config, made, resumed=r).key for r in (False, True)}
    assert len(keys) == 1
    assert tracked_run(folder, run.config, "another time", resumed=False).key not in keys


@pytest.mark.parametrize(
    ("trackers", "sentence"),
    [
        ("nonsense", "There is no tracker 'nonsense'; use tensorboard, wandb, trackio"),
        ("mlflow", "There is no tracker 'mlflow'"),
        ("wandb", "pip install wandb"),
    ],
)
def test_unknown_trackers_are_refused_before_a_run_is_created(trackers, sentence, rows, lab_home, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "wandb" else find(name, *a))
    with pytest.raises(ConfigError, match=sentence):
        lab.train("dpo", rows, trackers=trackers, steps=1)
    assert not (lab_home / "runs").exists()


def test_tracker_names_without_duplicates(notebook):
    assert tracker_names("") == []
    assert tracker_names(" notebook,notebook , ") == ["notebook"]


def test_hyper_parameters_are_plain_values():
    flat = hyper_parameters(TrainConfig.parse(objective={"name": "spo", "base": "dpo"}))
    assert flat["objective.name"] == "spo"
    assert flat["objective.base.name"] == "dpo"
    assert all(isinstance(value, bool | int | float | str) for value in flat.values())


def test_tensorboard_continues_a_resumed_run(rows, model_folder, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    import shutil

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = lab.train(
        "dpo", rows, model_folder("llama"), trackers="tensorboard", run_dir=tmp_path / "run", background=False, **SETTINGS
    )
    shutil.rmtree(run.checkpoints()[-1])
    lab.train(run_dir=tmp_path / "run", resume=True, background=False)
    assert run.events("warning").empty
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    stored = run.scalars(["loss"])["loss"]
    logged = {event.step: event.value for event in events.Scalars("loss")}
    assert logged.keys() == set(stored.index)
    assert all(logged[step] == pytest.approx(value) for step, value in stored.items())
    assert len(events.Scalars("loss")) == len(stored)
