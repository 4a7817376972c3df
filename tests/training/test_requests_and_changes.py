"""Requests to a running run: sent from any process, checked twice, recorded with their step, repeated on resume."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
import time

import pytest

import lab
from lab.cli import main
from lab.policy.reference_cache import ReferenceCache
from lab.run import send
from lab.run.changeable import changeable, changed, values
from lab.run.config import ConfigError, TrainConfig
from lab.run.pair_versions import UsedVersion
from lab.store import RunError
from tests.helpers import quick_first, until
from tests.training.run_comparison import asking, assert_same, interrupted, resumed

SETTINGS = {
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 100,
    "device": "cpu",
    "eval_tokens": 8,
}


def train(objective, pairs, model, folder, **more):
    return lab.train(objective, pairs, model, run_dir=folder, background=False, **SETTINGS | more)


# Settings.


@pytest.mark.parametrize(
    ("objective", "settings", "expected"),
    [
        ("dpo", {"beta": "0.2"}, {"beta": 0.2}),
        ("dpo", {"learning_rate": "5e-5", "beta": 0.3}, {"learning_rate": 5e-5, "beta": 0.3}),
        ("sgdpo", {"detach_pilot": "false"}, {"detach_pilot": False}),
        ({"name": "spo", "base": "sgdpo"}, {"base.r1": 0.9, "share": 0.5}, {"base.r1": 0.9, "share": 0.5}),
    ],
)
def test_settings_that_may_change(objective, settings, expected):
    config = TrainConfig.parse(objective=objective)
    after = changed(config, settings)
    assert values(after, settings) == expected
    assert after.steps == config.steps
    assert set(settings) <= set(changeable(config))


@pytest.mark.parametrize(
    ("objective", "settings", "sentence"),
    [
        ("dpo", {}, "Say what to set"),
        ("dpo", {"gamma": 1}, "no parameter 'gamma'"),
        ("dpo", {"beta.gamma": 1}, "no parameter 'beta.gamma'"),
        ("dpo", {"beta": -1}, "beta = -1 does not work"),
        ("dpo", {"beta": float("nan")}, "beta"),
        ("dpo", {"learning_rate": -1}, "learning_rate = -1"),
        ("dpo", {"steps": 7}, "no parameter 'steps'"),
        ("ipo", {"average": False}, "average of ipo cannot change in mid-run"),
        ("spo", {"base": "sgdpo"}, "base of spo cannot change"),
        ("spo", {"degrees": 3}, "degrees of spo cannot change"),
        ({"name": "alpha_dpo", "normalize": "none"}, {"ema_decay": 0.5}, "does not use ema_decay"),
    ],
)
def test_settings_that_may_not_change(objective, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        changed(TrainConfig.parse(objective=objective), settings)


def test_a_setting_that_changes_an_objectives_state_is_refused():
    from lab.objectives import OBJECTIVES, Objective, Outcome, parameter, register

    @register
    class Fickle(Objective):
        name = "fickle"
        moving: bool = parameter(False, "Keep a mean.")

        def compute(self, p, state, draws, *, training):
            return Outcome(-p.h), state

        def initial_state(self):
            import torch

            return {"mean": torch.zeros(())} if self.moving else {}

    try:
        with pytest.raises(ConfigError, match="branch from a checkpoint"):
            changed(TrainConfig.parse(objective="fickle"), {"moving": True})
    finally:
        del OBJECTIVES["fickle"]


def test_set_takes_effect_at_the_next_step(rows, model_folder, tmp_path):
    folder = tmp_path / "run"
    plain = train("dpo", rows, model_folder("llama"), tmp_path / "plain")
    ask = asking(folder, 3, "set", settings={"learning_rate": 2e-3, "beta": 0.5})
    run = train("dpo", rows, model_folder("llama"), folder, on_step=ask)
    assert run.state == "finished", run.error
    rates, plain_rates = run.scalars(["learning_rate"])["learning_rate"], plain.scalars(["learning_rate"])["learning_rate"]
    assert (rates[:3] == plain_rates[:3]).all()
    assert rates[3:].to_numpy() == pytest.approx(2 * plain_rates[3:].to_numpy())
    seen = run.reader.pairs.batch(4)
    assert (seen["reward_chosen"] / seen["log_ratio_chosen"]).to_numpy() == pytest.approx(0.5, rel=1e-4)
    requests, changes = run.events("request"), run.events("change")
    assert requests["step"].tolist() == changes["step"].tolist() == [3]
    assert changes["detail"][0]["settings"] == {"learning_rate": [1e-3, 2e-3], "beta": [0.1, 0.5]}
    assert run.settings.objective.beta == 0.5
    assert run.settings.learning_rate == 2e-3
    assert run.config.objective.beta == 0.1
    with pytest.raises(RunError, match="cannot change its settings"):
        run.set(beta=0.2)


@pytest.mark.extended
def test_a_resumed_run_repeats_its_changes(rows, model_folder, tmp_path):
    """A run resumed from before a change makes it again at its step."""
    folder = tmp_path / "run"
    ask = asking(folder, 3, "set", settings={"learning_rate": 2e-3, "base.beta": 0.5, "share": 0.5})
    whole = train({"name": "spo", "base": "dpo"}, rows[:10], model_folder("llama"), folder, on_step=ask)
    for step in (1, 3, 4, 6):
        again = resumed(interrupted(whole, step, tmp_path / str(step)))
        assert_same(again, whole)
        assert again.settings == whole.settings
        assert again.events("change")["step"].tolist() == [3]


def test_a_new_change_replaces_later_ones_of_the_interrupted_run(rows, model_folder, tmp_path):
    folder = tmp_path / "run"
    whole = train("dpo", rows, model_folder("llama"), folder, on_step=asking(folder, 5, "set", settings={"beta": 0.5}))
    part = interrupted(whole, 2, tmp_path / "part")
    again = lab.train(run_dir=part, resume=True, background=False, on_step=asking(part, 3, "set", settings={"beta": 0.2}))
    assert [change.after for change in again.changes()] == [3]
    assert again.settings.objective.beta == 0.2


@pytest.mark.parametrize(
    ("kind", "detail", "sentence"),
    [
        ("set", {"settings": {"beta": -3}}, "beta = -3"),
        ("set", {"settings": {"nothing": 1}}, "no parameter 'nothing'"),
        ("set", {}, "names no settings"),
        ("edits", {"version": 99}, "has no version 99"),
        ("edits", {"version": "new"}, "names no version"),
    ],
)
def test_a_bad_request_is_refused_and_the_run_continues(kind, detail, sentence, rows, model_folder, tmp_path):
    run = train("dpo", rows, model_folder("llama"), tmp_path / "run", on_step=asking(tmp_path / "run", 2, kind, **detail), steps=4)
    assert run.state == "finished", run.error
    refused = run.events("refused")
    assert refused["step"].tolist() == [2]
    assert sentence in refused["detail"][0]["message"]
    assert run.changes() == []


def test_unreadable_requests_are_refused(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def on_step(step, scalars):
        if step == 2:
            (folder / "requests").mkdir()
            (folder / "requests" / "1.json").write_text("{")
            (folder / "requests" / "2.json").write_text('{"kind": "dance", "detail": {"kind": 1, "step": 2}}')
            (folder / "requests" / "3.json").write_text('["stop"]')

    run = train("dpo", rows, model_folder("llama"), folder, on_step=on_step, steps=4)
    assert run.state == "finished", run.error
    messages = [detail["message"] for detail in run.events("refused")["detail"]]
    assert len(messages) == 3
    assert "'dance'" in messages[1]


def test_requests_during_preparation_apply_before_the_first_step(rows, model_folder, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    computed = ReferenceCache.prepare

    def slowly(self, *arguments, **more):
        send(folder, "set", settings={"beta": 0.3})
        return computed(self, *arguments, **more)

    monkeypatch.setattr(ReferenceCache, "prepare", slowly)
    run = train("dpo", rows, model_folder("llama"), folder)
    assert run.events("change")["step"].tolist() == [0]
    seen = run.reader.pairs.batch(8)
    assert (seen["reward_chosen"] / seen["log_ratio_chosen"]).to_numpy() == pytest.approx(0.3, rel=1e-4)


def test_a_paused_run_changes_settings_at_once(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS | {"steps": 100_000, "save_every": 0, "keep_checkpoints": 2})
    until(lambda: run.step, run=run)
    run.pause()
    until(lambda: run.state == "paused", run=run)
    run.set(beta=0.4)
    run.checkpoint()
    until(lambda: len(run.events("change")) and run.checkpoints(), run=run)
    assert run.state == "paused"
    assert run.settings.objective.beta == 0.4
    run.stop()
    assert run.wait(60) == "stopped"


def test_requests_from_the_command_line(rows, model_folder, capsys):
    """The command line checks a request before it sends it."""
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS | {"steps": 100_000, "save_every": 0})
    until(lambda: run.step, run=run)
    run.pause()  # leaves the processor to the other process; changes are made all the same
    pairs = run.pair_store()
    pairs.drop(pairs.ids()[0])

    command = [sys.executable, "-m", "lab", "show", run.dir.name, "--set", "beta=0.2", "--set", "learning_rate=5e-4"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert main(["show", run.dir.name, "--set", "beta=-1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: beta = ")
    assert len(error.splitlines()) == 1
    assert main(["show", run.dir.name, "--take-edits"]) == 0
    until(lambda: len(run.events("edit")), run=run)
    assert run.pairs_version == 1
    assert run.settings.objective.beta == 0.2
    assert main(["show", run.dir.name, "--take-edits"]) == 1
    run.stop()
    run.wait(60)


# Edits.


@pytest.fixture
def run_with_edits(rows, model_folder, tmp_path, monkeypatch):
    """Return a run over ten pairs of which one was edited, one dropped and one restored after step 3."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))

    def make(name, **more):
        folder = tmp_path / name
        pairs = lab.open_pairs(rows[:10])
        ids = pairs.ids()
        if pairs.version == 0:
            pairs.drop(ids[9])

        def on_step(step, scalars):
            if step == 3:
                if pairs.version == 1:
                    pairs.edit(ids[0], chosen="Mix the flour and the water, knead the dough, bake the bread, cut a slice.")
                    pairs.drop(ids[1])
                    pairs.restore(ids[9])
                lab.open_run(folder).take_edits()

        return train("dpo", pairs, model_folder("llama"), folder, on_step=on_step, **more), ids

    return make


