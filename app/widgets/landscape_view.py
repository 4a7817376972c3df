"""Fields of up to three objectives over the plane of both log-ratios, with one point that is moved by mouse, touch or keyboard.

The picture answers in the browser: arrays of the library are sent once per change, and values between their points are
interpolated there (`landscape_view.js`). The browser reports the point and the quantity; Python sends a point only to move it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import streamlit as st

from lab.glossary import FIELD_QUANTITIES, PUSHES
from lab.plots.landscapes.colours import colour_range, colour_stops, is_logarithmic
from lab.plots.style import palette
from lab.teaching.field_arrays import FieldArrays

Point = tuple[float, float]

MOST = 3
"""Most fields next to each other."""

DIGITS = 2
"""Decimals to which the browser rounds a coordinate of the point, in nats."""

QUANTITIES = {
    "loss": "Loss",
    "d_log_x1": "Derivative, chosen side",
    "d_log_x2": "Derivative, rejected side",
    "log_space_ratio": "Ratio of the pushes",
    "ratio": "Ratio of increase to decrease",
}
"""Labels of the quantities in the order in which they are offered."""

SCRIPTS = ("landscape_drawing.js", "landscape_view.js")
"""Files that make up the script of the view, in this order."""

HTML = """
<div class="lab-fields" role="group" aria-label="Fields of the losses">
  <div class="controls">
    <div class="quantities" role="radiogroup" aria-label="Quantity shown as colours"></div>
    <div class="descent" role="group" aria-label="Gradient descent from the point">
      <button type="button" data-do="back" aria-label="Step back">Step back</button>
      <button type="button" data-do="step" aria-label="Step">Step</button>
      <button type="button" data-do="play" aria-label="Play">Play</button>
      <button type="button" data-do="reset" aria-label="Reset the descent">Reset</button>
      <output class="count"></output>
    </div>
  </div>
  <div class="cards"></div>
  <p class="legend"></p>
  <div class="spoken" aria-live="polite"></div>
</div>
"""

CSS = """
.lab-fields {color: var(--st-text-color); font-size: 0.875rem; line-height: 1.35;}
.lab-fields.large {font-size: 1rem;}
.lab-fields .controls {display: flex; flex-wrap: wrap; gap: 0.5rem 1.25rem; align-items: center; margin-bottom: 0.6rem;}
.lab-fields .quantities, .lab-fields .descent {display: flex; flex-wrap: wrap; gap: 0.35rem; align-items: center;}
.lab-fields button, .lab-fields .quantities label {font: inherit; color: inherit; background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); padding: 0.2em 0.65em; cursor: pointer;}
.lab-fields button {min-width: 4.2em;}
.lab-fields button:hover, .lab-fields .quantities label:hover {border-color: var(--st-primary-color);}
.lab-fields .quantities label {position: relative;}
.lab-fields .quantities input {position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer;}
.lab-fields .quantities label:has(:checked) {background: var(--st-primary-color); border-color: var(--st-primary-color);
  color: var(--st-background-color);}
.lab-fields button:focus-visible, .lab-fields .quantities label:has(:focus-visible), .lab-fields .hit:focus-visible
  {outline: 3px solid var(--st-primary-color); outline-offset: 2px;}
.lab-fields .count {font-variant-numeric: tabular-nums; min-width: 5.5em;}
.lab-fields .cards {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 1rem 1.25rem;}
.lab-fields .card {min-width: 0; max-width: max(17rem, min(42rem, 64vh));}
.lab-fields .card {container-type: inline-size;}
.lab-fields .head {display: flex; flex-wrap: wrap; gap: 0 0.75rem; align-items: baseline;}
.lab-fields .rate {font-size: 0.92em;}
.lab-fields .end, .lab-fields .symbol {display: none;}
.lab-fields.walked .end {display: table-cell;}
@container (min-width: 26rem) {.lab-fields:not(.large, .walked) .symbol {display: inline;}}
@container (min-width: 44rem) {.lab-fields .symbol {display: inline;}}
.lab-fields .card h4 {font-size: 1.05em; font-weight: 600; margin: 0 0 0.2rem; padding: 0; color: inherit; overflow-wrap: anywhere;}
.lab-fields .plane {position: relative; width: 100%;}
.lab-fields canvas {position: absolute; left: 0; top: 0; width: 100%; height: 100%; pointer-events: none;}
.lab-fields .hit {position: absolute; cursor: crosshair; touch-action: none; user-select: none; border-radius: 2px;}
.lab-fields .under {position: absolute; pointer-events: none; background: var(--st-background-color); padding: 0.3em 0.55em;
  border: 1px solid var(--st-border-color); border-radius: var(--st-base-radius); font-size: 0.92em; white-space: pre; z-index: 2;
  font-variant-numeric: tabular-nums; display: none;}
.lab-fields table {width: 100%; font-size: inherit; color: inherit; border-collapse: collapse; margin: 0;
  font-variant-numeric: tabular-nums;}
.lab-fields th, .lab-fields td {border: 0; border-bottom: 1px solid var(--st-border-color); padding: 0.18em 0.2em;
  text-align: right; color: inherit; vertical-align: baseline;}
