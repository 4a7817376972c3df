"""The random clicks of `tests.bench` fail where a page lacks what every page must have."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench.clicking import Clicker, Failure

Error = pytest.importorskip("playwright.sync_api", reason="Playwright's Python package is not installed.").Error


class Page:
    """A page of a browser that lacks everything that is waited for or clicked, except what it is told to have."""

    keyboard: Any = SimpleNamespace(press=lambda key: None)

    def __init__(self, *has: str) -> None:
        self.has = has

    def goto(self, *_: Any, **__: Any) -> None:
        if "address" not in self.has:
            raise Error("net::ERR_CONNECTION_REFUSED")

    def evaluate(self, _: str) -> str:
        return "notRunning"

    def wait_for_timeout(self, _: float) -> None:
        return

    def get_by_role(self, role: str, **_: Any) -> Any:
        def wait(*_: Any, **__: Any) -> None:
            if role not in self.has:
                raise Error("Timeout 30000ms exceeded.")

        part = SimpleNamespace(wait_for=wait, click=wait, fill=wait, press=wait, is_enabled=lambda: True)
        return SimpleNamespace(first=part, last=part)


@pytest.mark.parametrize(
    ("action", "has", "lacks"),
    [
        ("menu", (), "the menu's link to"),
        ("deep_link", (), "an answer at /"),
        ("deep_link", ("address",), "a menu at /"),
        ("start_small_run", (), "an answer at /new-run"),
        ("start_small_run", ("address",), "the steps of New run"),
        ("start_small_run", ("address", "spinbutton"), "a Start button on New run"),
    ],
)
def test_random_clicks_fail_where_a_page_lacks_what_it_must_have(action: str, has: tuple[str, ...], lacks: str) -> None:
    server: Any = SimpleNamespace(address="http://127.0.0.1:1")
    clicker = Clicker(random.Random(0), server, Page(*has), [], str)
    with pytest.raises(Failure, match=f"the page lacks {lacks}"):
        getattr(clicker, action)()


def test_random_clicks_take_what_a_page_has() -> None:
    clicker = Clicker(random.Random(0), SimpleNamespace(address=""), Page("address", "spinbutton", "button", "link"), [], str)  # type: ignore[arg-type]
    assert clicker.start_small_run().startswith("start a run of")
    assert clicker.menu().startswith("menu")
    assert clicker.deep_link().startswith("open /")
