"""A stop interrupts every phase of a run within a second, and the resumed run is exact."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace

import pytest
import torch
import transformers

import lab
from lab.policy import logps
from lab.policy.kernels import projection
from lab.run import pending, send, take
from lab.store import StoreReader, StoreWriter
from lab.training.control import stopping as stopping_module
from lab.training.control.stopped import Stopped
from lab.training.control.stopping import StopCheck, blocks
from lab.training.reporter import RunReporter
from lab.training.setup import prepare as preparing
from tests.helpers import until
from tests.training.run_comparison import assert_same

LAYER = transformers.models.llama.modeling_llama.LlamaDecoderLayer
SECONDS = 0.25
"""Seconds of a layer in the slow phase."""
LAYERS = 2
"""Layers that may be computed after a stop: the present one, and one that begins before the request is read."""
SETTINGS = {"steps": 6, "batch_size": 4, "micro_batch_size": 1, "device": "cpu", "save_every": 0, "eval_tokens": 12, "seed": 3}


class Slow:
    """Makes the layers of every Llama sleep while `on`, and counts them."""

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


def stop(run, slow):
    """Stop a run; return how many layers were computed after the request (seconds would depend on other processes)."""
    before = slow.waits
    run.stop()
    assert run.stopping
    assert run.status["stage"] == "stopping"
    assert run.wait(60) == "stopped", run.error
    return slow.waits - before


def test_a_long_step_is_interrupted_and_repeated_after_resuming(slow, rows, model_folder):
    whole = lab.train("dpo", rows, model_folder("llama"), background=False, **SETTINGS)

    def on_step(step, scalars):
        slow.on = step == 3 and not resumed

    resumed = False
    run = lab.train("dpo", rows, model_folder("llama"), on_step=on_step, **SETTINGS)
    until(lambda: slow.waits > 2, run=run)
    assert stop(run, slow) <= LAYERS
    assert run.step == 3
    assert [folder.name for folder in run.checkpoints()] == ["step-000003"]
    assert run.events("request")["step"].tolist() == [3]
    slow.on, resumed = False, True
    assert lab.train(run_dir=run.dir, resume=True, background=False).state == "finished"
    assert_same(run, whole)


@pytest.mark.parametrize("phase", ["measuring memory and time", "computing reference", "held-out", "sampling", "the layout check"])
def test_a_stop_interrupts_every_phase(phase, slow, rows, model_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))  # the reference has to be computed
    status = StoreWriter.status

    def slow_in_phase(store, **values):
        if phase in str(values.get("stage", "")):
            slow.on = True
        status(store, **values)

    slow.on = phase == "the layout check"  # the very first pass
    monkeypatch.setattr(StoreWriter, "status", slow_in_phase)
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS | {"held_out": 0.3})
    until(lambda: slow.waits > 1, run=run)
    assert stop(run, slow) <= LAYERS
    assert run.step == 0
    slow.on = False


@pytest.mark.parametrize("linear", [True, False])
def test_a_stop_interrupts_chunks_of_logits(linear, rows, model_folder, monkeypatch):
    """The logits of a large vocabulary may take longer than all layers: the check is called before every chunk of them."""
    waits, on = [], threading.Event()

    def slow_down(compute):
        def slower(*args):
            if on.is_set():
                waits.append(len(args))
                time.sleep(SECONDS)
            return compute(*args)

        return slower

    in_chunks = logps.token_logps
    monkeypatch.setattr(logps, "token_logps", lambda *args, **given: in_chunks(*args, **given | {"chunk_elements": 8 * 306}))
    monkeypatch.setattr(projection, "_logits", slow_down(projection._logits))
    load = preparing.load_configured

    def load_split(*args):
        policy = load(*args)
        head = policy.module.head
        policy.module.head = replace(head, linear=head.linear if linear else None, project=slow_down(head.project))
        return policy

    monkeypatch.setattr(preparing, "load_configured", load_split)
    settings = SETTINGS | {"evaluate": False, "steps": 1000, "batch_size": 8, "micro_batch_size": None, "probe_budget": 0}
    run = lab.train("dpo", rows, model_folder("llama"), on_step=lambda step, scalars: on.set(), **settings)
    until(lambda: len(waits) > 1, run=run)
    before = len(waits)
    run.stop()
    assert run.wait(60) == "stopped", run.error
    assert len(waits) - before <= 2
    assert [folder.name for folder in run.checkpoints()] == [f"step-{run.step:06d}"]


def test_the_optimizer_step_is_never_interrupted(rows, model_folder, monkeypatch):
    settings = SETTINGS | {"evaluate": False, "batch_size": 4, "micro_batch_size": None, "probe_budget": 0}
    whole = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    clip, norms = torch.nn.utils.clip_grad_norm_, []

    def stopping(parameters, most):
        norms.append(clip(parameters, most))
        if len(norms) == 3:
            send(next(iter(lab.runs())).dir, "stop")
        return norms[-1]

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", stopping)
    monkeypatch.setattr(stopping_module, "INTERVAL", 0.0)
    run = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    assert (run.state, run.step) == ("stopped", 2)
    lab.train(run_dir=run.dir, resume=True, background=False)
    assert_same(run, whole)


@pytest.mark.slow
def test_a_stop_in_a_step_over_a_wide_vocabulary_takes_effect_within_a_second(rows, model_folder, monkeypatch, tmp_path):
    """Seconds from the request to the interruption of the step; the lower of two, since other processes may slow one down."""
    folder, noticed, took = tmp_path / "wide", [], []
    shutil.copytree(model_folder("llama"), folder)
    config = transformers.LlamaConfig(
        vocab_size=100_000, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    report = RunReporter.stopping
    monkeypatch.setattr(RunReporter, "stopping", lambda self: (noticed.append(time.monotonic()), report(self))[0])
    settings = SETTINGS | {"evaluate": False, "steps": 1000, "batch_size": 8, "micro_batch_size": None, "probe_budget": 0}
    for _ in range(2):
        steps = []
        run = lab.train("dpo", rows, folder, on_step=lambda step, scalars, steps=steps: steps.append(step), **settings)
        until(lambda steps=steps: steps, run=run, seconds=300)
        time.sleep(0.5)
        before = time.monotonic()
        run.stop()
        assert run.wait(120) == "stopped", run.error
        took.append(noticed[-1] - before)
    assert min(took) < 1.0, took


def test_a_stop_abandons_loading_the_model(rows, model_folder, monkeypatch):
    load, began, release = preparing.load_configured, [], threading.Event()

    def slow_load(*args):
        began.append(time.monotonic())
        assert not release.wait(60)
        return load(*args)

    monkeypatch.setattr(preparing, "load_configured", slow_load)
    run = lab.train("dpo", rows, model_folder("llama"), **SETTINGS)
    until(lambda: began, run=run)
    run.stop()
    assert run.wait(30) == "stopped"
    assert run.checkpoints() == []
    release.set()


def test_requests_within_the_process_need_no_disk(rows, model_folder):
    """The folder of requests cannot be created in this test."""
    reached = []

    def on_step(step, scalars):
        if step == 1:
            (run_dir := reached_run().dir).joinpath("requests").write_text("in the way")
            reached.append(run_dir)

    def reached_run():
        return next(iter(lab.runs()))

    run = lab.train("dpo", rows, model_folder("llama"), on_step=on_step, **SETTINGS | {"steps": 10_000, "evaluate": False})
    until(lambda: reached, run=run)
    run.pause()
    until(lambda: run.state == "paused", run=run)
    run.resume()
    run.set(learning_rate=5e-5)
    until(lambda: len(run.events("change")), run=run)
    run.stop()
    assert run.wait(60) == "stopped"
    requests = [detail["request"] for detail in StoreReader(run.dir).events.read("request")["detail"]]
    assert requests == ["pause", "resume", "set", "stop"]
    with pytest.raises(lab.RunError, match="is stopped"):
        run.stop()


def test_a_request_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "requests").write_text("in the way")
    with pytest.raises(lab.RunError, match="The request stop could not be written"):
        send(tmp_path, "stop")
    assert not pending(tmp_path, "stop")
    assert take(tmp_path) == []


def test_the_check_raises_only_in_the_training_thread_while_active(tmp_path):
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


def test_blocks_are_the_layers_of_a_model(model_folder):
    for kind in ("llama", "gpt2", "gpt_neox"):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder(kind))
        assert len(blocks(model)) == 2
