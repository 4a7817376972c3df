"""The code and the commands of the README and the guide work."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import lab
import lab.world
from app.views.guide.chapters import FOLDER
from lab.cli import main, parser
from tests.helpers import open_tiny_worlds, quick_first

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


@pytest.mark.parametrize(
    "name", quick_first("README.md", "library.md", *sorted(BLOCKS.keys() - {"README.md", "library.md"}), quick=2)
)
def test_the_code_runs(name: str, lab_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with fewer steps and on the small edition of the embedded world."""
    searched = any("suspects(" in block for block in BLOCKS[name])  # refused where too few labels tell whether any can be predicted
    open_tiny_worlds(monkeypatch, **{"pairs": 500} if searched else {})
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


def commands_of(name: str) -> list[str]:
    """The commands of a file in their order, without comments."""
    return [line.split("#")[0].strip() for line in re.findall(r"^ {4}(python -m lab .*)$", FILES[name], re.M)]


NOT_RUN = ("--detach", "lab bench", "--pause")
"""A process that would outlive the test, a measurement, and a pause of a run that has ended."""

SMALL = ["--steps", "4", "--batch-size", "2", "--evaluate", "false", "--device", "cpu", "--save-every", "2"]

EXPERIMENT = """
objectives: [dpo, sgdpo]
seeds: 1
pairs: mine.jsonl
model: path/to/model
steps: 4
batch_size: 2
evaluate: false
device: cpu
"""


@pytest.mark.extended
def test_the_commands_of_readme_and_guide_run(
    rows: list[dict[str, str]], model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, as they stand but for a small model and few steps; RUN is the README's first run."""
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:12]), encoding="utf-8")
    Path("rates.yaml").write_text(EXPERIMENT, encoding="utf-8")
    Path("path/to").mkdir(parents=True)
    Path("path/to/model").symlink_to(model_folder("llama"))
    run = []
    for number, command in enumerate([*commands_of("README.md"), *commands_of("command-line.md"), *commands_of("pairs.md")]):
        if any(part in command for part in NOT_RUN):
            continue
        arguments = shlex.split(command.replace("RUN", "first").replace(" out/", f" out-{number}/"))[3:]
        if arguments[0] == "train" and "--resume" not in arguments:
            kept = [part for i, part in enumerate(arguments) if "--steps" not in arguments[max(i - 1, 0) : i + 1]]
            small = SMALL if "--branch" not in kept else ["--steps", "6"]
            start = [] if "--model" in kept or "--branch" in kept else ["--pairs", "mine.jsonl", "--model", "path/to/model"]
            if "runs/first" in kept and Path("runs/first").exists():
                kept[kept.index("runs/first")] = f"runs/{number}"
            arguments = [*kept, *small, *start]
        assert main(arguments) == 0, (command, arguments)
        run.append(command)
    assert len(run) > 15
