"""Refuse what a page of another site or port requests in a browser: websockets, and requests that change something.

The comparison is exact: scheme aside, the Origin of the request has to be its Host. Streamlit alone accepts every port of this
machine, and for a foreign Origin looks up the machine's public address on the internet. Programs send no Origin and are not
concerned. A proxy in front of the lab has to pass the Host header on.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

READS = ("GET", "HEAD", "OPTIONS")
"""Methods of requests that change nothing."""

FOREIGN = "This request comes from a page of another site; open the lab at its own address."


class SameOrigin:
    """ASGI middleware that refuses websockets, and requests other than reads, from pages of another origin."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "websocket" and _foreign(scope):
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403
        elif scope["type"] == "http" and scope["method"] not in READS and _foreign(scope):
            await PlainTextResponse(FOREIGN, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _foreign(scope: Any) -> bool:
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
