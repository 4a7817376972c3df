"""A user's own objective, in the lines that the guide shows: registered, trained with, listed, drawn - without touching the lab."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lab
from lab import extensions
from lab.objectives import field

GUIDE = (Path(__file__).parents[1] / "app" / "guide" / "objectives.md").read_text(encoding="utf-8")
CODE = next(block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "@lab.register" in block)
DEFINITION = CODE


@pytest.fixture
def registered():
    before = dict(lab.OBJECTIVES)
    exec(compile(DEFINITION, "objectives.md", "exec"), {"__name__": "notebook"})
    yield lab.OBJECTIVES["margin_dpo"]
    lab.OBJECTIVES.clear()
    lab.OBJECTIVES.update(before)


def test_it_is_about_fifteen_lines():
    body = DEFINITION[DEFINITION.index("@lab.register") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_it_trains_like_any_other(registered, rows, model_folder):
    run = lab.train("margin_dpo", rows, model_folder("llama"), background=False, steps=4, batch_size=4, device="cpu", eval_tokens=8)
    assert run.state == "finished", run.error
    assert run.scalars(["loss"])["loss"].iloc[0] == pytest.approx(0.974077, abs=1e-5)  # softplus(0.5)
    assert "weight_chosen" in run.pairs().columns


def test_it_has_a_field_and_refuses_what_it_does_not_know(registered):
    data = field(registered(), torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3))
    assert torch.allclose(data.log_space_ratio, torch.ones(3, 3, dtype=torch.float64))
    with pytest.raises(lab.ConfigError, match="no parameter 'gamma'"):
        lab.TrainConfig.parse(objective={"name": "margin_dpo", "gamma": 1})


def test_a_file_in_the_home_is_known_to_other_processes(lab_home):
    folder = lab_home / "objectives"
    folder.mkdir(parents=True)
    (folder / "margin.py").write_text(DEFINITION, encoding="utf-8")
    (folder / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    code = "import lab; print('margin_dpo' in lab.OBJECTIVES)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
    assert "broken.py was not loaded: ZeroDivisionError" in found.stderr


def test_a_file_with_postponed_annotations_is_loaded(lab_home):
    folder = lab_home / "objectives"
    folder.mkdir(parents=True)
    lines = DEFINITION.replace(
        "margin: float", 'side: Literal["chosen", "both"] = lab.parameter("both", "Side.")\n    margin: float'
    )
    code = "from __future__ import annotations\nfrom typing import Literal\n" + lines.replace("margin_dpo", "postponed")
    (folder / "postponed.py").write_text(code, encoding="utf-8")
    try:
        assert extensions.load() == []
        assert lab.OBJECTIVES["postponed"](side="chosen").spec()["side"] == "chosen"
        (folder / "unfinished.py").write_text("raise SystemExit\n", encoding="utf-8")
        (complaint,) = extensions.load()
        assert "unfinished.py" in complaint
        assert f"{extensions.PREFIX}unfinished" not in sys.modules
    finally:
        lab.OBJECTIVES.pop("postponed", None)
        sys.modules.pop(f"{extensions.PREFIX}postponed", None)


ODD_FILES = {
    "syntax.py": ("def (", "SyntaxError"),
    "null.py": ("x = 1\0", "SyntaxError"),
    "latin.py": (b"name = '\xe9'", "SyntaxError"),
    "exit.py": ("import sys; sys.exit(3)", "SystemExit"),
    "panic.py": ("raise BaseException('of a library in Rust')", "BaseException"),
    "deep.py": ("def f(): f()\nf()", "RecursionError"),
    "other.py": ("import a_module_that_is_missing", "ModuleNotFoundError"),
    "no_objective.py": ("import lab\n@lab.register\nclass Mine: pass", "'Mine' cannot be registered"),
    "first.py": ('import lab\n@lab.register\nclass Mine(lab.Objective):\n    name = "odd"', None),
    "second.py": ('import lab\n@lab.register\nclass Mine(lab.Objective):\n    name = "odd"', "name of the objective in .*first.py"),
    "a name with spaces.py": ("", None),
    "json.py": ("x = 1", None),
    ".hidden.py": ("1 / 0", None),
}


def test_files_of_any_shape_end_nothing_but_themselves(lab_home):
    folder = lab_home / "objectives"
    (folder / "folder.py").mkdir(parents=True)
    for name, (code, _) in ODD_FILES.items():
        (folder / name).write_bytes(code if isinstance(code, bytes) else code.encode())
    (folder / ".#first.py").symlink_to("somebody@elsewhere:1")  # while Emacs edits a file
    (folder / "dangling.py").symlink_to(folder / "missing.py")
    (folder / "circle.py").symlink_to(folder / "circle.py")
    try:
        complaints = {complaint.partition(" was not loaded")[0]: complaint for complaint in extensions.load()}
        expected = {str(folder / name): reason for name, (_, reason) in ODD_FILES.items() if reason}
        assert complaints.keys() - {str(folder / "folder.py")} == expected.keys()
        for path, reason in expected.items():
            assert re.search(reason, complaints[path]), path
        assert lab.OBJECTIVES["odd"].__module__ == f"{extensions.PREFIX}first"
        (folder / "first.py").rename(folder / "third.py")
        assert not any("third.py" in complaint for complaint in extensions.load())  # the name is free again
    finally:
        lab.OBJECTIVES.pop("odd", None)
        for name in [name for name in sys.modules if name.startswith(extensions.PREFIX)]:
            del sys.modules[name]


def test_an_unknown_objective_is_named_by_the_registry_too():
    with pytest.raises(KeyError, match=r"no objective 'sgdop'.*Did you mean 'sgdpo'\?"):
        lab.OBJECTIVES["sgdop"]
    assert lab.OBJECTIVES.get("sgdop") is None


def test_a_run_of_an_objective_that_is_gone_can_still_be_read(registered, rows, model_folder):
    run = lab.train("margin_dpo", rows, model_folder("llama"), background=False, steps=2, batch_size=4, device="cpu", eval_tokens=8)
    del lab.OBJECTIVES["margin_dpo"]
    again = lab.open_run(run.dir)
    assert again.state == "finished"
    assert len(again.scalars(["loss"])) == 2
    assert extensions.load() == []


def test_it_is_on_the_form_and_on_the_learn_page_without_touching_the_lab(lab_home):
    from streamlit.testing.v1 import AppTest

    folder = lab_home / "objectives"
    folder.mkdir(parents=True)
    (folder / "page_margin.py").write_text(DEFINITION.replace('"margin_dpo"', '"page_margin"'), encoding="utf-8")
    try:
        at = AppTest.from_file(Path(__file__).parents[1] / "app" / "main.py", default_timeout=60).run()
        for page in ("views/learn/learn.py", "views/new_run/new_run.py"):
            at = at.switch_page(page).run()
            assert not at.exception
            assert any("page_margin" in str(option) for box in at.selectbox for option in box.options), page
    finally:
        lab.OBJECTIVES.pop("page_margin", None)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("name = 'a/b'", "give a name of letters"),
        ("name = 'dpo'", "name of a built-in objective"),
        ("name = 'mine'\n    beta: float", "has no default"),
        ("name = 'mine'\n    beta: list[float] = [1.0]", "use a number"),
    ],
)
def test_what_no_form_can_show_is_refused_at_once(body, sentence):
    with pytest.raises(ValueError, match=sentence):
        exec(f"import lab\n@lab.register\nclass Mine(lab.Objective):\n    {body}\n", {"__name__": "notebook"})
