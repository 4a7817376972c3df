"""Fixed files: served from memory and compressed, kept for good by browsers, and named in the head of the page."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit.config
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app import fixed_files, plotly_script, serving
from app.plotly_script import PACKAGED, split_script
from app.widgets import figure


def forget() -> None:
    """Empty the caches that depend on where the lab is served."""
    for cached in (fixed_files.script_address, fixed_files.files, fixed_files.links, serving.html):
        cached.cache_clear()


@pytest.fixture(params=["", "/some/where"])
def base(request: pytest.FixtureRequest) -> Iterator[str]:
    """The path below which the lab is served."""
    before = streamlit.config.get_option("server.baseUrlPath")
    streamlit.config.set_option("server.baseUrlPath", request.param.strip("/"))
    forget()
    yield request.param
    streamlit.config.set_option("server.baseUrlPath", before)
    forget()


@pytest.fixture
def client(base: str, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(figure, "SERVED", None)
    other = Route("/static/js/none.js", lambda _: PlainTextResponse("none"))
    return TestClient(Starlette(routes=[*serving.routes(), other], middleware=fixed_files.MIDDLEWARE))


def test_every_page_names_what_its_first_drawing_needs(client: TestClient, base: str) -> None:
    for path in serving.FILLED_IN:
        answer = client.get(f"{base}/{path}", headers={"accept": "text/html"})
        assert answer.status_code == 200
        assert answer.text.count("<head>") == answer.text.count("</head>") == 1
        head = answer.text.split("</head>")[0]
        assert head.count(f'<script defer src="{base}/static/js/plotly-') == 1
        assert head.count(f'href="{base}/static/js/BidiComponent.') == 1
        assert f'const base = "{base}";' in head
        assert "etag" not in answer.headers
    redirected = client.get(f"{base}/live?run=one", follow_redirects=False)
    assert redirected.headers["location"] == f"{base}/?run=one"


def test_what_the_page_names_is_served(client: TestClient, base: str) -> None:
    names = [part.split('"')[0] for part in fixed_files.links().split('href="')[1:]]
    assert len(names) > 3
    assert all(client.get(name).status_code == 200 for name in names)


def test_plotly_comes_compressed_once_and_for_good(client: TestClient) -> None:
    address = fixed_files.script_address()
    answer = client.get(address, headers={"accept-encoding": "gzip"})
    assert answer.content == split_script()
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert int(answer.headers["content-length"]) < len(answer.content) / 2
    plain = client.get(address, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(fixed_files.content(PACKAGED, True)[0]) == plain.content
    assert address == figure.SERVED


def test_the_installed_plotly_can_be_split() -> None:
    script = split_script()
    assert script is not None, "this version of Plotly is built in another way: the first picture takes a second longer"
    whole = PACKAGED.read_text(encoding="utf-8")
    kinds = whole[whole.rindex(".register([") :].split("])")[0].count("()")
    later = script.decode().rpartition("window.plotlyOtherKinds=()=>")[2]
    assert later.split("])")[0].count("()") == kinds > 40
    assert len(script) > len(whole.encode()) - 400, "only the wrapper is left out"
    assert script.startswith(b"/**\n* plotly.js v")
    assert b"MIT" in script[:200]


def test_a_plotly_of_another_build_is_served_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "plotly.min.js"
    other.write_text("window.Plotly = {};")
    monkeypatch.setattr(plotly_script, "PACKAGED", other)
    plotly_script.split_script.cache_clear()
    try:
        assert plotly_script.split_script() is None
    finally:
        plotly_script.split_script.cache_clear()


def test_everything_else_passes_through(client: TestClient) -> None:
    assert client.get("/static/js/none.js").text == "none"
    assert client.get("/static/js/../../secrets").status_code == 404