@pytest.mark.parametrize("extra", quick_first({}, {"lora_rank": 2}), ids=["full", "adapter"])
def test_take_edits(extra, run_with_edits, rows, model_folder, tmp_path):
    run, ids = run_with_edits("run", **extra)
    assert run.state == "finished", run.error
    (event,) = run.events("edit").to_dict("records")
    assert event["step"] == 3
    assert event["detail"].pop("seconds") > 0
    counts = {"edited": 1, "dropped": 1, "added": 1, "encoded": 2, "cut": 0}
    assert event["detail"] == {"from_version": 1, "version": 4, "computed": 3, **counts}
    assert run.pair_versions() == [UsedVersion(1, 1, 3), UsedVersion(4, 4, 8)]
    assert run.pairs_version == 4
    batches = [run.reader.pairs.batch(step) for step in range(1, 9)]
    late = [pair for batch in batches[3:] for pair in batch["pair"]]
    assert ids[1] not in late
    assert ids[9] in late
    assert ids[9] not in [pair for batch in batches[:3] for pair in batch["pair"]]
    versions = {v for batch in batches[3:] for v in batch.set_index("pair")["version"].get([ids[0]], [])}
    assert versions == {2}
    # The reference log-probs of the edited pair are the base model's, not the present policy's.
    fresh = lab.train("dpo", run.pair_store(), model_folder("llama"), background=False, **SETTINGS | {"steps": 1, "batch_size": 9})
    expected = fresh.reader.tokens.read(1, ids[0]).set_index("side")["ref_logps"]
    step = next(step for step, batch in enumerate(batches, 1) if step > 3 and ids[0] in batch["pair"].tolist())
    reference_logps = run.reader.tokens.read(step, ids[0]).set_index("side")["ref_logps"]
    for side in ("chosen", "rejected"):
        assert reference_logps[side] == pytest.approx(expected[side], abs=1e-5)


