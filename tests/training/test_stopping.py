"""A stop takes effect within a second in the middle of whatever the run does, and what goes on afterwards is exact."""

from __future__ import annotations

import threading
import time

import pytest
import transformers

import lab
from lab.monitor import StoreReader, StoreWriter, pending, send, take
from lab.training import prepare as preparing
from lab.training.stopping import StopCheck, Stopped, blocks
from tests.training.comparing import assert_same

LAYER = transformers.models.llama.modeling_llama.LlamaDecoderLayer
SECONDS = 0.25
"""That a layer takes in the slow phase."""
LAYERS = 2
"""That may still be computed after a stop: the one that is being computed, and one that had begun when the request was seen."""
SETTINGS = {"steps": 6, "batch_size": 4, "micro_batch_size": 1, "device": "cpu", "save_every": 0, "eval_tokens": 12, "seed": 3}


class Slow:
    """Layers of every Llama that sleep while `on`."""

    def __init__(self, monkeypatch):
        self.on, self.waits = False, 0
        forward = LAYER.forward

        def slow_forward(layer, *args, **kwargs):
            if self.on:
                self.waits += 1
                time.sleep(SECONDS)
            return forward(layer, *args, **kwargs)

        monkeypatch.setattr(LAYER, "forward", slow_forward)


@pytest.fixture
def slow(monkeypatch):
    return Slow(monkeypatch)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop(run, slow):
    """Stop a run, which says at once that it is stopping; the layers that were still computed. Layers and not seconds are counted,
    as other processes may take the processor."""
    before = slow.waits
    run.stop()
    assert run.stopping
    assert run.status["stage"] == "stopping"
    assert run.wait(60) == "stopped", run.error
    return slow.waits - before


def test_a_long_step_is_broken_off_and_made_again(slow, rows, model_folder):
    whole = lab.train("dpo", rows, model_folder("llama"), background=False, **SETTINGS)

    def on_step(step, scalars):
        slow.on = step == 3 and not resumed

    resumed = False
    run = lab.train("dpo", rows, model_folder("llama"), on_step=on_step, **SETTINGS)
    wait_for(lambda: slow.waits > 2)
    assert stop(run, slow) <= LAYERS
    assert run.step == 3
    assert [folder.name for folder in run.checkpoints()] == ["step-000003"]
    assert run.events("request")["step"].tolist() == [3]
    slow.on, resumed = False, True
    assert lab.train(run_dir=run.dir, resume=True, background=False).state == "finished"
    assert_same(run, whole)


@pytest.mark.parametrize("phase", ["measuring memory and time", "computing reference", "held-out", "sampling", "the layout check"])
def test_whatever_a_run_does_it_stops_at_once(phase, slow, rows, model_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))  # the reference has to be computed
    status = StoreWriter.status

    def said(store, **values):
        if phase in str(values.get("stage", "")):
            slow.on = True
        status(store, **values)

    slow.on = phase == "the layout check"  # it has the very first pass
    monkeypatch.setattr(StoreWriter, "status", said)
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS | {"held_out": 0.3})
    wait_for(lambda: slow.waits > 1)
    assert stop(run, slow) <= LAYERS
    assert run.step == 0
    slow.on = False


def test_a_model_that_loads_for_long_is_not_waited_for(rows, model_folder, monkeypatch):
    load, began, release = preparing.load_configured, [], threading.Event()

    def slow_load(*args):
        began.append(time.monotonic())
        assert not release.wait(60)
        return load(*args)

    monkeypatch.setattr(preparing, "load_configured", slow_load)
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS)
    wait_for(lambda: began)
    run.stop()
    assert run.wait(30) == "stopped"
    assert run.checkpoints() == []
    release.set()


def test_requests_of_the_own_process_need_no_disk(rows, model_folder):
    """The folder of requests cannot even be made."""
    reached = []

    def on_step(step, scalars):
        if step == 1:
            (run_dir := reached_run().dir).joinpath("requests").write_text("in the way")
            reached.append(run_dir)

    def reached_run():
        return next(iter(lab.runs()))

    run = lab.train("dpo", rows, model_folder("llama"), on_step=on_step, **SETTINGS | {"steps": 10_000, "evaluate": False})
    wait_for(lambda: reached)
    run.pause()
    wait_for(lambda: run.state == "paused")
    run.resume()
    run.set(learning_rate=5e-5)
    wait_for(lambda: len(run.events("change")))
    run.stop()
    assert run.wait(60) == "stopped"
    requests = [detail["request"] for detail in StoreReader(run.dir).events("request")["detail"]]
    assert requests == ["pause", "resume", "set", "stop"]
    with pytest.raises(lab.RunError, match="is stopped"):
        run.stop()


def test_a_request_that_cannot_be_written_is_refused_in_words(tmp_path):
    (tmp_path / "requests").write_text("in the way")
    with pytest.raises(lab.RunError, match="The request stop could not be written"):
        send(tmp_path, "stop")
    assert not pending(tmp_path, "stop")
    assert take(tmp_path) == []


def test_only_the_training_thread_is_interrupted_and_only_where_it_may_be(tmp_path):
    check = StopCheck(tmp_path)
    send(tmp_path, "stop")
    check()  # not active
    with check.active():
        with pytest.raises(Stopped):
            check()
        assert StopCheck(tmp_path).wait_for(lambda: 3) == 3
    other = StopCheck(tmp_path, enabled=False)
    with other.active():
        other()


def test_every_layer_of_a_model_is_a_block(model_folder):
    for kind in ("llama", "gpt2", "gpt_neox"):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(kind))
        assert len(blocks(model)) == 2
