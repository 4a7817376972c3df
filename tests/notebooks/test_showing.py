"""How runs and errors of the lab look in a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import lab
from lab.run.handle import Run


def test_runs_are_tables(store_run: Callable[..., Run]) -> None:
    assert lab.runs()._repr_html_() == "<div>There are no runs yet.</div>"
    run, failed = store_run("one", steps=30), store_run("two", state="failed", error="The <disk> is full.")
    assert repr(run) == "<Run one: finished, step 30 of 30, sgdpo>"
    html = lab.runs()._repr_html_()
    assert html.count("<tr>") == 3
    for part in ("<td>finished</td>", "<td>30 of 30</td>", "<td>sgdpo</td>", "<td>failed</td>"):
        assert part in html
    assert "The &lt;disk&gt; is full." in failed._repr_html_()


def test_names_are_inert_and_a_damaged_run_keeps_its_row(store_run: Callable[..., Run]) -> None:
    run, other = store_run("one"), store_run("two")
    manifest = json.loads((run.dir / "run.json").read_text())
    manifest["config"]["name"] = "<img src=x>"
    (run.dir / "run.json").write_text(json.dumps(manifest))
    assert "<img" not in run._repr_html_()
    shown = lab.runs()
    (other.dir / "run.json").write_text("{")
    assert "cannot be read" in shown._repr_html_()


@pytest.mark.parametrize(
    "call", ["lab.open_run('nothing')", "lab.open_pairs('nothing.jsonl')", "lab.open_run('one').figure('lost')"]
)
def test_an_error_of_the_lab_is_one_sentence(
    call: str, store_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store_run("one")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell, lines = InteractiveShell(), []
    monkeypatch.setattr(shell, "_showtraceback", lambda kind, value, tb: lines.extend(tb))
    shell.run_cell(f"import lab\nx = 1\n{call}")
    assert lines[0] == f"line 3: {call}"
    assert len(lines) == 2
    assert "Error: " in lines[1]
    assert lines[1].endswith((".", "?"))
