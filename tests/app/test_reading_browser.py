"""What a person can read and do on the pages, in a browser: nothing cut, nothing faint, zoom and findings kept, keys, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from app.text.run_text import duration
from lab.run.handle import Run
from lab.store import StoreWriter
from tests.app.browsing import body
from tests.app.reading import cut_texts, faint_texts
from tests.app.test_diagnosis import displaced
from tests.app.test_live_browser import FIGURES, PATIENCE, START, area, drag, figure, opened
from tests.helpers import until

pytestmark = pytest.mark.browser

WIDTHS = (900, 1280, 1920)
PAGES = ("/", "/inspect", "/new-run", "/compare", "/pairs", "/learn", "/guide")
HOSTILE = "a <b>bold</b> <img src=x> $x$ run"


@pytest.fixture
def runs(store_run: Callable[..., Run]) -> Run:
    """A run with findings, and one whose name is markup."""
    store_run("other", objective="alpha_dpo", steps=40)
    run = displaced(store_run)
    about = run.dir / "run.json"
    content = json.loads(about.read_text())
    content["config"]["name"] = HOSTILE
    about.write_text(json.dumps(content))
    return run


def settled(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton], [data-testid=stStatusWidget]')")
    page.wait_for_timeout(1200)


@pytest.mark.parametrize(
    ("scheme", "pages", "widths"),
    [
        pytest.param("light", PAGES[:3], WIDTHS, id="light"),
        pytest.param("light", PAGES[3:], WIDTHS, id="light, other pages", marks=pytest.mark.slow),
        pytest.param("dark", PAGES, (), id="dark", marks=pytest.mark.slow),
    ],
)
def test_no_text_is_cut_or_faint_on_any_page(
    dashboard: str, runs: Run, page: Any, scheme: str, pages: tuple[str, ...], widths: tuple[int, ...]
) -> None:
    page.emulate_media(color_scheme=scheme)
    wrong = []
    for path in pages:
        page.goto(f"{dashboard}{path}?run={runs.dir.name}" if path in PAGES[:2] else f"{dashboard}{path}")
        page.locator("[data-testid=stMain] button, [data-testid=stMain] input").filter(visible=True).first.wait_for()
        settled(page, WIDTHS[0])
        if path == "/":
            page.locator("summary", has_text="finding").click()
            page.get_by_text("All 1").first.wait_for()
        for width in widths:
            settled(page, width)
            wrong += [f"{path} at {width}: {message}" for message in cut_texts(page)]
        wrong += [f"{path} {scheme}: {message}" for message in faint_texts(page)]
    assert wrong == []


def test_zoom_outlives_a_tab_and_the_first_row_is_whole(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    run = store_run("one", state="running", steps=400, done=200, warnings=("too hot",))
    opened(page, dashboard, run)
    boxes = [page.locator(".lab-figure").nth(place).bounding_box() for place in range(3)]
    assert max(box["y"] + box["height"] for box in boxes) <= 800
    page.locator("summary", has_text="warning").click()
    page.get_by_text("too hot").wait_for()
    drag(page, "Loss", (0.3, 0.5), (0.6, 0.52))
    area(page, "Rewards of both sides", ".legendtoggle").click()
    until(lambda: figure(page, "Rewards of both sides").get("hidden"), PATIENCE)
    zoomed = figure(page, "Loss")
    page.get_by_role("tab", name="Gradient").click()
    until(lambda: figure(page, "Gradient norm"), PATIENCE, lambda: body(page))
    page.get_by_role("tab", name="Curves").click()
    back = until(lambda: figure(page, "Loss"), PATIENCE, lambda: body(page))
    assert back["mark"] != zoomed["mark"], "another element"
    until(lambda: figure(page, "Loss")["range"] == zoomed["range"], PATIENCE, lambda: str(figure(page, "Loss")))
    until(lambda: figure(page, "Rewards of both sides").get("hidden"), PATIENCE, lambda: str(page.evaluate(FIGURES)))
    assert page.get_by_text("too hot").is_visible(), "what was opened stays open"
    area(page, "Loss").dblclick()
    until(lambda: figure(page, "Loss")["range"] != zoomed["range"], PATIENCE)


def test_keys_on_the_bar_the_list_of_keys_and_the_figures_of_the_head(
    dashboard: str, store_run: Callable[..., Run], page: Any
) -> None:
    run = store_run("one", state="finished", steps=60)
    store = StoreWriter(run.dir)
    for step in range(1, 61):
        store.scalars(step, {"seconds/trained": 3.0 * step})
    store.close()
    opened(page, dashboard, run)
    page.locator(".lab-travel input").focus()
    page.keyboard.press(",")
    until(lambda: "the past: step 59 of 60" in body(page), PATIENCE, lambda: body(page))
    until(lambda: "step 59 of 60" in page.get_by_test_id("stProgress").inner_text().lower(), PATIENCE, lambda: body(page))
    row = run.scalars(["loss", "pairs_per_second"]).loc[59]
    rate = float(row["pairs_per_second"])
    expected = [f"{row['loss']:.4g}", f"{rate:,.1f}", "2 min 57 s", duration(8 / rate)]
    values = page.get_by_test_id("stMetricValue")
    until(lambda: [text.strip() for text in values.all_inner_texts()] == expected, PATIENCE, lambda: str(values.all_inner_texts()))
    page.keyboard.press("?")
    page.get_by_text("back to the latest step").wait_for()


def test_a_refused_notification_says_so(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    page.add_init_script("window.Notification = {permission: 'denied', requestPermission: async () => 'denied'};")
    opened(page, dashboard, store_run("one", state="finished", steps=30))
    page.get_by_role("button", name="Notify me").click()
    page.get_by_text("The browser refuses notifications of this page").wait_for()


def test_a_name_is_text_in_every_legend_and_title(dashboard: str, runs: Run, page: Any) -> None:
    page.goto(f"{dashboard}/compare?runs={runs.dir.name},other")
    until(lambda: page.evaluate(FIGURES), START, lambda: body(page))
    legend = page.locator(".lab-figure .legendtext").all_inner_texts()
    assert any(HOSTILE in re.sub(r"\s+", " ", text) for text in page.locator(".lab-figure .legendtext").all_text_contents()), legend
    assert page.locator(".lab-figure .legendtext tspan[style*=bold], [data-testid=stMain] img[src='x']").count() == 0
