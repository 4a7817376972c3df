"""The check on the New run page: a report beside the form, found while the form stays in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import lab

APP = Path(__file__).parents[2] / "app"


def press(at: AppTest, label: str) -> AppTest:
    return next(button for button in at.button if button.label == label).click().run()


def message(at: AppTest) -> str:
    elements = [*at.success, *at.warning, *at.info, *at.error, *at.caption, *at.text]
    return "\n".join(element.value for element in elements).replace("\\", "")


def finished(at: AppTest) -> AppTest:
    """The page once the check has come to an end."""
    assert at.session_state["check"][1].done.wait(60)
    return at.run()


@pytest.fixture
def page(model_folder: Callable[[str], Path], rows: list[dict[str, str]], tmp_path: Path) -> AppTest:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    at = AppTest.from_file(APP / "views" / "new_run" / "new_run.py", default_timeout=60).run()
    at.selectbox(key="pairs").select("other")
    at.selectbox(key="model").select("other").run()
    at.text_input(key="pairs.path").set_value(str(file))
    return at.text_input(key="model.path").set_value(str(model_folder("llama"))).run()


def test_the_report_stands_on_the_page_and_no_run_is_made(page: AppTest) -> None:
    at = finished(press(page, "Check"))
    assert not at.exception
    assert "It fits: about" in message(at)
    assert "epochs" in message(at)
    assert any(code.value.startswith("pairs    44 (6 held out)") for code in at.code)
    assert "have changed" not in message(at)
    assert lab.runs() == []
    assert not next(button for button in at.button if button.label == "Start the run").disabled


@pytest.mark.extended
def test_another_form_makes_the_report_an_old_one(page: AppTest) -> None:
    at = finished(press(page, "Check"))
    at.text_input(key="setting.name").set_value("a name changes nothing").run()
    assert "have changed" not in message(at)
    at.number_input(key="setting.max_length").set_value(24).run()
    assert "The settings have changed since this check." in message(at)
    at = finished(press(at, "Check"))
    assert "44 pairs have an answer longer than 16 tokens (of 24, " in message(at)
    assert "have changed" not in message(at)


def test_a_check_that_fails_says_why(page: AppTest, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "p", "chosen": "same", "rejected": "same"}')
    at = finished(press(page, "Check"))
    assert "The check failed" in message(at)
    assert "line 1: chosen and rejected are identical" in message(at)
    assert not at.exception


def test_without_a_configuration_there_is_nothing_to_check(page: AppTest) -> None:
    at = page.number_input(key="setting.steps").set_value(0).run()
    assert next(button for button in at.button if button.label == "Check").disabled


def test_too_little_memory_is_a_warning(model_folder: Callable[[str], Path], rows: list[dict[str, str]]) -> None:
    report = lab.preflight("dpo", rows, model_folder("llama"), steps=1, device="cpu")
    short = report.model_copy(update={"advice": "Training needs about 9 GB: set micro_batch_size to 1."})

    def page(report):
        from app.views.new_run import check

        check.show(report)

    at = AppTest.from_function(page, kwargs={"report": short}, default_timeout=60).run()
    assert not at.exception
    assert "set micro_batch_size to 1" in at.error[0].value.replace("\\", "")
    assert not at.success
