"""A lab for a class: nothing is served without a token, and the token of the watching link is not that of the editing link."""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import streamlit
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app import launch
from app.class_access import REFUSAL, ClassAccess, invitation, machine_address
from app.fixed_files import MIDDLEWARE
from app.same_origin import SameOrigin
from app.state import access
from app.state.access import WHY, Tokens
from tests.bench.viewers import Viewer
from tests.helpers import free_port, until

ROOT = Path(__file__).parents[2]
TOKENS = Tokens.new(8501)
REQUESTS = [
    ("GET", "/"),
    ("GET", "/learn?A=dpo&token"),
    ("GET", "/static/js/index.js"),
    ("GET", "/_stcore/health"),
    ("HEAD", "/_stcore/health"),
    ("GET", "/_stcore/host-config"),
    ("GET", "/component/lab_keys/index.html"),
    ("GET", "/_stcore/bidi-components/lab_keys/x.js"),
    ("GET", "/media/abc.png"),
    ("OPTIONS", "/_stcore/upload_file/a/b"),
    ("PUT", "/_stcore/upload_file/a/b"),
    ("POST", "/_stcore/upload_file/a/b"),
    ("DELETE", "/_stcore/upload_file/a/b"),
    ("POST", "/_stcore/mcp"),
]


class Inside:
    """The application behind the middleware; it records what comes through."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


@pytest.fixture
def inside() -> Inside:
    return Inside()


@pytest.fixture
def client(inside: Inside) -> TestClient:
    return TestClient(ClassAccess(inside, TOKENS), follow_redirects=False)


def cookie(token: str) -> dict[str, str]:
    return {"cookie": f"other=1; {TOKENS.cookie}={token}"}


WRONG = {
    "none": {},
    "empty": cookie(""),
    "wrong": cookie("x" * len(TOKENS.edit)),
    "cut": cookie(TOKENS.edit[:-1]),
    "not ASCII": {"cookie": f"{TOKENS.cookie}=ä".encode("latin-1")},
    "of another port": {"cookie": f"lab-class-1={TOKENS.edit}"},
    "in headers": {"authorization": f"token {TOKENS.edit}", "role": "edit", "x-role": "edit"},
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("method", "address"), REQUESTS)
def test_without_a_token_nothing_is_served(client: TestClient, inside: Inside, method: str, address: str, headers: Any) -> None:
    answer = client.request(method, address, headers=headers)
    assert answer.status_code == 403
    assert method == "HEAD" or answer.text == REFUSAL
    assert "set-cookie" not in answer.headers
    assert inside.scopes == []


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(
    "address", ["/_stcore/stream", f"/_stcore/stream?token={TOKENS.edit}"], ids=["no token", "token in the address"]
)
def test_without_a_cookie_no_websocket_is_opened(client: TestClient, inside: Inside, address: str, headers: Any) -> None:
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(address, headers=headers):
        pass
    assert refused.value.code == 1008
    assert inside.scopes == []


@pytest.mark.parametrize("role", ["watch", "edit"])
def test_a_link_becomes_a_cookie_and_loses_its_token(client: TestClient, inside: Inside, role: str) -> None:
    token = getattr(TOKENS, role)
    answer = client.get(f"/learn?A=dpo&token={token}&point=1%2C2")
    assert inside.scopes == []
    set_cookie = answer.headers["set-cookie"]
    assert set_cookie == f"{TOKENS.cookie}={token}; Path=/; HttpOnly; SameSite=Strict"
    assert token not in answer.text
    assert 'content="0;url=/learn?A=dpo&amp;point=1%2C2"' in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    opened = client.get("/learn?A=dpo", headers={"cookie": set_cookie.split(";")[0]})
    assert opened.text == "inside"
    assert inside.scopes[0]["role"] == role
    with client.websocket_connect("/_stcore/stream", headers=cookie(token)):
        assert inside.scopes[1]["role"] == role


def test_the_refusal_of_a_page_has_a_link_to_it(client: TestClient) -> None:
    answer = client.get("/learn?A=<b>", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 403
    assert answer.text.count("<a ") == 1
    assert '<a href="">open this page again</a>' in answer.text


def test_a_wrong_token_in_the_address_is_refused_also_with_a_cookie(client: TestClient, inside: Inside) -> None:
    answer = client.get("/?token=guess", headers=cookie(TOKENS.edit))
    assert (answer.status_code, answer.text, inside.scopes) == (403, REFUSAL, [])


def test_the_link_to_watch_takes_no_right_away(client: TestClient, inside: Inside) -> None:
    for before, link, after in (("edit", "watch", "edit"), ("watch", "edit", "edit"), ("watch", "watch", "watch")):
        answer = client.get(f"/?token={getattr(TOKENS, link)}", headers=cookie(getattr(TOKENS, before)))
        assert answer.headers["set-cookie"].startswith(f"{TOKENS.cookie}={getattr(TOKENS, after)};"), (before, link)


FOREIGN = {
    "site": "http://evil.invalid",
    "port": "http://testserver:8502",
    "this machine": "http://localhost:8502",
    "sandbox": "null",
    "empty": "",
    "user": "http://testserver@evil.invalid",
}


@pytest.mark.parametrize("origin", FOREIGN.values(), ids=FOREIGN)
def test_pages_of_another_origin_are_refused(inside: Inside, origin: str) -> None:
    client = TestClient(SameOrigin(inside))
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/_stcore/stream", headers={"origin": origin}):
        pass
    assert refused.value.code == 1008
    for method in ("PUT", "POST", "DELETE"):
        answer = client.request(method, "/_stcore/upload_file/a/b", headers={"origin": origin})
        assert (answer.status_code, "another site" in answer.text) == (403, True)
    assert inside.scopes == []
    assert client.get("/", headers={"origin": origin}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"origin": "http://testserver"}, {"origin": "https://lab:8443", "host": "lab:8443"}])
def test_the_labs_own_pages_and_programs_are_served(inside: Inside, headers: dict[str, str]) -> None:
    client = TestClient(SameOrigin(inside))
    with client.websocket_connect("/_stcore/stream", headers=headers):
        pass
    assert client.put("/_stcore/upload_file/a/b", headers=headers).status_code == 200
    assert len(inside.scopes) == 2


@pytest.mark.parametrize("path", ["//evil.invalid/x", "/\\evil.invalid", "/%2F%2Fevil.invalid", '/"><script>x</script>'])
def test_a_link_leads_to_no_other_machine_and_writes_no_markup(path: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": f"token={TOKENS.watch}".encode(), "headers": []}
    asyncio.run(ClassAccess(Inside(), TOKENS)(scope, None, send))
    target = sent[1]["body"].decode().partition('content="0;url=')[2].partition('">')[0]
    assert urlsplit(target).netloc == ""
    assert target.startswith("/")
    assert target[1:2] not in ("/", "\\")
    assert "<" not in target


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_a_watching_browser_sends_nothing_to_the_server(client: TestClient, inside: Inside, method: str) -> None:
    answer = client.request(method, "/_stcore/upload_file/a/b", headers=cookie(TOKENS.watch))
    assert (answer.status_code, answer.text, inside.scopes) == (403, WHY, [])
    assert client.request(method, "/_stcore/upload_file/a/b", headers=cookie(TOKENS.edit)).text == "inside"


def test_the_role_comes_from_the_cookie_alone(client: TestClient, inside: Inside) -> None:
    client.get("/?role=edit", headers={**cookie(TOKENS.watch), "role": "edit", "x-lab-role": "edit"})
    assert inside.scopes[0]["role"] == "watch"


@pytest.fixture
def served() -> Iterator[None]:
    access.serve_with(TOKENS)
    yield
    access.serve_with(None)


@pytest.mark.parametrize(
    ("cookies", "role"),
    [
        ({}, "watch"),
        ({TOKENS.cookie: "x"}, "watch"),
        ({TOKENS.cookie: TOKENS.watch}, "watch"),
        ({"role": "edit"}, "watch"),
        ({TOKENS.cookie: TOKENS.edit}, "edit"),
    ],
)
def test_pages_learn_the_role_from_the_cookie(served: None, monkeypatch: pytest.MonkeyPatch, cookies: Any, role: str) -> None:
    monkeypatch.setattr(streamlit, "context", SimpleNamespace(cookies=cookies))
    assert access.role() == role
    assert access.may_edit() == (role == "edit")
    if role == "watch":
        with pytest.raises(access.WatchOnlyError, match="link for editing"):
            access.require_edit()
    else:
        access.require_edit()


def test_without_a_class_everything_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamlit, "context", None)  # not even read
    assert access.role() == "edit"
    access.require_edit()


def test_tokens_are_random_long_and_not_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Tokens.new(1), Tokens.new(1)
    drawn = {one.watch, one.edit, other.watch, other.edit}
    assert len(drawn) == 4
    assert all(len(token) == 43 for token in drawn)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("%r %s", one, one)
    assert not any(token in caplog.text for token in drawn)
    text = invitation(one, "fe80::1", 8501, "/base")
    assert f"http://[fe80::1]:8501/base/learn?token={one.watch}" in text
    assert f"http://[fe80::1]:8501/base/?token={one.edit}" in text
    assert machine_address().count(".") == 3


class FakeApp:
    """`st.App` that records its arguments and serves nothing."""

    made: list[dict[str, Any]]

    def __init__(self, script: Path, **given: Any) -> None:
        self.made.append(given)

    def run(self, *, config: dict[str, Any]) -> None:
        self.made[-1]["config"] = config


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Arguments of the server that `launch.serve` makes."""
    monkeypatch.setattr(FakeApp, "made", [], raising=False)
    monkeypatch.setattr(streamlit, "App", FakeApp)
    monkeypatch.setattr(streamlit.config, "set_option", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["app"])
    yield FakeApp.made
    logging.disable(logging.NOTSET)
    access.serve_with(None)