@pytest.mark.parametrize("extra", quick_first({}, {"lora_rank": 2}), ids=["full", "adapter"])
def test_a_resumed_run_repeats_its_edits(extra, run_with_edits, tmp_path):
    whole, _ = run_with_edits("run", **extra)
    for step in (2, 3, 5):
        again = resumed(interrupted(whole, step, tmp_path / str(step)))
        assert_same(again, whole)
        assert again.pairs_version == whole.pairs_version


def test_edits_that_leave_no_pairs_are_refused(rows, model_folder, tmp_path):
    folder = tmp_path / "run"
    pairs = lab.open_pairs(rows[:6])

    def on_step(step, scalars):
        if step == 2:
            for id in pairs.ids():
                pairs.drop(id)
            lab.open_run(folder).take_edits()

    run = train("dpo", pairs, model_folder("llama"), folder, on_step=on_step)
    assert run.state == "finished", run.error
    assert "All pairs of the set are dropped" in run.events("refused")["detail"][0]["message"]
    assert run.pairs_version == 0


@pytest.mark.parametrize("too_long", ["cut", "drop"])
def test_an_edited_answer_that_is_too_long_is_cut_with_a_warning_or_dropped(too_long, rows, model_folder, tmp_path):
    folder = tmp_path / "run"
    pairs = lab.open_pairs(rows[:6])

    def on_step(step, scalars):
        if step == 2:
            pairs.edit(pairs.ids()[0], chosen="Knead the dough again and again. " * 40)
            lab.open_run(folder).take_edits()

    run = train("dpo", pairs, model_folder("llama"), folder, on_step=on_step, max_length=128, too_long=too_long)
    assert run.state == "finished", run.error
    warnings = [detail["message"] for detail in run.events("warning")["detail"]]
    assert any("1 of the edited pairs" in message for message in warnings) == (too_long == "cut")
    seen = [pair for step in range(3, 9) for pair in run.reader.pairs.batch(step)["pair"]]
    assert (pairs.ids()[0] in seen) == (too_long == "cut")


