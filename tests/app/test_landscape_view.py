"""Fields with a point to move: what is sent, which of Python's points move it, and all of it in a browser."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.widgets import landscape_view
from app.widgets.landscape_view import QUANTITIES, Placement, arrays_payload, check, inside, read_report, show_fields, view_payload
from lab.glossary import FIELD_QUANTITIES
from tests.app.browsing import body
from tests.app.fields import computed, interpolated, plain, served
from tests.app.reading import cut_texts, faint_texts
from tests.helpers import until

PATIENCE = 120.0
ROOT = Path(__file__).parents[2]


def test_every_quantity_is_offered() -> None:
    assert QUANTITIES.keys() == FIELD_QUANTITIES.keys()


def opened(packet: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head of a packet and the numbers behind it."""
    end = 20 + int.from_bytes(packet[16:20], "little")
    return json.loads(packet[20:end]), packet[end:]


def test_arrays_arrive_as_float32_under_an_id_of_their_content() -> None:
    arrays = plain().arrays
    name, sent = arrays_payload(arrays)
    assert sent[:16].decode() == name == arrays_payload(plain().arrays)[0] != arrays_payload(plain(shift=0.5).arrays)[0]
    head, numbers = opened(sent)
    N = arrays.attainable.size
    assert len(numbers) == 4 * N * (len(arrays.layers) + 2) + N
    *layers, first, second = np.frombuffer(numbers, np.float32, N * (len(arrays.layers) + 2)).reshape(-1, N)
    for layer, values in zip(head["layers"], layers, strict=True):
        assert np.array_equal(values, arrays.layers[layer["name"]].ravel()), layer["name"]
    assert first == pytest.approx(0.1, abs=1e-7)
    assert second == pytest.approx(-0.05, abs=1e-7)
    assert np.array_equal(np.frombuffer(numbers[-N:], np.uint8), arrays.attainable.ravel())
    by_name = {layer["name"]: layer for layer in head["layers"]}
    assert [by_name["loss"]["low"], by_name["loss"]["high"]] == [1.0, 6.0], "the hatched points do not count"
    assert not by_name["loss"]["logarithmic"]
    assert by_name["ratio"]["logarithmic"]
    assert by_name["ratio"]["low"] == -by_name["ratio"]["high"]


def test_infinite_and_undefined_values_are_sent() -> None:
    arrays = plain().arrays
    layers = dict(arrays.layers)
    for name in layers:
        values = layers[name].astype(np.float64)
        values[0, 0], values[1, 1], values[2, 2] = np.inf, np.nan, 1e300
        layers[name] = values
    head, _ = opened(arrays_payload(replace(arrays, layers=layers))[1])
    assert len(head["layers"]) == len(layers)
    assert all(math.isfinite(layer[side]) for layer in head["layers"] for side in ("low", "high"))


@pytest.mark.parametrize("dark", [False, True])
def test_the_view_gets_no_numbers_of_the_field(dark: bool) -> None:
    sent = view_payload([("DPO <b>", "abc")], Placement("m", (1.0, 2.0), "loss"), key="k", large=False, dark=dark)
    assert len(sent) < 5000
    read = json.loads(sent)
    assert read["pictures"] == [{"title": "DPO <b>", "id": "abc"}]
    assert all(re.fullmatch("#[0-9a-f]{6}", stop, re.I) for quantity in read["quantities"] for stop in quantity["colours"])


def test_a_point_outside_the_plane_lands_on_its_edge() -> None:
    assert inside(plain().arrays, (-7.0, 0.25)) == (-2.0, 0.25)


