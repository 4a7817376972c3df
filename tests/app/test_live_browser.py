"""What only a browser can show of the Live page: figures that are updated in place, offline; time travel, clicks and keys."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.run.handle import Run
from lab.store import StoreWriter
from tests.app.browsing import address_of, body
from tests.app.conftest import fill
from tests.helpers import until

pytestmark = pytest.mark.browser

STEPS = 100_000
REFRESHES = 20
START, PATIENCE = 600.0, 120.0
"""Seconds to wait for the first page, for which the server loads torch, and for what must come: the machine may be busy."""

FIGURES = """() => [...document.querySelectorAll(".lab-figure")].filter((figure) => figure._fullData).map((figure) => {
  figure.mark ??= Math.random();
  const traces = figure._fullData, steps = traces.find((trace) => trace.mode?.includes("lines"))?.x ?? [0];
  return {mark: figure.mark, title: figure.layout.title.text, range: [...(figure.layout.xaxis?.range ?? [])],
          last: steps[steps.length - 1],
          hidden: traces.filter((trace) => trace.visible === "legendonly").map((trace) => trace.name),
          selected: traces.filter((trace) => trace.type === "scattergl")  // the arrows of the field are selected, too
            .reduce((sum, trace) => sum + (trace.selectedpoints?.length ?? 0), 0),
          width: figure.getBoundingClientRect().width};
})"""


@pytest.fixture
def moving(store_run: Callable[..., Run]) -> Iterator[Run]:
    """A run that looks alive and goes on by twenty steps a second."""
    run = store_run("moving", state="running", steps=STEPS, done=200)
    store, ending = StoreWriter(run.dir), threading.Event()

    def train() -> None:
        step = 200
        while not ending.wait(0.05):
            step += 1
            fill(store, "sgdpo", range(step, step + 1), STEPS)
            store.status(step=step)

    thread = threading.Thread(target=train)
    thread.start()
    yield run
    ending.set()
    thread.join()
    store.close()


def figure(page: Any, title: str) -> dict[str, Any]:
    """The state of the figure of that title; empty while it is not drawn."""
    return next((found for found in page.evaluate(FIGURES) if found["title"].startswith(title)), {})


def opened(page: Any, address: str, run: Run) -> None:
    page.goto(f"{address}/?run={run.dir.name}")
    until(lambda: len(page.evaluate(FIGURES)) == 8, START, lambda: body(page))


def refreshes(page: Any, count: int) -> Iterator[dict[str, Any]]:
    """The first figure's state after each of so many refreshes that brought new steps."""
    states = [figure(page, "Loss")]
    while len(states) <= count:
        states.append(until(lambda: _newer(page, states[-1]["last"]), PATIENCE, lambda: body(page)))
        yield states[-1]


def _newer(page: Any, last: int) -> dict[str, Any]:
    state = figure(page, "Loss")
    return state if state["last"] > last else {}


def area(page: Any, title: str, part: str = ".nsewdrag") -> Any:
    """A part of the figure of that title, for the mouse."""
    return page.locator(".lab-figure", has_text=title).locator(part).first


