"""Fields of real objectives for tests and measurements, and a page that shows nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from app.widgets.landscape_view import FieldPicture
from lab.glossary import FIELD_QUANTITIES
from lab.teaching.field_arrays import FieldArrays

ROOT = Path(__file__).parents[2]
NAMES = ("dpo", "sgdpo", "alpha_dpo")

SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import streamlit as st
from app.widgets.landscape_view import show_fields
from tests.app.fields import load

st.set_page_config(layout="wide")
query, state = st.query_params, st.session_state
state.setdefault("place", ((1.0, -2.0), "loss"))
if st.button("Move to (2, -3)"):
    state["place"] = ((2.0, -3.0), "ratio")
pictures = load({arrays!r})[: int(query.get("count", 3))]
point, quantity = state["place"]
large, dark = query.get("large") == "1", query.get("dark") == "1"
state["place"] = show_fields(pictures, point=point, quantity=quantity, key="fields", large=large, dark=dark)
time.sleep(float(query.get("slow", 0)))
(x, y), quantity = state["place"]
st.text(f"Python: {{x:.2f}}, {{y:.2f}}, {{quantity}}")
"""


def computed(names: Sequence[str] = NAMES) -> list[FieldPicture]:
    """Pictures of these objectives over a plane with unattainable points, computed by the library."""
    from lab.objectives import make_objective
    from lab.teaching import Plane, field_arrays

    plane = Plane((-10, 18), (-10, 18))  # beyond 16 a token's probability would be above 1
    return [FieldPicture(name, field_arrays(make_objective(name), plane)) for name in names]


def plain(title: str = "Saddle", *, points: int = 5, shift: float = 0.0) -> FieldPicture:
    """A small picture whose loss is a plane, so that interpolation is exact; without torch."""
    axis = np.linspace(-2.0, 2.0, points)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    layers = {"loss": 3 + shift - x + 0.5 * y, "d_log_x1": 0 * x - 1, "d_log_x2": 0 * x + 0.5, "log_space_ratio": 0 * x + 2}
    layers["ratio"] = 2 * np.exp(y - x)
    layers = {name: values.astype(np.float32) for name, values in layers.items()}
    return FieldPicture(title, FieldArrays(axis, axis, layers, x + 0.1, y - 0.05, x < 1.5, 0.1))


def save(pictures: Sequence[FieldPicture], path: Path) -> None:
    """Write pictures to a file that `load` reads."""
    parts: dict[str, np.ndarray] = {"titles": np.array([picture.title for picture in pictures])}
    for k, picture in enumerate(pictures):
        a = picture.arrays
        own = {"x": a.log_x1, "y": a.log_x2, "nx": a.next_log_x1, "ny": a.next_log_x2, "in": a.attainable, "rate": np.array(a.rate)}
        parts |= {f"{k}/{name}": values for name, values in (own | {f"q/{q}": v for q, v in a.layers.items()}).items()}
    np.savez(path, allow_pickle=False, **parts)


def load(path: str) -> list[FieldPicture]:
    """Read pictures that `save` wrote."""
    stored = np.load(path)
    pictures = []
    for k, title in enumerate(stored["titles"]):
        x, y, nx, ny, attainable, rate = (stored[f"{k}/{name}"] for name in ("x", "y", "nx", "ny", "in", "rate"))
        layers = {q: stored[f"{k}/q/{q}"] for q in FIELD_QUANTITIES}
        pictures.append(FieldPicture(str(title), FieldArrays(x, y, layers, nx, ny, attainable, float(rate))))
    return pictures


@contextmanager
def served(folder: Path, pictures: Sequence[FieldPicture]) -> Iterator[str]:
    """The address of a page with these pictures, which says what Python knows of point and quantity."""
    from tests.app.conftest import _answers  # loads torch, which the page does without
    from tests.helpers import free_port, until

    arrays, script, log, port = folder / "arrays.npz", folder / "fields_page.py", folder / "log.txt", free_port()
    save(pictures, arrays)
    script.write_text(SCRIPT.format(root=str(ROOT), arrays=str(arrays)))
    shutil.copytree(ROOT / "app" / ".streamlit", folder / ".streamlit")
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=out)
    try:
        until(lambda: _answers(port), 240, log.read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
    assert "Traceback" not in log.read_text(), log.read_text()


def interpolated(picture: FieldPicture, name: str, x: float, y: float) -> float:
    """A layer between the points of the grid: bilinear, for ratios of the logarithm."""
    a = picture.arrays
    steps = [(value - axis[0]) / (axis[1] - axis[0]) for value, axis in ((x, a.log_x1), (y, a.log_x2))]
    i, j = (min(int(step), len(axis) - 2) for step, axis in zip(steps, (a.log_x1, a.log_x2)))
    u, v = steps[0] - i, steps[1] - j
    values = {"next_log_x1": a.next_log_x1, "next_log_x2": a.next_log_x2}.get(name, a.layers.get(name))
    cell = np.asarray(values, np.float64)[i : i + 2, j : j + 2]
    cell = np.log10(cell) if name.endswith("ratio") else cell
    value = float(np.array([1 - u, u]) @ cell @ np.array([1 - v, v]))
    return 10**value if name.endswith("ratio") else value
