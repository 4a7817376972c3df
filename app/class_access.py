"""Serve the lab to a room: every request needs one of two tokens, which the first request turns into a cookie.

The middleware stands in front of everything that the lab serves: pages, static files, components, health, uploads, media and the
websocket. A link with `?token=...` is answered by a page that opens the same address without the token, once the token is in a
cookie (HttpOnly, SameSite=Strict). It is a page and not a redirect by status: browsers withhold a strict cookie from the target of
a redirect if the link was on a page of another site, such as a chat or a mail program. For the same reason the refusal of a page
has a link to that page: a click on it sends the cookie, which a click in the chat does not. A browser that may edit keeps that
role when it opens the link to watch. Tokens are compared in constant time; the roles are in `app.state.access`. Pages of other
sites and ports are refused by `app.same_origin`.
"""

from __future__ import annotations

import html
import socket
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from app.same_origin import READS
from app.state.access import WHY, Role, Tokens

TOKEN = "token"
"""Parameter of the address that carries a token."""

AGAIN = "open this page again"
REFUSAL = f"This lab is for a class: open it with the lecturer's link, or {AGAIN} if you have done so already."
WAIT = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={address}"><p>Opening the lab.</p>'

PRIVATE = [(b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer")]
"""Headers that keep an address with a token out of caches and out of the next request."""


class ClassAccess:
    """ASGI middleware that refuses every request without a token, and puts the role of the others into `scope["role"]`."""

    def __init__(self, app: Any, tokens: Tokens) -> None:
        self.app = app
        self.tokens = tokens

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        role = self._role(scope)
        if scope["type"] != "http":
            if role is None:
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403
                return
        elif (given := _given(scope)) is not None:
            token, address = given
            if self.tokens.role(token) is None:
                await _refuse(scope, send, REFUSAL)
            else:
                await self._enter(send, self.tokens.edit if role == "edit" else token, address)
            return
        elif role is None:
            await _refuse(scope, send, REFUSAL)
            return
        elif role == "watch" and scope["method"] not in READS:
            await _refuse(scope, send, WHY)
            return
        await self.app({**scope, "role": role}, receive, send)

    def _role(self, scope: Any) -> Role | None:
        """Return the role of a request by its cookie, read as Streamlit reads it for the pages."""
        return self.tokens.role(HTTPConnection(scope).cookies.get(self.tokens.cookie))

    async def _enter(self, send: Any, token: str, address: str) -> None:
        """Put the token into a cookie and open the address without it."""
        cookie = f"{self.tokens.cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
        body = WAIT.format(address=html.escape(address)).encode()
        await _answer(send, 200, b"text/html; charset=utf-8", body, [(b"set-cookie", cookie.encode())])


def _given(scope: Any) -> tuple[str, str] | None:
    """Return the token in a request's address and the address without it, or None without a token."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    token = next((value for name, value in query if name == TOKEN), None)
    if token is None:
        return None
    rest = urlencode([(name, value) for name, value in query if name != TOKEN])
    # One slash at the beginning: two would lead to another machine.
    path = "/" + quote(scope["path"].lstrip("/\\"))
    return token, f"{path}?{rest}" if rest else path


async def _refuse(scope: Any, send: Any, why: str) -> None:
    """Answer with one sentence; in a page "open this page again" is a link."""
    if "text/html" not in Headers(scope=scope).get("accept", ""):
        await _answer(send, 403, b"text/plain; charset=utf-8", why.encode(), [])
        return
    page = f'<!doctype html><meta charset="utf-8"><p>{html.escape(why)}</p>'.replace(AGAIN, f'<a href="">{AGAIN}</a>')
    await _answer(send, 403, b"text/html; charset=utf-8", page.encode(), [])


async def _answer(send: Any, status: int, kind: bytes, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *PRIVATE, *headers]})
    await send({"type": "http.response.body", "body": body})


def machine_address() -> str:
    """Return this machine's address in its network, or the loopback address without a network. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: only the route is looked up
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def invitation(tokens: Tokens, host: str, port: int, base: str = "") -> str:
    """Return the text with the two links that the lecturer gives out."""
    shown = f"[{host}]" if ":" in host else host
    begin = f"http://{shown}:{port}{base}/"
    return "\n".join(
        [
            "The lab is open to this network. Everybody with a link can use it until the lab is closed:",
            f"  to watch a run and try Learn:  {begin}learn?{TOKEN}={tokens.watch}",
            f"  to train and edit as well:     {begin}?{TOKEN}={tokens.edit}",
        ]
    )
