"""Every hostile text in every field of a pair, and in every name, is shown as it is written and does nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab
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
        page.locator(".lab-rows tbody tr").first.wait_for()
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
    inert.check(page, SHORT.values(), "findings", "[data-testid=stAlert]")
    page.get_by_role("tab", name="Turns and tools").click()
    page.get_by_label("Tools").wait_for()
    calm(page)
    inert.check(page, NAMES[:3], "turns")
    show(page, f"{at}&view=review&sort=recent")
    page.get_by_text("0 of 52 judged").wait_for()
    inert.check(page, SHORT.values(), "review")
    show(page, f"{at}&view=changes")
    page.get_by_text("History of the set").wait_for()
    inert.check(page, NAMES, "changes")
    page.get_by_text("Export", exact=True).click()
    page.get_by_text("As imported").last.wait_for()
    inert.check(page, NAMES, "snapshots to export", "[data-testid=stRadio]")


def test_an_import_shows_texts_and_nothing_else(dashboard: str, page: Any) -> None:
    inert.watch(page)
    texts = [text for text in SHORT.values() if "\ud800" not in text]  # a file in UTF-8 cannot hold half a character
    rows = [{"prompt": text, "chosen": text, "rejected": f"{text}!"} | dict.fromkeys(texts, "x") for text in texts[:3]]
    rows += [{"prompt": text, "chosen": text, "rejected": text} for text in texts[3:8]]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    show(page, f"{dashboard}/pairs?view=import")
    name = "<img src=x onerror=document.title='owned'> :red[x] $x$ ![](http:__x.invalid_a.png).jsonl"
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "application/jsonl", "buffer": data})
    page.get_by_text("The first rows, as they are trained on").wait_for()
    page.get_by_text("Line 3").first.wait_for()
    calm(page)
    columns = [text for text in texts if text.strip()]
    inert.check(page, [name, *texts[:3], *columns[:3]], "preview")
    page.get_by_label("System message").click()
    page.get_by_role("option").nth(3).wait_for()
    inert.check(page, where="columns")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("cannot be read as pairs").wait_for()
    calm(page)
    inert.check(page, [name], "refused rows")


def test_the_pages_of_a_run_show_texts_and_nothing_else(
    dashboard: str, page: Any, tmp_path: Path, model_folder: Callable[[str], Path]
) -> None:
    store = make_store(tmp_path)
    name = " ".join(NAMES)[:200].strip()
    settings = {
        "steps": 2,
        "batch_size": 60,
        "evaluate": False,
        "device": "cpu",
        "name": name,
        "too_long": "drop",
        "skip_bad_rows": True,
    }
    run = lab.train("spo", store, model_folder("llama"), background=False, **settings)
    assert run.state == "finished", run.error
    inert.watch(page)
    page.goto(f"{dashboard}/inspect?run={run.dir.name}&pair=text0")
    page.get_by_text("Pair text0").wait_for()
    calm(page)
    inert.check(page, [TEXTS["html"], *list(TEXTS.values())[:3]], "inspect")
    page.get_by_text("Credit", exact=True).first.click()
    page.locator(".heat span").first.wait_for()
    inert.check(page, [TEXTS["html"]], "heat map", ".heat")
    for tab in ("What if", "Virtual step"):
        page.get_by_role("tab", name=tab).click()
        calm(page)
        inert.check(page, where=tab)
    page.goto(f"{dashboard}/?run={run.dir.name}")
    for tab in ("Pairs", "Tokens"):
        page.get_by_role("tab", name=tab).or_(page.get_by_role("radio", name=tab)).first.click()
        calm(page)
        inert.check(page, where=f"live, {tab}")
    page.locator(".heat span").first.wait_for()
    for view in ("evidence", "add"):
        show(page, f"{dashboard}/pairs?pairs={store.path.name}&view={view}")
        inert.check(page, where=view)
