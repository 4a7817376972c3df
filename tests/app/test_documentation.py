"""The code and the commands of the README and the guide work."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path

import pytest

import lab
import lab.world
from app.views.guide.chapters import FOLDER
from lab.cli import parser

ROOT = Path(__file__).parents[2]
FILES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(FOLDER.glob("*.md")))}
BLOCKS = {name: blocks for name, text in FILES.items() if (blocks := re.findall(r"```python\n(.*?)```", text, re.S))}
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for text in FILES.values()
        for line in [*re.findall(r"^ {4}(python -m lab .*)$", text, re.M), *re.findall(r"`(python -m lab [^`]*)`", text)]
        if "..." not in line
    }
)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_code_runs(name: str, lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with fewer steps and on the small edition of the embedded world."""
    monkeypatch.setattr(lab.world, "ensure", partial(lab.world.ensure, lab.world.WorldSpec.tiny()))
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: None)
    monkeypatch.chdir(tmp_path)
    objectives = dict(lab.OBJECTIVES)
    try:
        for block in BLOCKS[name]:
            small = re.sub(r"steps=\d+", "steps=4, eval_prompts=4", block)
            exec(compile(small, name, "exec"), {"__name__": "documentation"})
    finally:
        lab.OBJECTIVES.clear()
        lab.OBJECTIVES.update(objectives)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_understood(command: str) -> None:
    arguments = shlex.split(command.replace(" N", " 3"))[3:]
    parser(arguments[0]).parse_args(arguments)