def test_the_default_server_is_on_this_machine_and_without_tokens(made: list[dict[str, Any]]) -> None:
    launch.serve(8501, demo_steps=None)
    (given,) = made
    assert given["middleware"] is MIDDLEWARE
    assert given["config"] == {
        "server.port": 8501,
        "server.address": "127.0.0.1",
        "server.headless": True,
        "logger.hideWelcomeMessage": True,
    }
    assert access.may_edit()


def test_a_class_lab_checks_tokens_before_everything_else(made: list[dict[str, Any]]) -> None:
    launch.serve(8501, demo_steps=None, address=launch.EVERY_ADDRESS, tokens=True)
    (given,) = made
    assert given["config"]["server.address"] == "0.0.0.0"
    assert given["middleware"][0].cls is ClassAccess
    assert given["middleware"][1:] == MIDDLEWARE
    assert MIDDLEWARE[0].cls is SameOrigin


def test_a_host_needs_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        launch.main(["--host", "0.0.0.0"])
    assert "--host needs --class" in capsys.readouterr().err


def test_an_address_of_another_machine_is_refused_in_one_sentence() -> None:
    with pytest.raises(OSError, match=r"cannot be served on 192\.0\.2\.1 .*this machine's"):
        launch.require_free(8501, "192.0.2.1")


