"""A real JupyterLab: figures of a run that trains are updated in place, and the notebook file keeps the last of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lab import home
from lab.run.handle import open_run
from tests.app.conftest import CHROMIUM, QUIET
from tests.helpers import until
from tests.notebooks.conftest import Jupyter

pytestmark = pytest.mark.browser

START, PATIENCE = 600.0, 300.0
"""Seconds to wait for the first page and for what must come: the machine may be busy."""

CELL = """index => {
  const cell = document.querySelectorAll(".jp-Notebook .jp-CodeCell")[index];
  const charts = [...cell.querySelectorAll(".js-plotly-plot")].filter((chart) => chart._fullData);
  return {prompt: cell.querySelector(".jp-InputPrompt").innerText,
          outputs: [...cell.querySelectorAll(".jp-OutputArea-output")]
            .filter((output) => output.dataset.mimeType !== "application/vnd.jupyter.stderr").length,
          line: [...cell.querySelectorAll(".jp-RenderedHTML")].map((line) => line.innerText).join("|"),
          charts: charts.map((chart) => {
            chart.mark ??= Math.random();
            return {mark: chart.mark, points: chart._fullData[0]?.x?.length ?? 0, range: [...(chart.layout.xaxis?.range ?? [])]};
          })};
}"""

PICTURES = """() => [...document.querySelectorAll(".jp-Notebook .jp-RenderedPlotly")].map((output) =>
  [...output.querySelectorAll(".plot-container, .plot-img[src]")].some((part) => part.getBoundingClientRect().height > 100))"""


@pytest.fixture
def page(jupyter: Jupyter) -> Iterator[Any]:
    """A page of a fresh browser. An error in its script, or a request that leaves this machine, fails the test."""
    if CHROMIUM is None:
        pytest.skip("No chromium is installed; `apt-get install chromium` (or chrome on the PATH) lets this test run.")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed.")
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened.set_default_timeout(1000 * PATIENCE)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        local = re.compile(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:")
        opened.on("request", lambda request: local.match(request.url) or complaints.append(f"request to {request.url}"))
        yield opened
        browser.close()
    assert complaints == []


def write(path: Path, *cells: str) -> None:
    """A notebook of some code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def start(page: Any, cell: int) -> None:
    """Run a cell. While the notebook is still connecting to its kernel, JupyterLab forgets what it was told to run."""

    def ran() -> bool:
        page.click(f".jp-Notebook .jp-CodeCell >> nth={cell} >> .cm-content")
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1500)
        return bool(page.evaluate(CELL, cell)["prompt"] != "[ ]:")

    page.wait_for_function("document.querySelector('#jp-main-statusbar').innerText.includes('Idle')")
    until(ran, PATIENCE)


def drag(page: Any, chart: int) -> None:
    """Zoom into the left half of a chart with the mouse."""
    box = page.locator(".jp-Notebook .nsewdrag").nth(chart).bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.1 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], middle, steps=4)
    page.mouse.up()


def test_figures_are_updated_in_place(
    jupyter: Jupyter, page: Any, rows: list[dict[str, str]], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    pairs, path = tmp_path / "pairs.jsonl", jupyter.folder / "live.ipynb"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = f'lab.train("dpo", {str(pairs)!r}, {str(model_folder("gpt2"))!r}, name="live", steps=100_000, batch_size=2)'
    write(
        path,
        f'import lab\nrun = {train}\nlab.watch(run, "loss", "margins", every=0.3)',
        'run.figure("margins")',
        'run.figure("loss").show()',
        'lab.compare([run]).figure("loss")',
    )
    page.goto(f"{jupyter.address}/lab/tree/live.ipynb", timeout=1000 * START)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell .cm-content", timeout=1000 * START)
    start(page, 0)

    def watched() -> dict[str, Any]:
        return page.evaluate(CELL, 0)

    def grown(points: int) -> Any:
        state = watched()
        assert state["outputs"] <= 3, state
        return len(state["charts"]) == 2 and all(chart["points"] > points for chart in state["charts"]) and state

    first = until(lambda: grown(3), START, lambda: str(watched()))
    marks = [chart["mark"] for chart in first["charts"]]
    drag(page, 0)
    zoomed = watched()["charts"][0]["range"]
    more = until(lambda: grown(first["charts"][0]["points"] + 10), PATIENCE, lambda: str(watched()))
    more = until(lambda: grown(more["charts"][0]["points"] + 10), PATIENCE, lambda: str(watched()))
    assert more["outputs"] == 3, "a figure each, and the line below them"
    assert "live: running" in more["line"]
    assert [chart["mark"] for chart in more["charts"]] == marks, "the same charts, not new ones"
    assert more["charts"][0]["range"] == zoomed != first["charts"][0]["range"], "a refresh must keep the zoom"

    run = open_run(next(home.runs_dir().iterdir()))
    run.stop()
    until(lambda: "stopped" in watched()["line"] and watched()["prompt"] == "[1]:", PATIENCE, lambda: str(watched()))
    last = watched()
    assert last["outputs"] == 3
    assert [chart["mark"] for chart in last["charts"]] == marks
    for cell in (1, 2, 3):
        start(page, cell)
        until(lambda cell=cell: len(page.evaluate(CELL, cell)["charts"]) == 1, PATIENCE, lambda: page.inner_text("body"))

    page.keyboard.press("Control+s")
    stored = until(lambda: stored_outputs(path), PATIENCE, path.read_text)
    assert [sorted(output) for output in stored[0]] == [["plotly", "text"], ["plotly", "text"], ["html", "text"]]
    values = len(run.scalars(["loss"]))
    for output, name in zip(stored[0], ("loss", "margins")):
        assert f"{values:,} values" in output["plotly"]["layout"]["title"]["text"], "the last figure is the one that is kept"
        assert output["text"] == f"Figure {name} of the run live"
    assert stored[0][2]["text"] == f"live: stopped, step {run.step:,} of 100,000"
    assert "script" not in stored[0][2]["html"]

    page.reload()
    page.wait_for_selector(".jp-Notebook .jp-CodeCell .cm-content")
    until(lambda: page.evaluate(PICTURES) == [True] * 5, PATIENCE, lambda: str(page.evaluate(PICTURES)))


def stored_outputs(path: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each cell of a notebook file, by kind, without warnings; nothing until the file is saved with all of them."""
    kinds = {"application/vnd.plotly.v1+json": "plotly", "text/html": "html", "text/plain": "text"}
    try:
        cells = nbformat.read(path, as_version=4).cells
    except nbformat.reader.NotJSONError:  # JupyterLab is writing the file: it is emptied first
        return []
    displayed = [[output.data for output in cell.outputs if output.output_type != "stream"] for cell in cells]
    if not all(displayed):
        return []
    return [[{kinds[kind]: part for kind, part in data.items() if kind in kinds} for data in cell] for cell in displayed]
