"""Every notebook runs from top to bottom, as a reader would run it, shows the numbers that it promises, and re-types no formula."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import lessons_02_to_04, lessons_05_06_09, lessons_07_08_10
from tests.notebooks.executed import Executed

pytestmark = pytest.mark.extended

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CHECKS = {**lessons_02_to_04.CHECKS, **lessons_05_06_09.CHECKS, **lessons_07_08_10.CHECKS}
"""What is checked in the outputs of an executed notebook, by its name."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, lab_home, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = Executed(path)
    assert notebook.figures() > 0
    if path.stem in CHECKS:
        CHECKS[path.stem](notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs_and_formulas(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert not re.search(r"sigmoid|softplus|logsigmoid|log_softmax", cell.source)


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[:2] != "01"], ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path):
    cells = nbformat.read(path, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert re.search(r"^\| symbol \|", texts[0], re.M), "the notation comes first"
    sections = [text for text in texts if re.search(r"^## \d", text, re.M)]
    takeaways = sum(text.count("**Takeaway. ") for text in texts)
    assert takeaways >= len(sections) > 2
    exercises = [cell.source for cell in cells if cell.cell_type == "code" and "check(" in cell.source]
    assert 2 <= len(exercises) <= 4
    assert all("answer = None" in source for source in exercises), "answers are left to the reader"
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 20, "cells are short"