def test_edits_with_full_fine_tuning_need_the_unchanged_base_model(rows, tmp_path):
    from tests.models import make_model

    make_model("llama", tmp_path / "model")
    folder = tmp_path / "run"
    pairs = lab.open_pairs(rows[:6])

    def on_step(step, scalars):
        if step == 2:
            make_model("llama", tmp_path / "model", seed=7)
            pairs.edit(pairs.ids()[0], rejected="Something else altogether.")
            lab.open_run(folder).take_edits()

    run = train("dpo", pairs, tmp_path / "model", folder, on_step=on_step, evaluate=False)
    assert run.state == "finished", run.error
    assert "is not the one this run began with" in run.events("refused")["detail"][0]["message"]


def test_take_edits_without_a_newer_version_is_refused_at_once(rows, model_folder, tmp_path):
    run = train("dpo", rows, model_folder("llama"), tmp_path / "run", steps=1)
    with pytest.raises(RunError, match="latest version of its pairs already"):
        run.take_edits()


def test_changes_are_stored_as_json(rows, model_folder, tmp_path):
    folder = tmp_path / "run"
    run = train("dpo", rows, model_folder("llama"), folder, on_step=asking(folder, 1, "set", settings={"beta": "0.5"}), steps=2)
    assert json.loads((folder / "changes.json").read_text()) == [{"after": 1, "settings": {"beta": 0.5}, "pairs_version": None}]
    (folder / "changes.json").write_text("[{")
    with pytest.raises(RunError, match=r"changes\.json is damaged"):
        run.changes()


