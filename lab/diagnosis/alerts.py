"""Alerts outside of any page: a line in the terminal, a POST of JSON to a webhook. Off unless somebody asks for them.

The webhook may be on this machine, or on a host that is named in so many words; anything else is refused before the run is made.
It is reached directly (no proxy), follows no redirect, gets a few seconds and a few tries, and a failure is one warning: whatever
it does, training goes on. What is sent holds words, numbers and ids of pairs, never their text, and no path of this machine.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds the webhook gets for an answer."""
TRIES = 3
PAUSE = 0.5
"""Seconds before the second try; doubled before every further one."""
WAITING = 100
"""Alerts that may wait for a slow webhook before further ones are left out."""
PATIENCE = 20.0
"""Seconds the last alerts of a run get."""

LOOPBACK_NAMES = ("localhost",)
SIGNS = {"notice": "·", "warning": "!", "error": "!!"}


@dataclass(frozen=True)
class Alert:
    """Something people want to be told of at once.

    run: its folder's name.   kind: a kind of the diagnosis, or the state the run has come to.   severity: notice, warning, error.
    """

    run: str
    step: int
    kind: str
    severity: str
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()

    def line(self) -> str:
        """The alert on a line of a terminal."""
        return f"{SIGNS.get(self.severity, '!')} {self.run}, step {self.step:,}: {' '.join(self.message.split())}"


@dataclass(frozen=True)
class Hook:
    """Where a webhook is: an address that `parse_hook` has allowed."""

    scheme: str
    host: str
    port: int | None
    path: str
    local: bool


def parse_hook(url: str, hosts: str = "") -> Hook:
    """The address of a webhook. Raises ValueError, in one sentence, for one that alerts must not go to.

    hosts: names of hosts that are allowed beside this machine, with commas between; "example.org", or "example.org:8443" for
    one port.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise ValueError(f"the webhook {url!r} is no address ({error}); give one like http://127.0.0.1:9000/alerts") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the webhook {url!r} is no web address; give one like http://127.0.0.1:9000/alerts")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the webhook's address holds a user name or password, which would be stored with the run; leave it out")
    local = is_loopback(host)
    allowed = [name.strip().lower().rstrip(".") for name in hosts.split(",") if name.strip()]
    if not local and host.lower() not in allowed and f"{host.lower()}:{port}" not in allowed:
        raise ValueError(
            f"alerts go to this machine, or to a host that is named: the webhook is on {host!r}, so add alert_hosts={host!r} "
            "if they may go there"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Hook(parts.scheme, host, port, path, local)


def is_loopback(host: str) -> bool:
    """Whether a host of an address is this machine, by its own words: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK_NAMES


def post(hook: Hook, content: Mapping[str, Any]) -> None:
    """Send JSON to a webhook once. Raises OSError or HTTPException where it cannot be reached, ValueError where it declines."""
    kind = http.client.HTTPSConnection if hook.scheme == "https" else http.client.HTTPConnection
    connection = kind(hook.host, hook.port, timeout=TIMEOUT)
    try:
        connection.connect()
        address = connection.sock.getpeername()[0]
        if hook.local and not ipaddress.ip_address(address.split("%")[0]).is_loopback:
            raise ValueError(f"{hook.host} leads to {address}, which is another machine")
        body = json.dumps(_plain(content), ensure_ascii=False, allow_nan=False).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "preference-lab"}
        connection.request("POST", hook.path, body, headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if 300 <= status < 400:
        raise ValueError(f"it answered {status}, a redirect, which is not followed")
    if status >= 400:
        raise ValueError(f"it answered {status}")


def _plain(value: Any) -> Any:
    """The same with None in the place of numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


class Alerts:
    """Tells people of alerts, from a thread of its own; `tell` returns at once and nothing here ever raises.

    terminal: a line on standard error, with a bell where that is a terminal.   hook: a webhook, or None.
    warn(words): called once, from that thread, when the webhook has failed; later alerts are tried all the same.
    """

    def __init__(self, *, terminal: bool = False, hook: Hook | None = None, warn: Callable[[str], None] | None = None) -> None:
        self._terminal, self._hook = terminal, hook
        self._warn = warn or (lambda message: None)
        self._failed = False
        self._queue: queue.Queue[Alert | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def tell(self, alert: Alert) -> None:
        """Hand an alert over."""
        if self._terminal:
            say(alert)
        if self._hook is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._complain("it is too slow, and alerts were left out")

    def close(self, patience: float = PATIENCE) -> None:
        """Let what waits be sent; gives up after `patience` seconds."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=patience)
        except queue.Full:
            return
        self._thread.join(patience)
        self._thread = None

    def _work(self) -> None:
        assert self._hook is not None
        while (alert := self._queue.get()) is not None:
            content = {"source": "preference-lab", "time": time.time(), **asdict(alert)}
            for attempt in range(TRIES):
                try:
                    post(self._hook, content)
                    break
                except (OSError, http.client.HTTPException, ValueError) as error:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    if isinstance(error, ValueError) or attempt == TRIES - 1:  # who declines would decline again
                        self._complain(reason)
                        break
                    time.sleep(PAUSE * 2**attempt)

    def _complain(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            assert self._hook is not None
            message = f"The webhook on {self._hook.host} did not take an alert ({reason}); the run goes on."
            log.warning("%s", message)
            self._warn(message)


def say(alert: Alert) -> None:
    """Print an alert on standard error, with a bell where that is a terminal."""
    try:
        bell = "\a" if sys.stderr.isatty() else ""
        print(f"{bell}{alert.line()}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):  # a terminal that is gone
        log.debug("There is no terminal for the alert: %s", alert.message)
