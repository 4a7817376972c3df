"""A link with a token that is opened in a real browser from a page of another site, such as a chat."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app.class_access import ClassAccess
from app.state.access import Tokens
from tests.app.conftest import CHROMIUM, QUIET
from tests.helpers import free_port, until

pytestmark = pytest.mark.browser


def serve(app: Any, port: int) -> uvicorn.Server:
    """Serve an application in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    until(lambda: server.started, 60)
    return server


async def _page(request: Request) -> HTMLResponse:
    return HTMLResponse(f"<h1>inside as {request.scope['role']}</h1>")


@pytest.fixture
def chat() -> Iterator[tuple[str, str]]:
    """The address of a page of another site with links to a lab for a class, and the lab's address."""
    port, other = free_port(), free_port()
    tokens = Tokens.new(port)
    lab = f"http://127.0.0.1:{port}"

    async def links(_: Request) -> HTMLResponse:
        return HTMLResponse(f'<a href="{lab}/learn?A=dpo&token={tokens.watch}">with</a> <a href="{lab}/learn?A=spo">without</a>')

    inside = Starlette(routes=[Route("/learn", _page)], middleware=[Middleware(ClassAccess, tokens=tokens)])
    servers = [serve(inside, port), serve(Starlette(routes=[Route("/", links)]), other)]
    yield f"http://localhost:{other}/", lab  # localhost and 127.0.0.1 are two sites
    for server in servers:
        server.should_exit = True


def test_a_link_from_another_site_opens_the_lab_and_leaves_no_token(chat: tuple[str, str]) -> None:
    if CHROMIUM is None:
        pytest.skip("No chromium is installed; `apt-get install chromium` (or chrome on the PATH) lets this test run.")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed.")
    elsewhere, lab = chat
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.goto(elsewhere)
        page.get_by_text("with", exact=True).click()
        page.get_by_role("heading", name="inside as watch").wait_for()
        assert page.url == f"{lab}/learn?A=dpo"
        assert page.evaluate("document.cookie") == ""  # no script can read the token
        assert page.evaluate("document.referrer") in ("", f"{lab}/")
        page.goto(f"{lab}/learn?A=sgdpo")  # typed: the cookie is sent
        page.get_by_role("heading", name="inside as watch").wait_for()
        page.goto(elsewhere)
        page.get_by_text("without", exact=True).click()  # of another site: the cookie is withheld, as the refusal explains
        page.get_by_role("link", name="open this page again").click()
        page.get_by_role("heading", name="inside as watch").wait_for()
        browser.close()
