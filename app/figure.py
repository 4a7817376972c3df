"""A Plotly figure that is updated in place: zoom, hidden traces and hover survive a refresh, which `st.plotly_chart` forgets.

Plotly's own script is served from the plotly package to the page once; a refresh carries the figure and nothing else.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import plotly
import plotly.graph_objects as go
import streamlit as st
from plotly.io.json import to_json_plotly
from streamlit.components.v1 import declare_component

SCRIPT = "plotly.min.js"

JAVASCRIPT = """
const script = (url) => window.plotlyLoading ??= new Promise((done, failed) => {
  const tag = Object.assign(document.createElement("script"), {src: url, onload: done, onerror: failed});
  document.head.append(tag);
});
const config = {responsive: true, displaylogo: false, doubleClick: "reset",
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]]};

export default function ({data, parentElement}) {
  const {url, figure} = JSON.parse(new TextDecoder().decode(data));
  const element = parentElement.querySelector(".lab-figure");
  element.style.height = `${figure.layout.height}px`;  // the page keeps its place while Plotly loads
  script(url).then(() => element.isConnected && Plotly.react(element, figure.data, figure.layout, config));
}
"""

CSS = ".lab-figure { width: 100%; }"


@cache
def _script_url() -> str:
    """Address of Plotly's script on this server. A component's folder is what Streamlit serves with the right content type."""
    folder = Path(plotly.__file__).parent / "package_data"
    served = declare_component("plotly", path=folder)
    base = st.get_option("server.baseUrlPath").strip("/")
    return f"{'/' + base if base else ''}/component/{served.name}/{SCRIPT}"


_mount = st.components.v2.component(
    "lab_figure", html='<div class="lab-figure"></div>', css=CSS, js=JAVASCRIPT, isolate_styles=False
)


def payload(figure: go.Figure, url: str) -> bytes:
    """What one refresh sends: the figure as JSON, arrays in base64. A constant `uirevision` in its layout keeps the zoom."""
    return f'{{"url":{json.dumps(url)},"figure":{to_json_plotly(figure.to_plotly_json())}}}'.encode()


def show(figure: go.Figure, key: str) -> None:
    """Draw a figure, or update the one that was drawn under this key. A double click resets the zoom."""
    _mount(key=key, data=payload(figure, _script_url()))


def dark() -> bool:
    """True where the viewer's theme is dark."""
    return st.context.theme.type == "dark"
