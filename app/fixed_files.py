"""Serve the page's fixed files from memory, and name them to the browser before it asks for them.

A run that trains in the server's process holds Python's lock most of the time, and Streamlit reads every static file in many short
turns of other threads, each of which waits for that lock: 130 files took seconds. Here a file is one answer of one turn, compressed
once. The page itself names what its first drawing will need, so that all of it arrives while Streamlit's own script starts.
"""

from __future__ import annotations

import gzip
import mimetypes
import re
from functools import cache
from pathlib import Path
from typing import Any

import plotly
import streamlit as st
from starlette.middleware import Middleware

from app.widgets import figure

STATIC = Path(st.__file__).parent / "static"
"""Streamlit's page; its scripts lie in a folder `static`, and their names carry a digest of their content."""

FIRST = ("BidiComponent", "Selectbox", "ButtonGroup", "Button", "Metric", "Progress")
"""Scripts of the elements that the Live page begins with, by the beginning of their names; others are fetched when they are met."""

FOREVER = b"public, immutable, max-age=31536000"
COMPRESSED = (".js", ".css", ".svg")
LEVEL = 6

_IMPORT = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")

Headers = list[tuple[bytes, bytes]]


class FixedFiles:
    """ASGI middleware: answers requests for fixed files itself. All else passes through."""

    def __init__(self, app: Any) -> None:
        self.app = app
        figure.SERVED = script_address()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        file = files().get(scope["path"])
        if file is None:
            await self.app(scope, receive, send)
            return
        accepted = dict(scope["headers"]).get(b"accept-encoding", b"")
        body, headers = content(file, b"gzip" in accepted)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def warm() -> None:
    """Read and compress what every page needs, so that its first reader does not wait for it."""
    links()
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for address, file in files().items():
        if file.name in page or file.name in closure(FIRST) or address == script_address():
            content(file, True)


def base_path() -> str:
    """Path below which the whole lab is served (`server.baseUrlPath`): "" or "/path"."""
    base = str(st.get_option("server.baseUrlPath")).strip("/")
    return f"/{base}" if base else ""


@cache
def script_address() -> str:
    """Address of Plotly's script; it names the version, because a browser keeps the script for good."""
    return f"{base_path()}/static/js/plotly-{plotly.__version__}.min.js"


@cache
def files() -> dict[str, Path]:
    """Address -> file, of those that never change under their name."""
    there = [path for folder in ("js", "css", "media") for path in (STATIC / "static" / folder).glob("*.*")]
    return {f"{base_path()}/static/{path.parent.name}/{path.name}": path for path in there} | {script_address(): figure.PACKAGED}


@cache
def content(file: Path, zipped: bool) -> tuple[bytes, Headers]:
    """A file's bytes, compressed if asked for and worth it, and the headers of the answer. Kept: they are some megabytes."""
    kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    body, headers = (
        file.read_bytes(),
        [(b"content-type", kind.encode()), (b"cache-control", FOREVER), (b"vary", b"Accept-Encoding")],
    )
    if zipped and file.suffix in COMPRESSED:
        body = gzip.compress(body, LEVEL)
        headers.append((b"content-encoding", b"gzip"))
    return body, [*headers, (b"content-length", str(len(body)).encode())]


@cache
def links() -> str:
    """Tags for the head of the page. Plotly's script runs behind Streamlit's own, while the server draws the page."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    wanted = [name for name in closure(FIRST) if name not in page]
    tags = [f'<link rel="modulepreload" crossorigin href="{base_path()}/static/js/{name}">' for name in wanted]
    return f'<script defer src="{script_address()}"></script>{"".join(tags)}'


@cache
def closure(stems: tuple[str, ...]) -> list[str]:
    """Names of the scripts that begin so and of all that they import; those that this Streamlit does not have are left out."""
    folder = STATIC / "static" / "js"
    left = [path.name for stem in stems for path in folder.glob(f"{stem}.*.js")]
    wanted: dict[str, None] = {}
    while left:
        name = left.pop()
        if name not in wanted and (folder / name).exists():
            wanted[name] = None
            left += _IMPORT.findall((folder / name).read_text(encoding="utf-8"))
    return list(wanted)


MIDDLEWARE = [Middleware(FixedFiles)]
"""For `st.App`."""
