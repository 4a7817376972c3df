"""Plotly's script in a form that a browser runs in a tenth of the time: only line charts at first, the other kinds when asked for.

The script that the plotly package ships spends 1.5 s of two slow cores before the first picture: two thirds on a wrapper function
that the browser cannot prepare in the background, a third on 45 kinds of charts of which a page shows two or three.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import plotly

PACKAGED = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

_START = '"use strict";var Plotly=(()=>{'
_END = "window.Plotly = Plotly;"
_OTHER_KINDS = re.compile(r"([\w$]+)\.register\(\[((?:[\w$]+\(\),){5,}[\w$]+\(\))\]\)")
"""The script's last call: it registers all kinds of charts but scatter, which the core registers itself."""


@cache
def split_script() -> bytes | None:
    """Return Plotly's script with a function `plotlyOtherKinds` that registers all kinds of charts but scatter.

    Returns:
        The script in UTF-8; None if the installed version is built in another way, so that it has to be served as it is.
    """
    whole = PACKAGED.read_text(encoding="utf-8")
    start, end = whole.find(_START), whole.rfind(_END)
    if start < 0 or end < 0:
        return None
    licence = whole[: whole.find("*/") + 2]
    body = f"{licence}\n{whole[start:end]}{_END}"  # without the wrapper for module loaders
    calls = list(_OTHER_KINDS.finditer(body))
    if len(calls) != 1:
        return None
    (call,) = calls
    later = f"window.plotlyOtherKinds=()=>{call[0]}"
    return f"{body[: call.start()]}{later}{body[call.end() :]}".encode()
