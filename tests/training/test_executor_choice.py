"""The choice of a thread or a process with executor="auto"."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

import lab
from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.setup.executor_choice import LARGE_PARAMETERS, choose_executor, count_parameters
from tests.training.test_preflight import FAST

LIMIT = 16 * 10**9


@pytest.fixture
def sized(tmp_path):
    """Return a function sized(n): a folder with a model file whose header lists n parameters, without their data."""

    def folder(count, name="model.safetensors", **manifest):
        header = json.dumps(
            {"__metadata__": {"format": "pt"}, "weight": {"dtype": "F32", "shape": [count // 10, 10], "data_offsets": [0, 0]}}
        ).encode()
        path = tmp_path / str(count)
        path.mkdir()
        (path / name).write_bytes(struct.pack("<Q", len(header)) + header)
        for file, content in manifest.items():
            (path / f"{file}.json").write_text(json.dumps(content))
        return str(path)

    return folder


def choice(model, limit=LIMIT, only_here=None, **settings):
    return choose_executor(TrainConfig.parse(objective="dpo", model=model, **settings), limit=limit, only_here=only_here)


def test_small_models_train_in_a_thread_and_large_ones_in_a_process(sized):
    small, large = sized(1_000_000), sized(LARGE_PARAMETERS + 10)
    assert count_parameters(small) == 1_000_000
    assert [choice(model).executor for model in ("world", small, large)] == ["thread", "thread", "process"]
    assert "1 million parameters and takes 16 MB without activations" in choice(small).reason
    assert "above 100 million it is large" in choice(large).reason
    assert choice(small, limit=150_000_000).executor == "process"  # more than a tenth of the memory
    assert choice(small, limit=150_000_000, lora_rank=8).executor == "thread"
    assert choice("somebody/model").executor == "process"
    assert choice(large, only_here="on_step").executor == "thread"


def test_an_adapter_counts_with_its_base_model(sized):
    base = sized(7_000_000_000)
    adapter = sized(1_000_000, "adapter_model.safetensors", adapter_config={"base_model_name_or_path": base})
    on_adapter = sized(500_000, "adapter_model.safetensors", adapter_config={"base_model_name_or_path": adapter})
    assert [count_parameters(model) for model in (adapter, on_adapter)] == [7_001_000_000, 7_001_500_000]
    assert "the model has 7 billion parameters" in choice(adapter).reason
    elsewhere = sized(2_000, "adapter_model.safetensors", adapter_config={"base_model_name_or_path": "owner/base"})
    assert count_parameters(elsewhere) is None
    assert choice(elsewhere).executor == "process"


def test_optimizer_tensors_are_not_counted(sized):
    """A checkpoint also contains the optimizer's tensors."""
    folder = sized(1_000_000)
    trainer = Path(sized(2_000_000)) / "model.safetensors"
    trainer.rename(Path(folder) / "trainer.safetensors")
    assert count_parameters(folder) == 1_000_000


def test_the_parameters_of_a_gguf_file_are_counted_from_its_header(tmp_path):
    text = lambda value: struct.pack("<Q", len(value)) + value.encode()  # noqa: E731
    tokens = ["a", "the", "token"]
    metadata = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, 2),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(text, tokens)),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
    ]
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4096, 30_000, 2, 0),
        text("norm.weight") + struct.pack("<IQIQ", 1, 4096, 0, 64),
    ]
    file = tmp_path / "model-q4.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + b"".join([*metadata, *tensors]) + bytes(100))
    assert count_parameters(str(file)) == count_parameters(str(tmp_path)) == 4096 * 30_001
    assert choice(str(file)).executor == "process"
    file.write_bytes(file.read_bytes()[:150])
    assert count_parameters(str(file)) is None


def test_on_step_and_registered_objectives_require_a_thread(sized, model_folder, rows, monkeypatch):
    started = []

    def start_process(folder, **_):
        StoreWriter(folder).close()
        started.append(folder)

    monkeypatch.setattr("lab.starting.start_process", start_process)
    monkeypatch.setattr("lab.training.setup.executor_choice.LARGE_PARAMETERS", 10)
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
