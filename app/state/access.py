"""Roles of the browsers that a class lab serves: "watch" sees every page and tries Learn, "edit" may also change things.

A lab on this machine only (`python -m app` without `--class`) has no tokens, and everything is allowed. A class lab knows two
tokens; the browser holds one of them in a cookie that no script can read. `require_edit` is the one check in front of every action
that trains, changes a run or a pair set, writes a file on the server or loads a model; it asks the cookie of the browser's
websocket, never anything that a page can set.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import streamlit as st

Role = Literal["watch", "edit"]

WHY = "This link is for watching: training, changes, files on the server and models need the link for editing."
"""The sentence that pages show instead of what a watching browser must not do."""


class WatchOnlyError(PermissionError):
    """A watching browser requested an action that changes something."""


@dataclass(frozen=True)
class Tokens:
    """The two tokens of a class lab and the name of the cookie that carries one of them.

    Attributes:
        cookie: Name of the cookie; with the port, because browsers share cookies between the ports of one machine.
        watch: Token for watching. Not part of the representation, so that no log can contain it.
        edit: Token for editing. Not part of the representation.
    """

    cookie: str
    watch: str = field(repr=False)
    edit: str = field(repr=False)

    @classmethod
    def new(cls, port: int) -> Tokens:
        """Draw two random tokens of 256 bits for the lab on a port."""
        return cls(f"lab-class-{port}", secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    def role(self, token: str | None) -> Role | None:
        """Return the role of a token, None for any other text. Compares in constant time, with both tokens always."""
        given = (token or "").encode("utf-8", "replace")
        edits = hmac.compare_digest(given, self.edit.encode())
        watches = hmac.compare_digest(given, self.watch.encode())
        return "edit" if edits else "watch" if watches else None


_served: Tokens | None = None


def serve_with(tokens: Tokens | None) -> None:
    """Set the tokens of the lab that this process serves; None for a lab without tokens."""
    global _served
    _served = tokens


def in_class() -> bool:
    """Return whether this process serves a lab for a class."""
    return _served is not None


def role() -> Role:
    """Return the role of the browser whose page is being drawn; without a valid cookie it is the weaker one."""
    if _served is None:
        return "edit"
    return _served.role(_cookies().get(_served.cookie)) or "watch"


def may_edit() -> bool:
    """Return whether the browser whose page is being drawn may change things."""
    return role() == "edit"


def require_edit() -> None:
    """Raise WatchOnlyError unless the browser whose page is being drawn may change things. Call it before every change."""
    if not may_edit():
        raise WatchOnlyError(WHY)


def _cookies() -> Mapping[str, str]:
    """Return the cookies of the page's websocket; none outside of a page."""
    return st.context.cookies
