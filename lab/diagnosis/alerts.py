"""Alerts outside the dashboard: a line in the terminal, or a JSON POST to a webhook. Both are off by default.

The webhook must be on this machine or on an explicitly allowed host; any other is refused before the run is created. It is called
directly (no proxy), without redirects, with a short timeout and a few tries. A failure is one warning and never stops training.
Alerts hold messages, numbers and ids of pairs, never the text of pairs and no local paths.
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
"""Seconds to wait for the response of the webhook."""
TRIES = 3
PAUSE = 0.5
"""Seconds before the second try; doubled before every further one."""
WAITING = 100
"""Alerts queued for a slow webhook; further ones are dropped."""
PATIENCE = 20.0
"""Seconds in which the last alerts of a run must be sent."""

LOOPBACK_NAMES = ("localhost",)
SIGNS = {"notice": "·", "warning": "!", "error": "!!"}


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        run: Name of the run's folder.
        step: Step of the run.
        kind: Kind of a finding, or the state in which the run ended.
        severity: "notice", "warning" or "error".
        message: What happened.
        numbers: The numbers behind it.
        pairs: Ids of the pairs that cause it.
    """

    run: str
    step: int
    kind: str
    severity: str
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()

    def line(self) -> str:
        """Format the alert as one line for a terminal."""
        return f"{SIGNS.get(self.severity, '!')} {self.run}, step {self.step:,}: {' '.join(self.message.split())}"


@dataclass(frozen=True)
class Hook:
    """Address of a webhook that `parse_hook` has checked."""

    scheme: str
    host: str
    port: int | None
    path: str
    local: bool


def parse_hook(url: str, hosts: str = "") -> Hook:
    """Parse and check the address of a webhook.

    Args:
        url: The address.
        hosts: Allowed hosts besides this machine, comma-separated: "example.org", or "example.org:8443" for one port.

    Raises:
        ValueError: The address is invalid, holds credentials, or its host is not allowed.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise ValueError(
            f"the webhook {url!r} is not a valid address ({error}); give one like http://127.0.0.1:9000/alerts"
        ) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"the webhook {url!r} is not a web address; give one like http://127.0.0.1:9000/alerts")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the webhook's address contains a user name or password, which would be stored with the run; remove it")
    local = is_loopback(host)
    allowed = [name.strip().lower().rstrip(".") for name in hosts.split(",") if name.strip()]
    if not local and host.lower() not in allowed and f"{host.lower()}:{port}" not in allowed:
        raise ValueError(
            f"alerts may go to this machine or to an allowed host, and the webhook is on {host!r}; set alert_hosts={host!r} to "
            "allow it"
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Hook(parts.scheme, host, port, path, local)


def is_loopback(host: str) -> bool:
    """Return whether a host in an address denotes this machine: 127.0.0.0/8, ::1 or localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK_NAMES


def post(hook: Hook, content: Mapping[str, Any]) -> None:
    """Send JSON to a webhook once.

    Raises:
        OSError: It cannot be reached.
        http.client.HTTPException: Its response is invalid.
        ValueError: It rejects the alert, redirects, or its name leads to another machine.
    """
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
        raise ValueError(f"it returned {status}, a redirect, which is not followed")
    if status >= 400:
        raise ValueError(f"it returned {status}")


def _plain(value: Any) -> Any:
    """Convert a value for JSON: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


class Alerts:
    """Sends alerts from a background thread. `send` returns at once, and no method raises.

    Args:
        terminal: Print each alert on standard error, with a bell on a terminal.
        hook: A webhook, or None.
        warn: Called once, from the background thread, with a message when the webhook fails; later alerts are still tried.
    """

    def __init__(self, *, terminal: bool = False, hook: Hook | None = None, warn: Callable[[str], None] | None = None) -> None:
        self._terminal, self._hook = terminal, hook
        self._warn = warn or (lambda message: None)
        self._failed = False
        self._queue: queue.Queue[Alert | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None

    def send(self, alert: Alert) -> None:
        """Print an alert and queue it for the webhook."""
        if self._terminal:
            print_alert(alert)
        if self._hook is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._warn_once("it is too slow, and alerts were dropped")

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until the queued alerts are sent, at most `patience` seconds."""
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
                    if (
                        isinstance(error, ValueError) or attempt == TRIES - 1
                    ):  # a webhook that rejects an alert would reject it again
                        self._warn_once(reason)
                        break
                    time.sleep(PAUSE * 2**attempt)

    def _warn_once(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            assert self._hook is not None
            message = f"The webhook on {self._hook.host} did not accept an alert ({reason}); training continues."
            log.warning("%s", message)
            self._warn(message)


def print_alert(alert: Alert) -> None:
    """Print an alert on standard error, with a bell if that is a terminal."""
    try:
        bell = "\a" if sys.stderr.isatty() else ""
        print(f"{bell}{alert.line()}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):  # the terminal was closed
        log.debug("The alert could not be printed: %s", alert.message)
