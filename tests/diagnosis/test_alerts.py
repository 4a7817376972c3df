"""Alerts outside of the page: what the terminal and a webhook get, where a webhook may be, and that nothing of it stops a run."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from lab.diagnosis import alerts
from lab.diagnosis.alerts import Alert, Alerts, parse_hook, post
from lab.run.config import ConfigError, TrainConfig
from tests.diagnosis import troubled


@pytest.fixture
def server():
    """A webhook on this machine: `.got` holds what it was sent, `.answers` what it says next (200 when empty)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((self.path, json.loads(body)))
            status = self.server.answers.pop(0) if self.server.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    instance = HTTPServer(("127.0.0.1", 0), Handler)
    instance.got, instance.answers = [], []
    instance.url = f"http://127.0.0.1:{instance.server_port}/alerts?from=lab"
    thread = threading.Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    yield instance
    instance.shutdown()
    instance.server_close()


ALERT = Alert("run-1", 12, "loss_spike", "warning", "The loss\njumped.", {"height": float("nan"), "loss": 2.5}, ("a", "b"))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("http://127.0.0.1:9000/x", ""),
        ("http://127.8.8.8/x", ""),
        ("http://[::1]:9000", ""),
        ("https://localhost/x?y=1", ""),
        ("https://hooks.example.org/x", "hooks.example.org"),
        ("https://HOOKS.example.org./x", "other.org, hooks.Example.org"),
        ("https://hooks.example.org:8443/x", "hooks.example.org:8443"),
    ],
)
def test_this_machine_and_named_hosts_are_allowed(url, hosts):
    assert parse_hook(url, hosts).host


@pytest.mark.parametrize(
    ("url", "hosts", "why"),
    [
        ("http://example.org/x", "", "set alert_hosts='example.org'"),
        ("http://127.0.0.1.example.org/x", "", "is on '127.0.0.1.example.org'"),
        ("http://localhost.example.org/x", "localhost", "is on 'localhost.example.org'"),
        ("http://sub.example.org/x", "example.org", "is on 'sub.example.org'"),
        ("http://example.org.evil.net/x", "example.org", "is on 'example.org.evil.net'"),
        ("http://127.0.0.1@evil.net/x", "", "user name or password"),
        ("http://evil.net:9000/x", "evil.net:8443", "is on 'evil.net'"),
        ("http://0x7f000001/x", "", "is on '0x7f000001'"),
        ("http://10.0.0.1/x", "", "is on '10.0.0.1'"),
        ("http://0.0.0.0/x", "", "is on '0.0.0.0'"),
        ("ftp://127.0.0.1/x", "", "not a web address"),
        ("file:///etc/passwd", "", "not a web address"),
        ("127.0.0.1:9000", "", "not a web address"),
        ("http://127.0.0.1:port/", "", "not a valid address"),
    ],
)
def test_every_other_address_is_refused_before_a_run_is_made(url, hosts, why):
    with pytest.raises(ConfigError) as refused:
        TrainConfig.parse(objective="dpo", alert_webhook=url, alert_hosts=hosts)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_name_of_this_machine_that_leads_elsewhere_gets_nothing(monkeypatch, server):
    monkeypatch.setattr(alerts.ipaddress.IPv4Address, "is_loopback", property(lambda self: False))
    with pytest.raises(ValueError, match=r"leads to 127\.0\.0\.1, which is another machine"):
        post(alerts.Hook("http", "localhost", server.server_port, "/", local=True), {"a": 1})
    assert not server.got


def test_a_webhook_gets_json_without_text_of_pairs(server):
    sender = Alerts(hook=parse_hook(server.url))
    sender.send(ALERT)
    sender.close()
    ((path, content),) = server.got
    assert path == "/alerts?from=lab"
    assert content.pop("time") > 0
    assert content == {
        "source": "preference-lab",
        "run": "run-1",
        "step": 12,
        "kind": "loss_spike",
        "severity": "warning",
        "message": "The loss\njumped.",
        "numbers": {"height": None, "loss": 2.5},
        "pairs": ["a", "b"],
    }


def test_redirects_are_not_followed_and_failures_are_said_once(server, monkeypatch):
    monkeypatch.setattr(alerts, "PAUSE", 0.01)
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")  # a proxy would carry the alert off this machine
    server.answers = [302, 500]
    warnings: list[str] = []
    sender = Alerts(hook=parse_hook(server.url), warn=warnings.append)
    for _ in range(3):
        sender.send(ALERT)
    sender.close()
    assert [path for path, _ in server.got] == ["/alerts?from=lab"] * 3
    assert len(warnings) == 1
    assert "it returned 302, a redirect, which is not followed" in warnings[0]


def test_tries_are_bounded(monkeypatch):
    tried: list[int] = []

    def refuse(hook, content):
        tried.append(1)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(alerts, "PAUSE", 0.001)
    monkeypatch.setattr(alerts, "post", refuse)
    warnings: list[str] = []
    sender = Alerts(hook=parse_hook("http://127.0.0.1:1/"), warn=warnings.append)
    sender.send(ALERT)
    sender.send(ALERT)
    sender.close()
    assert len(tried) == 2 * alerts.TRIES
    assert warnings == ["The webhook on 127.0.0.1 did not accept an alert (refused); training continues."]


def test_a_run_tells_the_webhook_what_it_finds_and_how_it_ends(server, model_folder):
    run = troubled.run(
        {"name": "simpo", "beta": 0.1},
        troubled.told_apart(8),
        model_folder("gpt2"),
        steps=2,
        probe_budget=0,
        alert_webhook=server.url,
    )
    assert [(content["kind"], content["run"]) for _, content in server.got] == [
        ("parameters", run.dir.name),
        ("nothing_held_out", run.dir.name),
        ("finished", run.dir.name),
    ]
    assert str(run.dir) not in json.dumps(server.got)
    from lab.training.trackers import hyper_parameters

    assert "alert_webhook" not in hyper_parameters(run.config)


def test_a_webhook_that_is_gone_is_one_warning(model_folder, monkeypatch):
    monkeypatch.setattr(alerts, "PAUSE", 0.01)
    run = troubled.run(
        {"name": "simpo", "beta": 0.1},
        troubled.told_apart(8),
        model_folder("gpt2"),
        steps=2,
        probe_budget=0,
        alert_webhook="http://127.0.0.1:9/",
    )
    assert run.state == "finished"
    warnings = [detail["message"] for detail in run.events("warning")["detail"] if "webhook" in detail["message"]]
    assert len(warnings) == 1


def test_the_terminal_gets_a_line(capsys):
    Alerts(terminal=True).send(ALERT)
    out = capsys.readouterr()
    assert out.err == "! run-1, step 12: The loss jumped.\n"  # no bell where it is no terminal
    assert not out.out
