"""Where a run trains unless somebody decides."""

from __future__ import annotations

import json
import struct

import pytest

import lab
from lab.monitor import StoreWriter
from lab.training.config import TrainConfig
from lab.training.executing import LARGE_PARAMETERS, choose_place, count_parameters
from tests.training.test_preflight import FAST

LIMIT = 16 * 10**9


@pytest.fixture
def sized(tmp_path):
    """sized(n): a folder with a model file whose header names n parameters, and nothing behind it."""

    def folder(count):
        header = json.dumps(
            {"__metadata__": {"format": "pt"}, "weight": {"dtype": "F32", "shape": [count // 10, 10], "data_offsets": [0, 0]}}
        ).encode()
        path = tmp_path / str(count)
        path.mkdir()
        (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        return str(path)

    return folder


def place(model, limit=LIMIT, only_here=None, **settings):
    return choose_place(TrainConfig.parse(objective="dpo", model=model, **settings), limit=limit, only_here=only_here)


def test_small_models_train_here_and_large_ones_in_a_process(sized):
    small, large = sized(1_000_000), sized(LARGE_PARAMETERS + 10)
    assert count_parameters(small) == 1_000_000
    assert [place(model).executor for model in ("world", small, large)] == ["thread", "thread", "process"]
    assert "1 million parameters and takes 16 MB without activations" in place(small).why
    assert "above 100 million it is large" in place(large).why
    assert place(small, limit=150_000_000).executor == "process"  # more than a tenth of the memory
    assert place(small, limit=150_000_000, lora_rank=8).executor == "thread"
    assert place("somebody/model").executor == "process"
    assert place(large, only_here="on_step").executor == "thread"


def test_what_is_known_here_alone_trains_here(sized, model_folder, rows, monkeypatch):
    started = []

    def start_process(folder, **_):
        StoreWriter(folder).close()
        started.append(folder)

    monkeypatch.setattr("lab.api.start_process", start_process)
    monkeypatch.setattr("lab.training.executing.LARGE_PARAMETERS", 10)
    run = lab.train("dpo", rows, model_folder("llama"), background=False, on_step=lambda step, scalars: None, **FAST)
    assert (run.state, started) == ("finished", [])

    @lab.register
    class Own(lab.OBJECTIVES["dpo"]):
        name = "known_here"

    try:
        assert lab.train("known_here", rows, model_folder("llama"), background=False, **FAST).state == "finished"
    finally:
        del lab.OBJECTIVES["known_here"]
    assert started == []
    lab.train("dpo", rows, model_folder("llama"), **FAST)
    assert len(started) == 1
    lab.train("dpo", rows, model_folder("llama"), executor="thread", background=False, **FAST)
    assert len(started) == 1