def test_polling_leaves_other_requests_for_the_next_safe_point(tmp_path):
    """Neither a stop in the same evaluation nor a kill loses it."""
    from lab.run import send, take
    from lab.store import SilentWriter
    from lab.training.control.request_handler import RequestHandler
    from lab.training.control.run_changes import RunChanges
    from lab.training.control.stopped import Stopped
    from lab.training.reporter import RunReporter

    changes = RunChanges(tmp_path, SilentWriter(), pairs_version=0, pairs_at=lambda _: [], newest_version=lambda: 0, model="world")
    requests = RequestHandler(tmp_path, RunReporter(SilentWriter()), changes)
    send(tmp_path, "set", settings={"beta": 0.3})
    send(tmp_path, "stop")
    with pytest.raises(Stopped):
        requests.poll()
    assert [request.kind for request in take(tmp_path)] == ["set"]


def send_with_stop(folder):
    for kind, detail in (("stop", {}), ("set", {"settings": {"beta": 0.7}}), ("checkpoint", {})):
        send(folder, kind, **detail)


@pytest.mark.parametrize("moment", ["between steps", "in a step"])
def test_requests_sent_together_with_a_stop_are_handled(moment, rows, model_folder, tmp_path, monkeypatch):
    from lab.training import loop

    folder, accumulate = tmp_path / "run", loop.accumulate

    def interrupted(*arguments, **more):
        if lab.open_run(folder).step == 3:
            send_with_stop(folder)
            time.sleep(0.2)  # the next check for a stop reads the requests
        return accumulate(*arguments, **more)

    if moment == "in a step":
        monkeypatch.setattr(loop, "accumulate", interrupted)
    on_step = None if moment == "in a step" else lambda step, scalars: send_with_stop(folder) if step == 3 else None
    run = train("dpo", rows, model_folder("llama"), folder, on_step=on_step)
    assert run.state == "stopped", run.error
    assert run.step == 3
    assert run.changes()[0].settings == {"beta": 0.7}
    assert json.loads((run.checkpoints()[-1] / "trainer.json").read_text())["purpose"] == "keep"
    monkeypatch.undo()
    assert_trained_with_beta(resumed(folder), 0.7)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_requests_sent_with_a_stop_before_the_first_step_are_handled_on_resume(executor, rows, model_folder, tmp_path, monkeypatch):
    from lab.training.setup import prepare

    folder, load = tmp_path / "run", prepare.load_configured

    def interrupted(*arguments):
        send_with_stop(folder)
        time.sleep(0.5)
        return load(*arguments)

    monkeypatch.setattr(prepare, "load_configured", interrupted)
    run = train("dpo", rows, model_folder("llama"), folder)
    assert (run.state, run.step, run.changes()) == ("stopped", 0, []), run.error
    monkeypatch.undo()
    assert_trained_with_beta(lab.train(run_dir=folder, resume=True, background=False, executor=executor), 0.7)


REQUESTS = {
    "pause": lambda run, pairs: run.pause(),
    "resume": lambda run, pairs: run.resume(),
    "stop": lambda run, pairs: run.stop(),
    "beta": lambda run, pairs: run.set(beta=0.2),
    "rate": lambda run, pairs: run.set(learning_rate=3e-4),
    "refused": lambda run, pairs: run.send_settings({"beta": -1}),
    "checkpoint": lambda run, pairs: run.checkpoint(),
    "edits": lambda run, pairs: (pairs.edit(pairs.ids()[0], chosen="Another answer."), run.take_edits()),
}
TOGETHER = random.Random(0).sample(list(itertools.permutations(REQUESTS, 3)), 12)


