"""The form that starts twins offers what twins can have."""

from __future__ import annotations

from typing import Any

from streamlit.testing.v1 import AppTest

import lab


def page() -> None:
    import lab
    from app import twins

    twins.form(lab.runs(), [])


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

    branch = next(run.dir.name for run in lab.runs() if "branch" in run.about)
    assert asked("like", parent.dir.name) == {"steps", "seed"}
    assert asked("branch", parent.dir.name) == {"steps"}
    assert asked("like", branch) == {"steps"}
