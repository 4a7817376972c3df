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

from app import figure

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
    """ASGI middleware: answers requests for fixed files itself, and adds the links to the page. All else passes through."""

    def __init__(self, app: Any) -> None:
        self.app = app
        figure.SERVED = script_address()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"])
        file = files().get(scope["path"])
        if file is None:
            asks_for_page = b"text/html" in given.get(b"accept", b"")
            await self.app(scope, receive, _Page(send) if asks_for_page else send)
            return
        body, headers = content(file, b"gzip" in given.get(b"accept-encoding", b""))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Page:
    """Sends an HTML page on with the links in its head, and everything else as it is."""

    def __init__(self, send: Any) -> None:
        self.send = send
        self.start: dict[str, Any] | None = None
        self.parts: list[bytes] = []

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            if message["status"] == 200 and headers.get(b"content-type", b"").startswith(b"text/html"):
                self.start = message
                return
        if self.start is None:
            await self.send(message)
            return
        self.parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = b"".join(self.parts).replace(b"</head>", links() + b"</head>", 1)
        # The page is another one than Streamlit's file, so what describes that file goes.
        gone = (b"content-length", b"etag", b"last-modified", b"accept-ranges")
        kept = [(name, value) for name, value in self.start["headers"] if name not in gone]
        await self.send(self.start | {"headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await self.send({"type": "http.response.body", "body": body})


def warm() -> None:
    """Read and compress what every page needs, so that its first reader does not wait for it."""
    links()
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for address, file in files().items():
        if file.name in page or file.name in closure(FIRST) or address == script_address():
            content(file, True)


def _base() -> str:
    base = str(st.get_option("server.baseUrlPath")).strip("/")
    return f"/{base}" if base else ""


@cache
def script_address() -> str:
    """Address of Plotly's script; it names the version, because a browser keeps the script for good."""
    return f"{_base()}/static/js/plotly-{plotly.__version__}.min.js"


@cache
def files() -> dict[str, Path]:
    """Address -> file, of those that never change under their name."""
    there = [path for folder in ("js", "css", "media") for path in (STATIC / "static" / folder).glob("*.*")]
    return {f"{_base()}/static/{path.parent.name}/{path.name}": path for path in there} | {script_address(): figure.PACKAGED}


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
def links() -> bytes:
    """What is added to the head of the page. Plotly's script runs behind Streamlit's own, while the server draws the page."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    wanted = [name for name in closure(FIRST) if name not in page]
    tags = [f'<link rel="modulepreload" crossorigin href="{_base()}/static/js/{name}">' for name in wanted]
    return f'<script defer src="{script_address()}"></script>{"".join(tags)}'.encode()


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
