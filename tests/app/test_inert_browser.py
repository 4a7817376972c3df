"""Every hostile text in every field of a pair, and in every name, is shown as it is written and does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab import home
from lab.pairs import Finding, PairStore, open_pairs, write_pairs
from tests.app import inert
from tests.pairs.hostile import TEXTS
from tests.pairs.hostile_pairs import conversation_with, with_text

pytestmark = pytest.mark.browser

SHORT = {name: text for name, text in TEXTS.items() if len(text) < 3_000}
LONG = {name: text for name, text in TEXTS.items() if name not in SHORT}
NAMES = list(dict.fromkeys(text.strip() for text in SHORT.values()))
SHEET, EXCERPT = 25, 140


def make_store(folder: Path) -> PairStore:
    """One pair per text, one conversation with all short texts, one with the long ones; authors, reasons, notes and snapshots."""
    pairs = [with_text(text, f"text{number}") for number, text in enumerate(TEXTS.values())]
    pairs += [conversation_with(list(LONG.values()), "long"), conversation_with(list(SHORT.values()), "short")]
    write_pairs(pairs, folder / "all.jsonl")
    store = open_pairs(folder / "all.jsonl", home=home.home() / "pairs", name=SHORT["html"])
    for text in SHORT.values():
        store.edit("short", rejected=f"{store.get('short').rejected} {text}", note=text, author=text, reason=text)
    for name in NAMES:
        store.snapshot(name, author=name)
    store.edit("short", tags=[name[:60] for name in NAMES])
    store.put_findings([Finding("short", "truncated", text, remedy="tag") for text in SHORT.values()])
    return store


def calm(page: Any) -> None:
    """Wait until the page is drawn."""
    page.wait_for_timeout(250)
    page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget], [data-stale=true]')")


def show(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("heading", name="Pairs").wait_for()
    calm(page)


def test_the_pairs_page_shows_texts_and_nothing_else(dashboard: str, page: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    inert.watch(page)
    at = f"{dashboard}/pairs?pairs={store.path.name}"
    for first in range(0, len(TEXTS), SHEET):
        show(page, f"{at}&sheet={first // SHEET + 1}")
        page.locator(".lab-pairs tbody tr").first.wait_for()
        inert.check(page, (text[:EXCERPT] for text in list(TEXTS.values())[first : first + SHEET]), f"list from {first}")
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Tags").click()
    inert.check(page, where="filters")
    show(page, f"{at}&pair=long")
    page.get_by_placeholder("A remark on this pair, for people only").first.wait_for()
    inert.check(page, LONG.values(), "long pair")
    show(page, f"{at}&pair=short")
    page.get_by_placeholder("A remark on this pair, for people only").first.wait_for()
    inert.check(page, SHORT.values(), "short pair")
    page.get_by_role("tab", name="Turns and tools").click()
    page.get_by_label("Tools").wait_for()
    calm(page)
    inert.check(page, NAMES[:3], "turns")
    show(page, f"{at}&view=review&sort=recent")
    page.get_by_text("0 of 51 judged").wait_for()
    inert.check(page, SHORT.values(), "review")
    show(page, f"{at}&view=changes")
    page.get_by_text("History of the set").wait_for()
    page.get_by_text("Export", exact=True).click()
    inert.check(page, NAMES, "changes")