@pytest.mark.parametrize(
    ("given", "flags"), [([], "--class --port 8501"), (["HOST=127.0.0.1"], "--class --port 8501 --host 127.0.0.1")]
)
def test_make_class(given: list[str], flags: str) -> None:
    done = subprocess.run(["make", "-n", "-o", ".venv/.lab", "class", *given], cwd=ROOT, capture_output=True, text=True, check=True)
    assert flags in done.stdout


SMALL = """
import sys
import lab.world.opening
lab.world.opening.ensure = lambda spec, **given: lab.world.ensure(lab.world.WorldSpec.tiny(spec.seed, spec.kind), **given)
from app.launch import main
sys.exit(main(sys.argv[1:]))
"""
"""The launcher on the small edition of the embedded world."""


def ask(port: int, method: str, address: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Send a request; return status and text of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, address, headers=headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace")


def drawn(port: int, cookies: str, page: str) -> tuple[bytes, list[str]]:
    """Open a page by websocket; return everything that the server sent within some seconds, and errors."""
    sent: list[bytes] = []
    viewer = Viewer(f"127.0.0.1:{port}", cookies, page, on_message=lambda message: sent.append(message.SerializeToString()))
    asyncio.run(viewer.watch(12))
    return b"".join(sent), viewer.errors


@pytest.mark.extended
def test_the_real_server_answers_only_with_a_token(lab_home: Path, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log.txt"
    command = [sys.executable, "-c", SMALL, "--class", "--host", "127.0.0.1", "--no-demo", "--port", str(port)]
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        until(lambda: "to train" in log.read_text(), 300, log.read_text)
        links = re.findall(r"http://127\.0\.0\.1:\d+/\S*token=(\S+)", log.read_text())
        watch, edit = ({"Cookie": f"lab-class-{port}={token}"} for token in links)
        script = "/static/js/" + next((Path(streamlit.__file__).parent / "static/static/js").glob("index.*.js")).name
        for method, address in [*REQUESTS, ("GET", script)]:
            status, text = ask(port, method, address)
            assert (status, method == "HEAD" or text == REFUSAL) == (403, True), (method, address)
        for headers in (watch, edit):
            assert ask(port, "GET", "/_stcore/health", headers) == (200, "ok")
            assert ask(port, "GET", "/learn", headers)[0] == ask(port, "GET", script, headers)[0] == 200
        assert ask(port, "GET", f"/learn?token={links[0]}")[0] == 200
        assert ask(port, "PUT", "/_stcore/upload_file/a/b", watch) == (403, WHY)
        assert "another site" in ask(port, "PUT", "/_stcore/upload_file/a/b", edit | {"Origin": "http://127.0.0.1:1"})[1]
        assert len(list((lab_home / "pairs").glob("*.sqlite"))) == 1, "the world's pairs are there before a page asks for them"
        assert ask(port, "PUT", "/_stcore/upload_file/a/b", edit)[1] not in (WHY, REFUSAL)
        _, errors = drawn(port, "", "new-run")
        assert "403" in errors[0]
        page, errors = drawn(port, watch["Cookie"], "new-run")
        assert errors == []
        assert WHY.encode() in page
        assert b"Start the run" not in page
        page, errors = drawn(port, edit["Cookie"], "new-run")
        assert errors == []
        assert b"Start the run" in page
        assert not any(token.encode() in page for token in links)
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0
    finally:
        server.kill()
    text = log.read_text()
    assert "Traceback" not in text
    assert [text.count(token) for token in links] == [1, 1], "the tokens are in the two links alone"
