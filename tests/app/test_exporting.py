"""Exporting from the Live page."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.views.live import export_form
from tests.app.test_live import opened, unescaped


@pytest.fixture
def run(rows, model_folder):
    found = lab.train(
        "dpo", rows, model_folder("llama"), steps=2, batch_size=4, lora_rank=2, device="cpu", background=False, eval_tokens=8
    )
    yield found
    export_form.JOBS.clear()


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    if (job := next(iter(export_form.JOBS.values()), None)) is not None:
        assert job.done.wait(60)
        app.run()
    assert not app.exception
    return app


def field(app: AppTest, kind: str, label: str):
    return next(widget for widget in getattr(app, kind) if widget.label == label)


def test_a_run_is_exported_to_a_folder(run, tmp_path) -> None:
    app = opened(panel="Export")
    assert field(app, "selectbox", "What").options == ["adapter", "merged"]
    field(app, "selectbox", "What").select("merged")
    field(app, "selectbox", "Weights").select("bfloat16")
    field(app, "text_input", "Folder on this machine").input(str(tmp_path / "out"))
    field(app, "checkbox", "Also the pairs and a script that does the same training in TRL").check()
    press(app, "Export the model")
    assert "The model was written" in app.success[0].value
    assert app.code[-1].value == str(tmp_path / "out")
    assert {"README.md", "model.safetensors", "train_trl.py", "pairs.jsonl"} <= {p.name for p in (tmp_path / "out").iterdir()}
    again = press(app, "Export again")
    assert field(again, "selectbox", "What").value


def test_a_refusal_is_a_sentence_on_the_page(run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    app = opened(panel="Export")
    field(app, "text_input", "Folder on this machine").input(str(tmp_path))
    press(app, "Export the model")
    assert "is not empty" in unescaped(app.error[0].value)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_run_without_a_checkpoint_has_nothing_to_export(store_run) -> None:
    store_run("one", state="finished")
    assert not [button for button in opened().button if "Export" in button.label]
