"""A Plotly figure that is updated in place: unlike with `st.plotly_chart`, zoom, selection and hidden traces survive a refresh.

Plotly's script is served once, from the plotly package; a refresh sends the figure only. A figure that has not changed is not drawn
again; one that is out of sight is drawn when it becomes visible. Clicks on points and on the save button are sent as events.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
import plotly
import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly
from streamlit.components.v1 import declare_component

from app.plotly_script import PACKAGED
from lab.plots.comparison.overlay import colour_of_run, dash_of_run

SERVED: str | None = None
"""Address of Plotly's script on the server; None if it is served from a component's folder."""

JAVASCRIPT = """
// A title wider than its figure drops its note, then wraps; the hover shows all of it.
const pen = document.createElement("canvas").getContext("2d");
const wide = (text, size) => { pen.font = `${size}px system-ui, sans-serif`; return pen.measureText(text).width; };
const bare = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent;
const fitted = (element, layout) => {
  const whole = layout.title?.text;
  if (!whole) return layout;
  const [title, note] = whole.split("  <span");
  const room = 0.9 * element.clientWidth - 16, size = layout.title.font?.size ?? 14;
  const beside = note ? wide(bare("<span" + note), 11) + 14 : 0;
  element.title = "";
  if (wide(bare(title), size) + beside <= room) return layout;
  element.title = bare(whole);
  if (wide(bare(title), size) <= room) return {...layout, title: {...layout.title, text: title}};
  const small = Math.round(0.86 * size), words = title.split(" "), lines = [""];
  for (const word of words) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (wide(bare(longer), small) > room && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = longer;
  }
  return {...layout, title: {...layout.title, text: lines.join("<br>"), font: {...layout.title.font, size: small}}};
};

// The page may name the script itself, so that it comes with the others.
const script = (url) => window.plotlyLoading ??= window.Plotly ? Promise.resolve() : new Promise((done, failed) => {
  const coming = document.readyState !== "complete" && document.querySelector(`script[src="${url}"]`);
  const tag = coming || Object.assign(document.createElement("script"), {src: url});
  tag.addEventListener("load", done);
  tag.addEventListener("error", failed);
  if (!coming) document.head.append(tag);
});

// Draw one figure per event-loop turn, so that the first is visible while the others are drawn.
const waiting = [];
let drawing = false;
const turn = () => {
  const draw = waiting.shift();
  drawing = draw !== undefined;
  if (drawing) { setTimeout(turn); draw(); }
};
const inTurn = (draw) => { waiting.push(draw); if (!drawing) { drawing = true; setTimeout(turn); } };

// A picture has the page's background: on a transparent one the text of the dark theme could not be read.
const picture = (element) => {
  const background = getComputedStyle(element).getPropertyValue("--st-background-color") || "white";
  const {width, height} = element.getBoundingClientRect();
  const layout = {...element.layout, paper_bgcolor: background};
  Plotly.downloadImage({data: element.data, layout}, {format: "png", scale: 2, width, height, filename: element.fileName});
};

const defaults = {responsive: true, displaylogo: false, typesetMath: false, doubleClick: "reset"};
const config = (element, saves, selects) => ({...defaults, modeBarButtons: [
  ["zoom2d", "pan2d", ...(selects ? ["select2d", "lasso2d"] : []), "resetScale2d"],
  [{name: "picture", title: "Save the picture (PNG)", icon: Plotly.Icons.camera, click: picture},
   ...(saves ? [{name: "save", title: "Save the data or the picture", icon: Plotly.Icons.disk,
                 click: () => element.tell("saved", element.fileName)}] : [])]]});

// Zoom, hidden traces and the chosen tool of a figure that goes, with its tab or its page, until it comes again: kept by the tab of
// the browser under the figure's name. uirevision: what they belong to.
const place = (element) => `lab-view:${element.fileName}:${element.layout.uirevision}`;
const axes = (element) => Object.keys(element._fullLayout).filter((name) => /^[xy]axis\d*$/.test(name));
const remember = (element) => {
  if (element.bringing || !element.layout?.uirevision) return;
  const edited = Object.keys(element._fullLayout._preGUI ?? {}), view = {layout: {}, hidden: []};
  for (const name of axes(element)) {
    if (edited.some((key) => key.startsWith(`${name}.range`)) && !element._fullLayout[name].autorange)
      view.layout[`${name}.range`] = [...element._fullLayout[name].range];
  }
  if (edited.includes("dragmode")) view.layout.dragmode = element._fullLayout.dragmode;
  element._fullData.forEach((trace) => { if (trace.visible === "legendonly") view.hidden.push(trace.index); });
  const empty = !view.hidden.length && !Object.keys(view.layout).length;
  try {
    if (empty) sessionStorage.removeItem(place(element)); else sessionStorage.setItem(place(element), JSON.stringify(view));
  } catch { /* a browser that keeps nothing */ }
};
const bringBack = async (element) => {
  let view = null;
  try { view = JSON.parse(sessionStorage.getItem(place(element))); } catch { /* as above */ }
  if (!view) return;
  element.bringing = true;
  // As if done by hand, so that Plotly keeps it through refreshes and a double click takes it back.
  const byHand = (act) => {
    element._fullLayout._guiEditing = true;
    const done = act();
    element._fullLayout._guiEditing = false;
    return done;
  };
  if (Object.keys(view.layout).length) await byHand(() => Plotly.relayout(element, view.layout));
  const hidden = view.hidden.filter((index) => index < element._fullData.length);
  if (hidden.length) await byHand(() => Plotly.restyle(element, {visible: "legendonly"}, hidden));
  element.bringing = false;
};

