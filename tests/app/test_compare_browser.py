"""What only a browser can show of the Compare page: curves of living runs that move beneath a zoom that stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.run import Run
from tests.app.test_live_browser import address, moving, page, refreshes, zoom  # noqa: F401 - fixtures

pytestmark = pytest.mark.browser


def test_a_living_run_moves_on_beneath_a_zoom(
    page: Any,  # noqa: F811
    address: str,  # noqa: F811
    moving: Run,  # noqa: F811
    store_run: Callable[..., Run],
) -> None:
    store_run("still", objective="dpo", steps=300)
    page.goto(address)  # and not straight to the page: Streamlit's own script would look for its server below that path first
    page.get_by_role("link", name="Compare").click(timeout=120_000)
    page.get_by_text("A sgdpo", exact=True).first.wait_for(timeout=120_000)
    page.wait_for_selector(".lab-figure .nsewdrag", timeout=300_000)
    assert page.evaluate("document.querySelector('.lab-figure')._fullData.filter((t) => t.showlegend).map((t) => t.name)") == [
        "A sgdpo",
        "B dpo",
    ]
    zoomed = zoom(page)
    for state in refreshes(page, 3):
        assert state["range"] == zoomed["range"]
        assert state["mark"] == zoomed["mark"], "the same element, not a new one"
    page.get_by_role("radio", name="Pair by pair").or_(page.get_by_role("button", name="Pair by pair", exact=True)).first.click()
    page.get_by_text("pairs that differ most").wait_for(timeout=60_000)
    assert page.url.endswith(f"runs={moving.dir.name}%2Cstill") or page.url.endswith(f"runs={moving.dir.name},still")
