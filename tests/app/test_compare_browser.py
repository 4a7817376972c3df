"""What only a browser can show of the Compare page: curves of living runs that move beneath a zoom that stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lab.run.handle import Run
from tests.app.browsing import address_of, body
from tests.app.test_live_browser import PATIENCE, START, click_on_a_point, drag, figure, moving  # noqa: F401 - a fixture
from tests.helpers import until

pytestmark = pytest.mark.browser

NAMES = "(document.querySelector('.lab-figure')._fullData ?? []).filter((t) => t.showlegend).map((t) => t.name)"
MARGIN = "Reward margin"


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
    until(lambda: figure(page, MARGIN), START, lambda: body(page))
    until(lambda: page.evaluate(NAMES) == ["A sgdpo", "B dpo"], PATIENCE, lambda: page.evaluate(NAMES))
    drag(page, figure(page, MARGIN)["title"].split("  <span")[0], (0.3, 0.5), (0.6, 0.52))  # its note counts what comes
    zoomed = figure(page, MARGIN)
    for _ in range(3):
        last = figure(page, MARGIN)["last"]
        state = until(lambda: now if (now := figure(page, MARGIN))["last"] > last else {}, PATIENCE, lambda: body(page))  # noqa: B023
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
    until(lambda: figure(page, title), PATIENCE, lambda: body(page))
    click_on_a_point(page, title, "circle")
    until(lambda: re.search(r"[?&]pair=pair-\d+", address_of(page)), PATIENCE, lambda: address_of(page))


def test_seeds_share_a_band_and_the_address_keeps_the_choice(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    names = [f"{objective}-{seed}" for objective in ("dpo", "sgdpo") for seed in range(2)]
    for name in names:
        store_run(name, objective=name[:-2], seed=int(name[-1]), steps=60)
    page.goto(f"{dashboard}/compare?runs={','.join(names)}")
    until(lambda: figure(page, MARGIN), START, lambda: body(page))
    bands = [f"{label}, 2 seeds, 95 % band (t)" for label in ("A dpo", "B sgdpo")]
    until(lambda: page.evaluate(NAMES) == bands, PATIENCE, lambda: page.evaluate(NAMES))
    page.get_by_text("A − B", exact=True).click()
    until(lambda: figure(page, f"{MARGIN}: A − B"), PATIENCE, lambda: body(page))
    assert "minus=true" in address_of(page)
    page.reload()
    until(lambda: figure(page, f"{MARGIN}: A − B"), START, lambda: body(page))
    page.get_by_text("Answers", exact=True).click()
    page.get_by_text("A dpo, seed 0 at step 60").wait_for()
    assert re.search(r"[?&]part=Answers", address_of(page))