def drag(page: Any, title: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over a figure; places are shares of its plot's width and height."""
    page.locator(".lab-figure", has_text=title).first.scroll_into_view_if_needed()
    box = until(lambda: area(page, title).bounding_box(), PATIENCE, lambda: body(page))  # none while the figure is being updated
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def click_on_a_point(page: Any, title: str, kind: str) -> None:
    """Rest the mouse on the middle point of the figure's first trace of that kind (a type, or its points' symbol), and click."""
    page.locator(".lab-figure", has_text=title).first.scroll_into_view_if_needed()
    point = page.evaluate(
        """([title, kind]) => {
        const figure = [...document.querySelectorAll(".lab-figure")].find((f) => f.layout?.title.text.startsWith(title));
        const trace = figure._fullData.find((t) => t.type === kind || t.marker?.symbol === kind);
        const box = figure.getBoundingClientRect();
        const {xaxis, yaxis} = figure._fullLayout, n = Math.floor(trace.x.length / 2);
        return {x: box.x + xaxis._offset + xaxis.d2p(trace.x[n]), y: box.y + yaxis._offset + yaxis.d2p(trace.y[n])};}""",
        [title, kind],
    )
    page.mouse.move(point["x"] - 3, point["y"])
    page.wait_for_timeout(300)
    page.mouse.move(point["x"], point["y"])
    page.wait_for_timeout(300)
    page.mouse.click(point["x"], point["y"])


def bar(page: Any) -> str:
    """What the bar that travels in time says."""
    return str(page.locator(".lab-travel output").inner_text())


def test_zoom_and_hidden_traces_survive_refreshes_and_a_pause(dashboard: str, moving: Run, page: Any) -> None:
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    opened(page, dashboard, moving)
    first = figure(page, "Loss")
    drag(page, "Loss", (0.3, 0.5), (0.6, 0.52))
    zoomed = figure(page, "Loss")
    assert zoomed["range"] != first["range"]
    area(page, "Rewards of both sides", ".legendtoggle").click()
    hidden = until(lambda: figure(page, "Rewards of both sides")["hidden"], PATIENCE)
    received.clear()
    for state in refreshes(page, REFRESHES):
        assert state["range"] == zoomed["range"]
        assert state["mark"] == zoomed["mark"], "the same element, not a new one"
    assert sum(received) / REFRESHES < 8 * 60_000, "a refresh carries the open tab's eight figures and nothing else"
    assert figure(page, "Rewards of both sides")["hidden"] == hidden
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("Pausing: the run holds").wait_for()
    assert figure(page, "Loss")["range"] == zoomed["range"]
    assert figure(page, "Loss")["mark"] == zoomed["mark"]
    area(page, "Loss").dblclick()
    until(lambda: figure(page, "Loss")["range"] != zoomed["range"], PATIENCE)


def test_a_figure_that_nobody_sees_waits_until_it_is_seen(dashboard: str, moving: Run, page: Any) -> None:
    opened(page, dashboard, moving)
    title = page.evaluate(FIGURES)[-1]["title"][:12]  # its end counts the values
    page.evaluate("[...document.querySelectorAll('.lab-figure')].at(-1).style.marginTop = '3000px'")
    page.locator(".lab-figure").first.scroll_into_view_if_needed()
    # A busy browser needs a while to see what is out of sight.
    until(lambda: figure(page, "Loss")["last"] > figure(page, title)["last"] + 60, PATIENCE, lambda: str(page.evaluate(FIGURES)))
    waiting = figure(page, title)["last"]
    for _ in refreshes(page, 3):
        assert figure(page, title)["last"] == waiting
    page.locator(".lab-figure", has_text=title).first.scroll_into_view_if_needed()
    until(lambda: figure(page, title)["last"] > waiting, PATIENCE, lambda: str(figure(page, title)))


def test_a_figure_takes_the_width_it_is_given(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    opened(page, dashboard, store_run("one", state="finished", steps=30))
    narrow = figure(page, "Loss")["width"]
    page.set_viewport_size({"width": 1800, "height": 900})
    until(lambda: page.evaluate("document.querySelector('.lab-figure .main-svg').clientWidth") > narrow * 1.3, PATIENCE)


def test_travel_in_time_by_click_key_and_play_and_open_a_pair(dashboard: str, store_run: Callable[..., Run], page: Any) -> None:
    opened(page, dashboard, store_run("one", state="finished", steps=60))
    assert bar(page) == "latest: step 60"
    click_on_a_point(page, "Loss", "scatter")
    found = until(lambda: re.fullmatch(r"the past: step (\d+) of 60", bar(page)), PATIENCE, lambda: bar(page))
    step = int(found[1])
    until(lambda: figure(page, "Loss")["last"] == step, PATIENCE, lambda: str(figure(page, "Loss")))
    assert f"step={step}" in address_of(page)
    page.keyboard.press(",")
    until(lambda: figure(page, "Loss")["last"] == step - 1, PATIENCE, lambda: bar(page))
    page.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'L'}))")  # as a key comes with Caps Lock on
    until(lambda: bar(page) == "latest: step 60", PATIENCE, lambda: bar(page))

    page.locator(".lab-travel select").select_option(label="whole run in 8 s")
    page.get_by_role("button", name="Play", exact=True).click()
    seen: set[int] = set()

    def played() -> bool:
        seen.add(figure(page, "Loss").get("last", 0))
        return len(seen) > 4 and bar(page) == "latest: step 60"

    until(played, START, lambda: f"{seen} {bar(page)}")

    page.get_by_role("tab", name="Pairs").click()
    until(lambda: figure(page, "All pairs"), PATIENCE, lambda: body(page))
    area(page, "All pairs", "[data-title='Box Select']").click()
    drag(page, "All pairs", (0.02, 0.02), (0.98, 0.98))
    assert figure(page, "All pairs")["selected"] == 40
    page.keyboard.press(",")
    until(lambda: bar(page) == "the past: step 59 of 60", PATIENCE, lambda: bar(page))
    assert figure(page, "All pairs")["selected"] == 40

    click_on_a_point(page, "All pairs", "scattergl")
    until(lambda: re.search(r"[?&]pair=pair-\d+", address_of(page)), PATIENCE, lambda: address_of(page))