// A double click resets the zoom, so a click waits until it is known to be none.
const clicked = (element) => ({points: [point]}) => {
  clearTimeout(element.click);
  const event = {x: point.x, y: point.y, trace: point.data.name ?? "", custom: point.customdata ?? null};
  element.click = setTimeout(() => element.tell("clicked", event), 350);
};

// A drawing takes the processor that may be training: a figure out of sight waits until it is in sight.
const unseen = new Set();
const seeAgain = (element) => {
  if (!unseen.has(element) || element.away || document.hidden) return;
  unseen.delete(element);
  element.draw();
};
document.addEventListener("visibilitychange", () => unseen.forEach(seeAgain));
const measured = new ResizeObserver((entries) => entries.forEach(({target, contentRect}) => {
  const before = target.measured;
  target.measured = contentRect.width;
  if (before && contentRect.width && Math.abs(before - contentRect.width) > 1 && target.drawn) target.draw();
}));
const watched = (element) => {
  const watch = ([{isIntersecting}]) => { element.away = !isIntersecting; seeAgain(element); };
  const observer = new IntersectionObserver((entries) => watch(entries.slice(-1)), {rootMargin: "100px"});
  observer.observe(element);
  measured.observe(element);
  return observer;
};

export default function ({data, parentElement, setTriggerValue}) {
  const {url, id, name, listens, brushes, saves, figure} = JSON.parse(new TextDecoder().decode(data));
  const element = parentElement.querySelector(".lab-figure");
  element.tell = setTriggerValue;
  element.fileName = name;
  element.observer ??= watched(element);
  const forget = () => setTimeout(() => {
    if (element.isConnected) return;  // re-attached at once, as some are when the page begins
    element.observer.disconnect();
    measured.unobserve(element);
    unseen.delete(element);
    window.Plotly?.purge(element);
  });
  if (element.shown === id) return forget;
  element.shown = id;
  element.setAttribute("aria-label", bare(figure.layout.title?.text || name));
  element.style.height = `${figure.layout.height}px`;  // the page keeps its place while Plotly loads
  const draw = element.draw = () => {
    if (!element.isConnected || element.shown !== id) return;
    if (element.drawn && (element.away || document.hidden)) { unseen.add(element); return; }
    if (element._dragging) { setTimeout(draw, 100); return; }  // during a drag on the figure: a redraw would end it
    // The served script registers other kinds of charts than lines only when one is drawn (app/plotly_script.py).
    if (figure.data.some(({type}) => type && type !== "scatter")) { window.plotlyOtherKinds?.(); delete window.plotlyOtherKinds; }
    const selects = brushes || figure.data.some((trace) => trace.type === "scattergl");
    const before = element.layout;
    if (before?.selections?.length && before.uirevision === figure.layout.uirevision) figure.layout.selections = before.selections;
    // Only the first time with a config: Plotly takes one with its own buttons for another one, and begins anew without the zoom.
    const first = !element.drawn;
    element.drawn = true;
    const options = first ? config(element, saves, selects) : undefined;
    const drawn = Plotly.react(element, figure.data, fitted(element, figure.layout), options);
    if (first) {
      drawn.then(() => bringBack(element));
      for (const change of ["plotly_relayout", "plotly_restyle"]) element.on(change, () => remember(element));
    }
    if (listens && !element.listening) {
      element.listening = true;
      element.on("plotly_click", clicked(element));
      element.on("plotly_doubleclick", () => clearTimeout(element.click));
    }
    if (brushes && !element.brushing) {
      element.brushing = true;
      // A brush over the axes; a double click, or a brush over nothing, takes it back.
      element.on("plotly_selected", (event) => {
        if (event?.range) element.tell("brushed", {x: event.range.x ?? null, y: event.range.y ?? null});
      });
      element.on("plotly_deselect", () => element.tell("brushed", {x: null, y: null}));
    }
  };
  script(url).then(() => inTurn(draw));
  return forget;
}
"""

CSS = """
.lab-figure { width: 100%; }
/* What was selected stays drawn; without this it would lie over its own points and take their hovers and clicks. */
.lab-figure .selectionlayer * { pointer-events: none !important; }
"""

STROKES = {
    "solid": (44,),
    "dash": (9, 5),
    "dot": (3, 3),
    "dashdot": (9, 4, 3, 4),
    "longdash": (15, 6),
    "longdashdot": (15, 4, 3, 4),
}
"""Plotly's dash patterns in pixels: stroke, gap, stroke, ..."""

