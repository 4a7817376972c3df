"""Fixed files: served from memory and compressed, kept for good by browsers, and named in the head of the page."""

from __future__ import annotations

import gzip

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app import figure, fixed_files


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(figure, "SERVED", None)
    page = Route("/", lambda _: HTMLResponse("<html><head><title>x</title></head></html>", headers={"etag": "old"}))
    other = Route("/static/js/none.js", lambda _: PlainTextResponse("none"))
    return TestClient(Starlette(routes=[page, other], middleware=fixed_files.MIDDLEWARE))


def test_the_page_names_what_its_first_drawing_needs(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": "text/html"})
    assert f'<script defer src="{fixed_files.script_address()}">' in answer.text
    assert "/static/js/BidiComponent." in answer.text
    assert answer.text.endswith("</head></html>")
    assert "etag" not in answer.headers


def test_plotly_comes_compressed_once_and_for_good(client: TestClient) -> None:
    address = fixed_files.script_address()
    answer = client.get(address, headers={"accept-encoding": "gzip"})
    assert answer.content == figure.PACKAGED.read_bytes()
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert int(answer.headers["content-length"]) < len(answer.content) / 2
    plain = client.get(address, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(fixed_files.content(figure.PACKAGED, True)[0]) == plain.content
    assert address == figure.SERVED


def test_everything_else_passes_through(client: TestClient) -> None:
    assert client.get("/static/js/none.js").text == "none"
    assert client.get("/static/js/../../secrets").status_code == 404
