"""The Pairs page in a real browser: list and review by keyboard, marked hits, histograms that filter, texts that stay texts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.views.pairs.filters import REVIEWED
from lab import home
from lab.pairs import PairStore, open_pairs

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror=alert(1)> ![a](http://x.invalid/p.png) $x$ :red[y] \u202egnirts"
ROW = ".lab-rows tbody tr"


def make_store(count: int = 60) -> PairStore:
    rows = [
        {"prompt": f"{NASTY} {i}", "chosen": f"good {NASTY} {i} " + "word " * i, "rejected": f"bad answer {i}"}
        for i in range(count)
    ]
    return open_pairs(rows, home=home.home() / "pairs", name="mine")


def show(page: Any, dashboard: str, store: PairStore, view: str = "") -> None:
    page.goto(f"{dashboard}/pairs?pairs={store.path.name}{view}")
    page.get_by_role("heading", name="Pairs").wait_for()


def settled(page: Any, text: str) -> None:
    page.get_by_text(text).first.wait_for()


def test_the_list_is_used_by_the_keyboard_alone(dashboard: str, page: Any) -> None:
    store = make_store()
    ids = store.ids()
    show(page, dashboard, store)
    rows = page.locator(ROW)
    rows.nth(24).wait_for()
    assert rows.count() == 25
    assert not page.locator(f"{ROW} img").count()  # the texts are texts
    rows.first.focus()
    for key in ("ArrowDown", "Space", "ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    settled(page, "3 ticked")
    page.keyboard.press("Enter")
    settled(page, f"Pair {ids[3]}")
    assert f"pair={ids[3]}" in page.url
    page.keyboard.press("d")
    settled(page, ", dropped")
    assert store.get(ids[3]).dropped
    page.keyboard.press("u")
    page.get_by_text(", dropped").wait_for(state="detached")
    assert len(store) == 60
    page.get_by_role("button", name="Chosen", exact=True).click()  # sorts by its words
    page.locator(".lab-rows th.number[aria-sort=ascending]").wait_for()
    assert "sort=chosen_words" in page.url


def test_hits_are_marked_and_a_brushed_histogram_filters(dashboard: str, page: Any) -> None:
    store = make_store()
    show(page, dashboard, store)
    page.get_by_placeholder("Search texts, or a pair's id").fill("BAD ANSWER 5")
    page.keyboard.press("Enter")
    settled(page, "11 pairs that match, of 60")
    assert page.locator(".lab-rows mark").all_inner_texts() == ["bad answer 5"] * 11
    show(page, dashboard, store, "&histograms=true")
    box = page.locator(".lab-figure .nsewdrag").first
    box.wait_for()
    page.wait_for_timeout(500)
    area = box.bounding_box()
    assert area
    middle = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.75, middle, steps=4)
    page.mouse.up()
    page.get_by_text(re.compile(r"\d+ pairs that match, of 60")).wait_for()
    chosen = [len(pair.chosen.split()) for pair in store]
    shown = int(page.get_by_text(re.compile(r"pairs that match, of 60")).inner_text().split()[0])
    assert 5 < shown < 30 < len(chosen)
    assert "range=chosen_words%3A" in page.url or "range=chosen_words:" in page.url


def test_a_review_is_done_by_single_keys(dashboard: str, page: Any) -> None:
    store = make_store(6)
    ids = store.ids()
    show(page, dashboard, store, "&view=review")
    settled(page, "0 of 6 judged")
    for number, key in enumerate("b3wd", 1):
        page.keyboard.press(key)
        settled(page, f"{number} of 6 judged")
    page.keyboard.press("e")
    field = page.get_by_label("Chosen answer")
    field.wait_for()
    page.wait_for_function("document.activeElement.tagName === 'TEXTAREA'")
    page.keyboard.press("Control+a")
    page.keyboard.type("b w d are letters here")
    page.keyboard.press("Control+Enter")
    settled(page, "Saved.")
    page.keyboard.press("t")
    page.wait_for_function("document.activeElement.tagName === 'INPUT'")
    page.keyboard.type("odd, nice")
    page.keyboard.press("Enter")
    page.get_by_label("Tags to add").wait_for(state="detached")
    page.keyboard.press("n")
    page.keyboard.press("u")
    settled(page, "Undone")
    one, two, three, four, five = (store.get(id) for id in ids[:5])
    assert (one.tags, two.degree, two.tags) == ((REVIEWED,), 1.0, (REVIEWED,))
    assert three.chosen == "bad answer 2"
    assert four.dropped
    assert five.chosen == "b w d are letters here"


def test_a_change_of_many_pairs_closes_its_dialog_and_is_undone_by_one_key(dashboard: str, page: Any) -> None:
    store = make_store()
    show(page, dashboard, store)
    page.get_by_label("Tick all pairs of this page").click()
    settled(page, "25 ticked")
    page.get_by_role("button", name="Tick all 60").click()
    settled(page, "60 ticked")
    page.get_by_role("button", name="Change ...").click()
    page.get_by_text("Set degree", exact=True).click()
    page.get_by_role("button", name="Set the degree of 60 pairs").click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert {pair.degree for pair in store} == {2 / 3}
    page.get_by_text("60 ticked").wait_for(state="detached")
    page.keyboard.press("u")
    page.get_by_role("button", name="Redo").and_(page.locator(":enabled")).wait_for()
    assert {pair.degree for pair in store} == {None}