@pytest.mark.extended
@pytest.mark.parametrize("kinds", TOGETHER, ids="+".join)
def test_requests_of_any_kinds_together_are_all_handled(kinds, rows, model_folder, tmp_path):
    pairs, folder, sent = lab.open_pairs(rows[:12]), tmp_path / "run", []

    def send_together(step, scalars):
        if step == 2 and not sent:
            sent.extend(kinds if {"stop", "resume"} & {*kinds} else (*kinds, "resume"))
            if "pause" in sent and not {"stop", "resume"} & {*sent[sent.index("pause") :]}:
                sent.append("resume")
            for kind in sent:
                REQUESTS[kind](lab.open_run(folder), pairs)

    run = train(
        "dpo", pairs, model_folder("llama"), folder, on_step=send_together, steps=4, evaluate=False, probe_budget=0, save_every=0
    )
    assert run.state == ("stopped" if "stop" in kinds else "finished"), run.error
    run = resumed(folder) if run.state == "stopped" else run
    assert (run.state, run.step) == ("finished", 4)
    assert run.settings.objective.beta == (0.2 if "beta" in kinds else 0.1)
    assert (run.settings.learning_rate == 3e-4) == ("rate" in kinds)
    assert run.pairs_version == (1 if "edits" in kinds else 0)
    assert len(run.events("refused")) == ("refused" in kinds)
    assert "checkpoint" not in kinds or "step-000002" in [path.name for path in run.checkpoints()]


def test_requests_to_a_run_that_failed_are_dropped(rows, model_folder, tmp_path):
    folder = tmp_path / "run"

    def fail(step, scalars):
        if step == 2:
            send(folder, "set", settings={"beta": 0.7})
            raise RuntimeError("on purpose")

    assert train("dpo", rows, model_folder("llama"), folder, on_step=fail).state == "failed"
    again = resumed(folder)
    assert (again.state, again.changes()) == ("finished", [])


def assert_trained_with_beta(run, beta):
    assert run.state == "finished", run.error
    batch = run.reader.pairs.batch(run.step)
    assert (batch["reward_chosen"] / batch["log_ratio_chosen"]).to_numpy() == pytest.approx(beta, rel=1e-4)


def test_a_pause_during_dataset_statistics_is_not_training_time(rows, model_folder, tmp_path, monkeypatch):
    from lab.training import loop

    folder, compute = tmp_path / "run", loop.dataset_state

    def paused(policy, objective, pairs, reference, report_stage, poll):
        send(folder, "pause")
        threading.Timer(1.5, send, (folder, "resume")).start()
        return compute(policy, objective, pairs, reference, report_stage, poll)

    monkeypatch.setattr(loop, "dataset_state", paused)
    objective = {"name": "alpha_dpo", "normalize": "dataset"}
    run = train(objective, rows, model_folder("llama"), folder, steps=1, evaluate=False, probe_budget=0)
    assert run.state == "finished", run.error
    assert [d["request"] for d in run.events("request")["detail"]] == ["pause", "resume"]
    assert run.scalars(["seconds/trained"]).iloc[-1, 0] < 1.4


def test_an_evaluation_added_later_makes_its_checkpoint_the_best(tmp_path):
    from lab.store.folder import best_checkpoint, read_metadata
    from lab.training.checkpoints.checkpoint import add_evaluation

    folder = tmp_path / "checkpoints" / "step-000002"
    folder.mkdir(parents=True)
    (folder / "trainer.json").write_text('{"step": 2, "evaluation": null}')
    assert best_checkpoint(tmp_path, "eval/loss:min") is None
    add_evaluation(tmp_path, 2, {"eval/loss": 0.3})
    assert read_metadata(folder) == {"step": 2, "evaluation": {"eval/loss": 0.3}}
    assert best_checkpoint(tmp_path, "eval/loss:min") == folder