@pytest.mark.parametrize(
    ("count", "quantity", "message"), [(0, "loss", "0 fields"), (4, "loss", "4 fields"), (1, "slope", "no quantity 'slope'")]
)
def test_what_cannot_be_drawn_is_refused(count: int, quantity: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check([plain()] * count, quantity)


def test_planes_have_to_agree() -> None:
    one, other = plain(), plain()
    wider = replace(other, arrays=replace(other.arrays, log_x1=2 * other.arrays.log_x1))
    with pytest.raises(ValueError, match="another range"):
        check([one, wider], "loss")
    uneven = replace(other, arrays=replace(other.arrays, log_x2=other.arrays.log_x2**3))
    with pytest.raises(ValueError, match="not evenly spaced"):
        check([uneven], "loss")


@pytest.mark.parametrize(
    "report",
    [None, {}, "x", {"point": [1, 2], "quantity": "loss"}, {"point": [1, float("nan")], "quantity": "loss", "move": "m"}]
    + [{"point": point, "quantity": "loss", "move": "m"} for point in ([1], [1, "2"], None, {"x": 1})]
    + [{"point": [1, 2], "quantity": "slope", "move": "m"}],
)
def test_a_report_that_is_none_is_ignored(report: Any) -> None:
    assert read_report(report) is None


class Browser:
    """Stands for the browser: keeps what the view was sent, and reports a point as the view does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: dict[str, Any] = {}
        self.move = ""
        self.heard: list[Any] = []
        monkeypatch.setattr(landscape_view.st, "session_state", self.state)
        monkeypatch.setattr(landscape_view, "_hold", lambda **_: None)
        monkeypatch.setattr(landscape_view, "_mount", self.mount)

    def mount(self, *, key: str, data: bytes, on_report_change: Any) -> None:
        self.sent, self.listener = json.loads(data), on_report_change
        self.state.setdefault(key, {})

    def report(self, point: tuple[float, float], quantity: str = "loss", move: str | None = None) -> None:
        self.state["k"]["report"] = {"point": list(point), "quantity": quantity, "move": move or self.sent["move"]}
        self.listener()

    def draw(self, point: tuple[float, float], quantity: str = "loss") -> Any:
        return show_fields([plain()], point=point, quantity=quantity, key="k", on_change=lambda *told: self.heard.append(told))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(monkeypatch)


def test_an_echo_does_not_move_the_point(browser: Browser) -> None:
    assert browser.draw((0.0, 0.0)) == ((0.0, 0.0), "loss")
    first = browser.sent
    browser.report((1.0, -1.0))
    assert browser.heard == [((1.0, -1.0), "loss")]
    assert browser.draw((0.0, 0.0)) == ((1.0, -1.0), "loss"), "the page did not know yet"
    browser.report((1.5, -1.0), "ratio")
    assert browser.draw((1.0, -1.0)) == ((1.5, -1.0), "ratio"), "the page is one report late"
    assert browser.draw((1.5, -1.0), "ratio") == ((1.5, -1.0), "ratio")
    assert browser.sent == first, "nothing new is sent while only the browser moves the point"


def test_python_moves_the_point_also_to_where_it_was(browser: Browser) -> None:
    browser.draw((0.0, 0.0))
    first = browser.sent["move"]
    browser.report((1.0, -1.0))
    browser.draw((1.0, -1.0))
    assert browser.draw((0.0, 0.0)) == ((0.0, 0.0), "loss")
    assert browser.sent["move"] != first
    assert browser.sent["point"] == [0.0, 0.0]
    assert browser.draw((0.0, 0.0), "ratio") == ((0.0, 0.0), "ratio"), "a story may choose the quantity"
    browser.heard.clear()
    browser.report((1.0, 1.0), move=first)
    assert browser.draw((0.0, 0.0), "ratio") == ((0.0, 0.0), "ratio"), "a report made before the move"
    assert browser.heard == []


def test_a_point_beyond_the_plane_does_not_move_it_again_and_again(browser: Browser) -> None:
    assert browser.draw((9.0, 0.0)) == ((2.0, 0.0), "loss")
    first = browser.sent["move"]
    assert browser.draw((9.0, 0.0)) == ((2.0, 0.0), "loss")
    assert browser.sent["move"] == first


@pytest.fixture
def pictures() -> list[Any]:
    return computed()


@pytest.fixture
def fields_page(tmp_path: Path, pictures: list[Any]) -> Iterator[str]:
    with served(tmp_path, pictures) as address:
        yield address


def number(text: str) -> float:
    return float(text.replace("≈", "").replace("−", "-").replace("∞", "inf"))


def readout(page: Any, card: int, column: str = "here") -> dict[str, Any]:
    """What the table below a field says."""
    cells = page.locator(".lab-fields .card").nth(card).locator(f"td.{column}")
    texts = dict(zip(cells.evaluate_all("cells => cells.map((cell) => cell.dataset.name)"), cells.all_text_contents()))
    points = {name: [number(part) for part in re.sub(r"[()≈]", "", texts.pop(name)).split(",")] for name in ("position", "next")}
    return {name: number(text) for name, text in texts.items()} | points


def knows(page: Any, point: tuple[float, float], quantity: str) -> None:
    """Wait until Python knows this point and quantity."""
    expected = f"Python: {point[0]:.2f}, {point[1]:.2f}, {quantity}"
    until(lambda: expected in body(page), PATIENCE, lambda: f"{expected} is not in {body(page)}")


def agrees(page: Any, picture: Any, card: int, column: str = "here") -> None:
    """The numbers below a field are the arrays' own, interpolated."""
    told = readout(page, card, column)
    x, y = told["position"]
    rel, absolute = (2e-3, 2e-4) if column == "here" else (0.03, 0.01)  # the position after steps is rounded
    for name, sign in (("loss", 1), ("d_log_x1", -1), ("d_log_x2", 1), ("ratio", 1)):
        assert told[name] == pytest.approx(sign * interpolated(picture, name, x, y), rel=rel, abs=absolute), name
    after = [interpolated(picture, name, x, y) for name in ("next_log_x1", "next_log_x2")]
    assert told["next"] == pytest.approx(after, abs=0.02)


@pytest.mark.browser
def test_the_point_moves_by_mouse_keyboard_steps_and_python(fields_page: str, page: Any, pictures: list[Any]) -> None:
    received: list[int] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    page.goto(f"{fields_page}/?slow=0.3")
    page.locator(".lab-fields td.here").first.wait_for()
    knows(page, (1.0, -2.0), "loss")
    for card, picture in enumerate(pictures):
        agrees(page, picture, card)

    hit = page.locator(".lab-fields .hit").nth(1)
    hit.scroll_into_view_if_needed()
    box = hit.bounding_box()
    at = lambda x, y: (box["x"] + box["width"] * (x + 10) / 28, box["y"] + box["height"] * (18 - y) / 28)  # noqa: E731
    assert sum(received) > 300_000, "the arrays"
    received.clear()
    page.mouse.move(*at(1, -2))
    page.mouse.down()
    seen = []
    for k in range(30):  # while Python is late with its answers
        page.mouse.move(*at(1 - 0.2 * k, -2 + 0.3 * k))
        page.wait_for_timeout(40)
        seen.append(readout(page, 1)["position"][0])
    assert seen == sorted(seen, reverse=True), "an echo made the point jump back"
    page.mouse.up()
    moved = readout(page, 0)["position"]
    assert moved == pytest.approx([-4.8, 6.7], abs=0.15)
    knows(page, (moved[0], moved[1]), "loss")
    assert readout(page, 0)["position"] == moved
    assert sum(received) < 100_000, "arrays are sent once"
    for card, picture in enumerate(pictures):
        agrees(page, picture, card)
    page.mouse.move(*at(5, 5))
    under = page.locator(".lab-fields .under").nth(1)
    until(lambda: re.match(r"log X₁ = (4\.9|5\.0)", under.inner_text()), PATIENCE, under.inner_text)
    page.mouse.move(*at(17, 5))
    until(lambda: "out of reach" in under.inner_text(), PATIENCE, under.inner_text)

    hit.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    moved = [round(moved[0] + 0.1, 2), round(moved[1] - 1, 2)]
    until(lambda: readout(page, 2)["position"] == moved, PATIENCE, lambda: str(readout(page, 2)))
    knows(page, (moved[0], moved[1]), "loss")
    page.keyboard.press("Home")
    knows(page, (0.0, 0.0), "loss")
    until(lambda: "log X1 0, log X2 0. dpo: loss 0.693" in page.locator(".spoken").text_content(), PATIENCE)

    page.get_by_role("radio", name="Ratio of increase to decrease").check(force=True)
    knows(page, (0.0, 0.0), "ratio")
    assert "X₂/X₁ for DPO" in page.locator(".lab-fields .legend").inner_text()

    count = page.locator(".lab-fields .count")
    for _ in range(2):
        page.get_by_role("button", name="Step", exact=True).click()
    until(lambda: count.inner_text() == "2 steps", PATIENCE)
    for card, picture in enumerate(pictures):
        agrees(page, picture, card, "end")
        start = [0.0, 0.0]
        for _ in range(2):
            start = [interpolated(picture, name, *start) for name in ("next_log_x1", "next_log_x2")]
        assert readout(page, card, "end")["position"] == pytest.approx(start, abs=0.01)
    page.get_by_role("button", name="Step back").click()
    until(lambda: count.inner_text() == "1 step", PATIENCE)
    page.get_by_role("button", name="Play").click()
    until(lambda: int(count.inner_text().split()[0]) > 5, PATIENCE)
    page.get_by_role("button", name="Pause").click()
    held = count.inner_text()
    page.wait_for_timeout(400)
    assert count.inner_text() == held
    page.get_by_role("button", name="Reset the descent").click()
    until(lambda: count.inner_text() == "0 steps", PATIENCE)

    page.get_by_role("button", name="Move to (2, -3)").click()
    until(lambda: readout(page, 0)["position"] == [2.0, -3.0], PATIENCE)
    knows(page, (2.0, -3.0), "ratio")
    hit.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    until(lambda: readout(page, 0)["position"] == pytest.approx([4.0, 4.0], abs=0.15), PATIENCE)


@pytest.mark.browser
def test_the_point_moves_by_touch_and_the_page_stays(fields_page: str, page: Any) -> None:
    page.goto(f"{fields_page}/?count=1")
    page.locator(".lab-fields td.here").first.wait_for()
    hit = page.locator(".lab-fields .hit")
    hit.scroll_into_view_if_needed()
    box, scrolled = hit.bounding_box(), page.evaluate("scrollY")
    screen = page.context.new_cdp_session(page)
    screen.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def touch(kind: str, *place: float) -> None:
        points = [{"x": box["x"] + box["width"] * place[0], "y": box["y"] + box["height"] * place[1]}] if place else []
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.5, 0.5)
    until(lambda: readout(page, 0)["position"] == pytest.approx([4.0, 4.0], abs=0.15), PATIENCE)
    for k in range(1, 9):
        touch("touchMove", 0.5 - 0.05 * k, 0.5 + 0.05 * k)
    until(lambda: readout(page, 0)["position"] == pytest.approx([-7.2, -7.2], abs=0.15), PATIENCE)
    touch("touchEnd")
    moved = readout(page, 0)["position"]
    knows(page, (moved[0], moved[1]), "loss")
    assert page.evaluate("scrollY") == scrolled, "a finger on the plane does not scroll the page"


@pytest.mark.browser
@pytest.mark.extended
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_or_faint(fields_page: str, page: Any, dark: bool) -> None:
    page.emulate_media(color_scheme="dark" if dark else "light")
    wrong = []
    for large in (0, 1):
        page.goto(f"{fields_page}/?large={large}&dark={int(dark)}")
        page.locator(".lab-fields td.here").first.wait_for()
        for width in (900, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(500)
            wrong += [f"{width} {text}" for text in (*cut_texts(page), *faint_texts(page))]
            tops = page.locator(".lab-fields .hit").evaluate_all("hits => hits.map((hit) => hit.getBoundingClientRect().top)")
            assert len(tops) == 3
            assert width < 1000 or len({round(top) for top in tops}) == 1, "side by side"
    assert wrong == []


def test_the_script_states_no_loss() -> None:
    """The browser interpolates; formulas stay in the library."""
    for name in landscape_view.SCRIPTS:
        assert not re.search(r"Math\.(exp|log|log1p|tanh)\b|sigmoid|beta", (ROOT / "app" / "widgets" / name).read_text()), name