Event = Mapping[str, Any]


@cache
def script_url() -> str:
    """Return the address of Plotly's script on this server."""
    if SERVED is not None:
        return SERVED
    served = declare_component("plotly", path=PACKAGED.parent)
    base = st.get_option("server.baseUrlPath").strip("/")
    return f"{'/' + base if base else ''}/component/{served.name}/{PACKAGED.name}?v={plotly.__version__}"


_mount = st.components.v2.component(
    "lab_figure", html='<div class="lab-figure" role="figure"></div>', css=CSS, js=JAVASCRIPT, isolate_styles=False
)


def payload(
    figure: go.Figure | Mapping[str, Any],
    url: str,
    name: str = "figure",
    *,
    listens: bool = False,
    brushes: bool = False,
    saves: bool = False,
) -> bytes:
    """Return the bytes that one refresh sends: the figure as JSON, arrays in base64. A constant `uirevision` keeps the zoom.

    Args:
        figure: A figure, or its parts as plain data.
        url: Address of Plotly's script.
        name: Name of the files that are saved of it.
        listens: Send clicks on points as events.
        brushes: Send selected ranges as events.
        saves: Show a button that requests the data.
    """
    drawn = to_json_plotly(figure.to_plotly_json() if isinstance(figure, go.Figure) else packed(figure))
    head = {"url": url, "name": name, "listens": listens, "brushes": brushes, "saves": saves}
    head["id"] = blake2b(drawn.encode(), digest_size=8).hexdigest()
    return f'{json.dumps(head)[:-1]},"figure":{drawn}}}'.encode()


def packed(value: Any) -> Any:
    """Return a part of a figure with arrays of numbers as base64 of their bytes, which Plotly's script reads fastest."""
    if isinstance(value, Mapping):
        return {key: part if key == "range" else packed(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [packed(part) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind not in "iuf" or not value.size:
        return value.tolist()
    if value.dtype.itemsize == 8 and value.dtype.kind != "f":
        value = value.astype(np.float64)  # the script has no integers of 8 bytes
    spec = {"dtype": value.dtype.str[1:], "bdata": base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()}
    return spec | {"shape": ", ".join(map(str, value.shape))} if value.ndim > 1 else spec


def show(
    figure: go.Figure | Mapping[str, Any] | bytes,
    key: str,
    *,
    name: str = "figure",
    on_click: Callable[[Event], None] | None = None,
    on_brush: Callable[[Event], None] | None = None,
    on_save: Callable[[str], None] | None = None,
) -> None:
    """Draw a figure, or update the one that was drawn under this key. A double click resets the zoom.

    Args:
        figure: A figure, its parts, or a payload that was kept.
        key: Key of the widget.
        name: Name of the files that are saved of it.
        on_click: Called with {"x", "y", "trace", "custom"} of a clicked point before the page is drawn again.
        on_brush: Called with {"x": [low, high], "y": [low, high]} of a brushed range, None for an axis without one.
        on_save: Called with `name` when the save button was clicked.
    """
    data = (
        figure
        if isinstance(figure, bytes)
        else payload(
            figure, script_url(), name, listens=on_click is not None, brushes=on_brush is not None, saves=on_save is not None
        )
    )
    events: dict[str, Any] = {}
    if on_click is not None:
        events["on_clicked_change"] = lambda: _tell(key, "clicked", on_click)
    if on_brush is not None:
        events["on_brushed_change"] = lambda: _tell(key, "brushed", on_brush)
    if on_save is not None:
        events["on_saved_change"] = lambda: _tell(key, "saved", on_save)
    _mount(key=key, data=data, **events)


def _tell(key: str, event: str, listener: Callable[[Any], None]) -> None:
    value = st.session_state[key][event]
    if value is not None:
        listener(value)


def dark() -> bool:
    """Return whether the viewer's theme is dark."""
    return st.context.theme.type == "dark"


def legend_line(number: int) -> str:
    """Return CSS that draws a piece of the line of the run or variant at a position among those that are compared."""
    colour, strokes = colour_of_run(number, dark()), STROKES[dash_of_run(number)]
    stops, at = [], 0
    for place, length in enumerate(strokes):
        stops.append(f"{'transparent' if place % 2 else colour} {at}px {at + length}px")
        at += length
    gradient = f"repeating-linear-gradient(90deg,{','.join(stops)})"
    return f"display:inline-block;vertical-align:middle;width:44px;height:3px;margin-right:0.4rem;background:{gradient}"
