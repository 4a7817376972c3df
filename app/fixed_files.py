"""Serve the page's fixed files from memory, and let the browser load them early.

A run that trains in the server's process holds Python's lock most of the time, and Streamlit reads every static file in many short
turns of other threads, each of which waits for that lock: 130 files took seconds. Here a file is one response, compressed once. The
page preloads the files of its first drawing, so that they arrive while Streamlit's own script starts.
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

from app.plotly_script import PACKAGED, split_script
from app.same_origin import SameOrigin
from app.widgets import figure

STATIC = Path(st.__file__).parent / "static"
"""Folder of Streamlit's page. The names of its scripts, in a folder `static`, contain a digest of their content."""

FIRST = ("BidiComponent", "Selectbox", "ButtonGroup", "Button", "Metric", "Progress")
"""Beginnings of the names of the scripts that the Live page needs first; the others are loaded when they are needed."""

FOREVER = b"public, immutable, max-age=31536000"
COMPRESSED = (".js", ".css", ".svg")
LEVEL = 6

_IMPORT = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")

Headers = list[tuple[bytes, bytes]]


class FixedFiles:
    """ASGI middleware that answers requests for fixed files and passes on all others."""

    def __init__(self, app: Any) -> None:
        self.app = app
        figure.SERVED = script_address()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
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
    """Read and compress the files that every page needs, so that the first request does not wait."""
    links()
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for address, file in files().items():
        if file.name in page or file.name in closure(FIRST) or address == script_address():
            content(file, True)


def base_path() -> str:
    """Return the path below which the dashboard is served (`server.baseUrlPath`): "" or "/path"."""
    base = str(st.get_option("server.baseUrlPath")).strip("/")
    return f"/{base}" if base else ""


@cache
def script_address() -> str:
    """Return the address of Plotly's script, with its version, because browsers cache the script for ever."""
    return f"{base_path()}/static/js/plotly-{plotly.__version__}-split.min.js"


@cache
def files() -> dict[str, Path]:
    """Map addresses to the files whose content never changes."""
    paths = [path for folder in ("js", "css", "media") for path in (STATIC / "static" / folder).glob("*.*")]
    return {f"{base_path()}/static/{path.parent.name}/{path.name}": path for path in paths} | {script_address(): PACKAGED}


@cache
def content(file: Path, zipped: bool) -> tuple[bytes, Headers]:
    """Return a file's bytes and the response headers; compressed if `zipped` and the type is worth it. Cached: some megabytes."""
    kind = "text/javascript" if file.suffix == ".js" else mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    body = (split_script() if file == PACKAGED else None) or file.read_bytes()
    headers = [(b"content-type", kind.encode()), (b"cache-control", FOREVER), (b"vary", b"Accept-Encoding")]
    if zipped and file.suffix in COMPRESSED:
        body = gzip.compress(body, LEVEL)
        headers.append((b"content-encoding", b"gzip"))
    return body, [*headers, (b"content-length", str(len(body)).encode())]


@cache
def links() -> str:
    """Return tags for the page's head. Plotly's script runs after Streamlit's own, while the server draws the page."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    wanted = [name for name in closure(FIRST) if name not in page]
    tags = [f'<link rel="modulepreload" crossorigin href="{base_path()}/static/js/{name}">' for name in wanted]
    return f'<script defer src="{script_address()}"></script>{"".join(tags)}'


@cache
def closure(stems: tuple[str, ...]) -> list[str]:
    """Return the names of the scripts that begin with `stems` and of all scripts that they import, as far as they exist."""
    folder = STATIC / "static" / "js"
    left = [path.name for stem in stems for path in folder.glob(f"{stem}.*.js")]
    wanted: dict[str, None] = {}
    while left:
        name = left.pop()
        if name not in wanted and (folder / name).exists():
            wanted[name] = None
            left += _IMPORT.findall((folder / name).read_text(encoding="utf-8"))
    return list(wanted)


MIDDLEWARE = [Middleware(SameOrigin), Middleware(FixedFiles)]
"""Middleware for `st.App`, the outer one first."""