.lab-fields td {white-space: nowrap;}
.lab-fields th {font-weight: 400; text-align: left;}
.lab-fields thead th {text-align: right; font-weight: 600;}
.lab-fields .legend {margin: 0.4rem 0 0; font-size: 0.92em; color: inherit;}
.lab-fields .spoken, .lab-fields .value {position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);}
[class*="st-key-lab-arrays-"] {position: absolute; height: 0;}
"""

HOLDER = """
// Keeps the arrays of one field in the page until they change. The view finds them under their id, and reads them once.
export default function ({data, parentElement}) {
  const arrays = new TextDecoder().decode(data.subarray(0, 16));
  Object.assign(parentElement.querySelector(".lab-arrays"), {arrays, packet: data});
  document.dispatchEvent(new Event("lab-arrays"));
}
"""

_hold = st.components.v2.component("lab_arrays", html='<span class="lab-arrays"></span>', js=HOLDER, isolate_styles=False)
_mount = st.components.v2.component(
    "lab_fields",
    html=HTML,
    css=CSS,
    js="".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in SCRIPTS),
    isolate_styles=False,
)


@dataclass(frozen=True)
class FieldPicture:
    """One objective of the picture: its title, and its arrays over the plane."""

    title: str
    arrays: FieldArrays


@dataclass(frozen=True)
class Placement:
    """Point and quantity that Python sent last; `move` names the sending, so that reports made before it are recognised."""

    move: str
    point: Point
    quantity: str


def show_fields(
    pictures: Sequence[FieldPicture],
    *,
    point: Point,
    quantity: str,
    key: str,
    large: bool = False,
    dark: bool = False,
    on_change: Callable[[Point, str], None] | None = None,
) -> tuple[Point, str]:
    """Draw the fields and return the current point and quantity.

    The caller keeps what is returned (or what `on_change` is called with) and passes it again: a point or quantity that is neither
    the current nor the last returned one moves the point. The caller's own older values therefore never undo a drag.

    Args:
        pictures: One to three objectives over the same plane.
        point: log X1 and log X2 in nats; a point outside the plane is moved to its edge.
        quantity: A key of `lab.glossary.FIELD_QUANTITIES`.
        key: Key of the widget.
        large: Larger type, thicker lines and more contrast, for a projector.
        dark: Use the dark palette.
        on_change: Called with point and quantity when the browser reports them, before the page is drawn again.

    Raises:
        ValueError: There are no pictures or too many, they do not share a plane, or the quantity is unknown.
    """
    check(pictures, quantity)
    plane = pictures[0].arrays
    memory = st.session_state.setdefault(f"{key}-memory", {})
    before: Placement | None = memory.get("sent")
    report = memory.get("report")
    wanted = (inside(plane, point), quantity)
    here = wanted
    if before is not None:
        current = report if report and report["move"] == before.move else None
        here = (inside(plane, current["point"]), current["quantity"]) if current else (before.point, before.quantity)
    if before is not None and any(same(wanted, known) for known in (here, memory.get("returned", here))):
        sent = before
    else:
        sent, here = Placement(uuid4().hex[:12], *wanted), wanted
    memory["sent"] = sent
    payloads = [arrays_payload(picture.arrays) for picture in pictures]
    for place, (_, content) in enumerate(payloads):
        _hold(key=f"lab-arrays-{key}-{place}", data=content)
    titles = [(picture.title, name) for picture, (name, _) in zip(pictures, payloads)]
    view = view_payload(titles, sent, key=key, large=large, dark=dark)
    _mount(key=key, data=view, on_report_change=lambda: _reported(key, on_change))
    memory["returned"] = here
    return here


def check(pictures: Sequence[FieldPicture], quantity: str) -> None:
    """Raise ValueError with one sentence if these pictures cannot be drawn next to each other."""
    if not 1 <= len(pictures) <= MOST:
        raise ValueError(f"There are {len(pictures)} fields to draw; give one to {MOST}.")
    if quantity not in QUANTITIES:
        raise ValueError(f"There is no quantity {quantity!r} of a field; choose one of {', '.join(QUANTITIES)}.")
    first = pictures[0].arrays
    for picture in pictures:
        for name in ("log_x1", "log_x2"):
            axis, other = getattr(picture.arrays, name), getattr(first, name)
            if len(axis) < 2 or not np.allclose(np.diff(axis), (axis[-1] - axis[0]) / (len(axis) - 1), rtol=1e-3):
                raise ValueError(f"The axis {name} of {picture.title!r} is not evenly spaced; give it equal steps and two points.")
            if not np.allclose((axis[0], axis[-1]), (other[0], other[-1])):
                raise ValueError(f"The axis {name} of {picture.title!r} has another range than that of {pictures[0].title!r}.")


def inside(plane: FieldArrays, point: Sequence[float]) -> Point:
    """Return the point of the plane that is closest to a point."""
    x, y = (float(min(max(value, axis[0]), axis[-1])) for value, axis in zip(point, (plane.log_x1, plane.log_x2)))
    return x, y


def same(one: tuple[Point, str], other: tuple[Point, str]) -> bool:
    """Return whether two placements are equal after rounding."""
    return one[1] == other[1] and all(abs(a - b) < 0.5 * 10**-DIGITS for a, b in zip(one[0], other[0]))


def read_report(report: Any) -> dict[str, Any] | None:
    """Return a report of the browser as {"point", "quantity", "move"}, None if it is not one."""
    if not isinstance(report, Mapping) or report.get("quantity") not in QUANTITIES or not isinstance(report.get("move"), str):
        return None
    point = report.get("point")
    if not isinstance(point, list | tuple) or len(point) != 2:
        return None
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in point):
        return None
    return {"point": (float(point[0]), float(point[1])), "quantity": report["quantity"], "move": report["move"]}


def _reported(key: str, on_change: Callable[[Point, str], None] | None) -> None:
    report = read_report(st.session_state[key].get("report"))
    memory = st.session_state.get(f"{key}-memory", {})
    if report is None or "sent" not in memory or report["move"] != memory["sent"].move:
        return  # made before Python moved the point: the move is newer
    memory["report"] = report
    if on_change is not None:
        on_change(report["point"], report["quantity"])


@lru_cache(16)
def arrays_payload(arrays: FieldArrays) -> tuple[str, bytes]:
    """Return an id of the arrays and the packet that brings them to the browser.

    The packet: the id in 16 bytes, the length of the head as uint32, the head as JSON, then float32 [N, M] of every layer in the
    head's order and of both steps, and uint8 [N, M] of the attainable points; little-endian. Steps are sent instead of next
    positions, because float32 keeps the digits of small ones.
    """
    here = np.meshgrid(np.asarray(arrays.log_x1, np.float64), np.asarray(arrays.log_x2, np.float64), indexing="ij")
    after = (arrays.next_log_x1, arrays.next_log_x2)
    digits = max(float(np.finfo(values.dtype).eps) for values in (arrays.log_x1, arrays.log_x2, *after))
    attainable = np.asarray(arrays.attainable, bool)
    values = {name: np.asarray(arrays.layers[name], np.float64) for name in QUANTITIES}
    ranges = {name: colour_range(layer, attainable, name) for name, layer in values.items()}
    head = {
        "log_x1": [float(arrays.log_x1[0]), float(arrays.log_x1[-1]), len(arrays.log_x1)],
        "log_x2": [float(arrays.log_x2[0]), float(arrays.log_x2[-1]), len(arrays.log_x2)],
        "layers": [
            {"name": name, "logarithmic": is_logarithmic(name), "low": c.low, "high": c.high, "ticks": c.ticks, "texts": c.texts}
            for name, c in ranges.items()
        ],
        "smallest": 8 * digits * float(np.abs(here).max()),  # below it, rounding decides about a step's direction
        "rate": float(arrays.rate),
    }
    text = json.dumps(head).encode()
    numbers = [*values.values(), *(end - start for start, end in zip(here, after))]
    content = b"".join([len(text).to_bytes(4, "little"), text, *map(_packed, numbers), attainable.astype(np.uint8).tobytes()])
    name = blake2b(content, digest_size=8).hexdigest()
    return name, name.encode() + content


def view_payload(titles: Sequence[tuple[str, str]], sent: Placement, *, key: str, large: bool, dark: bool) -> bytes:
    """Return the bytes that the view receives: everything but the arrays. They stay equal while only the browser moves the point.

    Args:
        titles: Title and id of the arrays of each field.
        sent: Point and quantity that Python sent last.
        key: Key of the widget.
        large: Draw for a projector.
        dark: Use the dark palette.
    """
    c = palette(dark)
    quantities = [
        {
            "name": name,
            "label": label,
            "symbol": FIELD_QUANTITIES[name].symbol,
            "meaning": FIELD_QUANTITIES[name].meaning,
            "colours": colour_stops(name, c),
        }
        for name, label in QUANTITIES.items()
    ]
    read = (
        (FIELD_QUANTITIES["loss"], "Loss", "loss", 1),
        (PUSHES["chosen"], "Push on the chosen side", "d_log_x1", -1),
        (PUSHES["rejected"], "Push on the rejected side", "d_log_x2", 1),
        (FIELD_QUANTITIES["ratio"], "Ratio of increase to decrease", "ratio", 1),
    )
    rows = [
        {"label": label, "symbol": entry.symbol, "meaning": entry.meaning, "layer": layer, "sign": sign}
        for entry, label, layer, sign in read
    ]
    head = {
        "key": key,
        "move": sent.move,
        "point": sent.point,
        "quantity": sent.quantity,
        "digits": DIGITS,
        "pictures": [{"title": title, "id": name} for title, name in titles],
        "quantities": quantities,
        "rows": rows,
        "colours": {name: getattr(c, name) for name in ("text", "faint", "grid", "empty", "chosen", "rejected")},
        "large": large,
    }
    return json.dumps(head).encode()


def _packed(values: np.ndarray) -> bytes:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, "<f4").tobytes()
