"""An executed notebook, read by the code of its cells: printed text, tables and figures."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

PLOTLY = "application/vnd.plotly.v1+json"


class Executed:
    """A notebook after all its cells have run, without errors.

    Args:
        path: The notebook's file, which is not changed.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            self.notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        )
        client.execute()

    def outputs(self, code: str) -> list[Any]:
        """The outputs of the one code cell that contains this code."""
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code" and code in cell.source]
        assert len(cells) == 1, f"{len(cells)} cells of {self.name} contain {code!r}"
        return cells[0].outputs

    def text(self, code: str) -> str:
        """What the cell prints and shows as plain text."""
        parts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in self.outputs(code)]
        return "\n".join(parts)

    def numbers(self, code: str, pattern: str) -> list[float]:
        """The groups of the first match of a pattern in what the cell prints, as numbers."""
        match = re.search(pattern, self.text(code))
        assert match, f"{pattern!r} does not occur in {self.text(code)!r}"
        return [float(group.replace(",", "").replace("−", "-")) for group in match.groups()]

    def table(self, code: str) -> list[list[str]]:
        """The body of the table that the cell shows, cell by cell, row labels included."""
        pages = [
            output.data["text/html"] for output in self.outputs(code) if "<tbody>" in output.get("data", {}).get("text/html", "")
        ]
        assert len(pages) == 1, f"{len(pages)} tables below {code!r}"
        body = pages[0].partition("<tbody>")[2]
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
        return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in rows]

    def columns(self, code: str) -> list[list[float]]:
        """The columns of that table without the row labels, as numbers; text is left out."""
        numeric = [[_number(cell) for cell in column] for column in list(zip(*self.table(code)))[1:]]
        return [column for column in numeric if None not in column]  # type: ignore[list-item]

    def figures(self) -> int:
        """How many figures the notebook shows."""
        return sum(PLOTLY in output.get("data", {}) for cell in self.notebook.cells for output in cell.get("outputs", []))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
