"""Every address of the lab opens, and nothing on the way there fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.serving import FILLED_IN
from lab.run.handle import Run
from tests.app.browsing import address_of, body
from tests.helpers import until

pytestmark = pytest.mark.browser

FIRST = {
    "": "Step 60 of 60",
    "live": "Step 60 of 60",
    "inspect": "Pair pair-",
    "new-run": "Start the run",
    "runs": "2 runs",
    "experiments": "Declare an experiment",
    "compare": "x axis",
    "pairs": "Evidence",
    "learn": "Objective A",
    "guide": "Search the guide",
}
"""Path of a page -> words that it shows once it is drawn."""


def test_every_address_opens_without_a_failed_request(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    for name, objective in (("one", "sgdpo"), ("other", "dpo")):
        store_run(name, objective=objective, steps=60)
    assert {*FILLED_IN, "live"} == set(FIRST)
    failed: list[str] = []
    page.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
    for path, message in FIRST.items():
        for ending in ("", "/" if path else "", "?run=one"):
            page.goto(f"{dashboard}/{path}{ending}")
            until(lambda: message in body(page), 120, lambda: body(page))  # noqa: B023
            assert page.get_by_role("dialog").count() == 0, body(page)
        assert ("run=one" in address_of(page)) or path not in ("", "live", "inspect"), address_of(page)
    assert failed == []
