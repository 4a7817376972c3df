"""The form that starts twins offers what twins can have."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import lab


def page() -> None:
    import lab
    from app.widgets import twins_form

    twins_form.form(lab.runs(), [])


@pytest.mark.extended
def test_branches_are_not_asked_for_a_seed(model_folder: Any, rows: Any) -> None:
    quick: dict[str, Any] = {"steps": 2, "batch_size": 4, "evaluate": False, "device": "cpu"}
    parent = lab.train("ipo", rows, model_folder("llama"), background=False, **quick)
    lab.train("dpo", branch_from=parent, background=False, steps=3)
    app = AppTest.from_function(page, default_timeout=120).run()

    def asked(way: str, run: str) -> set[str]:
        app.radio(key="twins.way").set_value(way).run()
        app.selectbox(key="twins.run").select(run).run()
        assert not app.exception
        keys = {str(widget.key).rsplit(".", 1)[-1] for widget in app.number_input}
        return keys & {"steps", "seed"}

    branch = next(run.dir.name for run in lab.runs() if "branch" in run.manifest)
    assert asked("like", parent.dir.name) == {"steps", "seed"}
    assert asked("branch", parent.dir.name) == {"steps"}
    assert asked("like", branch) == {"steps"}


def test_twins_train_where_their_model_is_to_unless_told(monkeypatch: Any, model_folder: Any, rows: Any) -> None:
    """A large model trains in a process of its own from Compare, too."""
    started: list[Any] = []
    monkeypatch.setattr(
        "app.widgets.twins_form.start", lambda objectives, progress, **given: started.append(given["executor"]) or []
    )
    monkeypatch.setattr("app.widgets.twins_form.leave_for", lambda page, address: True)
    for executor in ("auto", "process"):
        app = AppTest.from_function(page, default_timeout=120).run()
        app.radio(key="twins.executor").set_value(executor).run()
        next(button for button in app.button if button.label == "Start the twins").click().run()
    assert started == ["auto", "process"]


def test_what_is_entered_is_kept_as_long_as_the_form_says(monkeypatch: Any) -> None:
    """Every widget of a field, its second one (fit to memory) too."""
    from app.widgets import forms
    from lab.run.config import TrainConfig

    kept: list[str] = []

    class Container:
        def __getattr__(self, kind: str) -> Any:
            return lambda *args, value=None, persist_state="none", **rest: (kept.append(persist_state), value)[1]

        session_state: dict[str, Any] = {}

    monkeypatch.setattr(forms, "st", Container())
    for keep in ("session", "page"):
        kept.clear()
        for name in ("micro_batch_size", "steps", "evaluate", "learning_rate"):
            field = TrainConfig.model_fields[name]
            forms.widget(name, field, field.default, f"setting.{name}", keep=keep)  # type: ignore[arg-type]
        assert kept == [keep] * 5
