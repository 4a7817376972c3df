"""What only a browser can show of the Compare page: curves of living runs that move beneath a zoom that stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lab.run.handle import Run
from tests.app.browsing import address_of, body
from tests.app.test_live_browser import FIGURES, PATIENCE, START, click_on_a_point, drag, moving  # noqa: F401 - a fixture
from tests.helpers import until

pytestmark = pytest.mark.browser

NAMES = "document.querySelector('.lab-figure')._fullData.filter((t) => t.showlegend).map((t) => t.name)"


def first(page: Any) -> dict[str, Any]:
    """The state of the page's first figure; empty while there is none."""
    return next(iter(page.evaluate(FIGURES)), {})


def pair_by_pair(page: Any) -> Any:
    """What one clicks to see the pairs."""
    return page.get_by_role("radio", name="Pair by pair").or_(page.get_by_role("button", name="Pair by pair", exact=True)).first


def test_a_living_run_moves_on_beneath_a_zoom(
    dashboard: str,
    moving: Run,  # noqa: F811
    store_run: Callable[..., Run],
    page: Any,
) -> None:
    store_run("still", objective="dpo", steps=300)
    page.goto(dashboard)  # and not straight to the page: Streamlit's own script would look for its server below that path first
    page.get_by_role("link", name="Compare").click()
    page.get_by_text("A sgdpo", exact=True).first.wait_for()
    until(lambda: first(page), START, lambda: body(page))
    assert page.evaluate(NAMES) == ["A sgdpo", "B dpo"]
    drag(page, first(page)["title"].split("  <span")[0], (0.3, 0.5), (0.6, 0.52))  # its note counts what comes
    zoomed = first(page)
    for _ in range(3):
        last = first(page)["last"]
        state = until(lambda: now if (now := first(page))["last"] > last else {}, PATIENCE, lambda: body(page))  # noqa: B023
        assert state["range"] == zoomed["range"]
        assert state["mark"] == zoomed["mark"], "the same element, not a new one"
    pair_by_pair(page).click()
    page.get_by_text("pairs that differ most").wait_for()
    assert address_of(page).replace("%2C", ",").endswith(f"runs={moving.dir.name},still")


def test_a_click_on_a_pair_opens_it_under_both_runs(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    for name, objective in (("one", "sgdpo"), ("other", "dpo")):
        store_run(name, objective=objective, state="finished", steps=60)
    page.goto(dashboard)
    page.get_by_role("link", name="Compare").click()
    pair_by_pair(page).click(timeout=1000 * START)
    title = "Log-ratio of the chosen answer, pair by pair"
    until(lambda: first(page).get("title", "").startswith(title), PATIENCE, lambda: body(page))
    click_on_a_point(page, title, "circle")
    until(lambda: re.search(r"[?&]pair=pair-\d+", address_of(page)), PATIENCE, lambda: address_of(page))
