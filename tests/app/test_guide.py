"""The guide: its chapters, the search, the page, and the README that points at it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.pages import GUIDE, PAGES
from app.views.guide.chapters import FOLDER, ORDER, chapter, search
from lab.glossary import glossary_markdown
from lab.run.handle import Run
from tests.app.pages import MAIN, open_page, page_text

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_is_a_chapter_and_every_page_has_one() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*ORDER}
    assert {page.chapter for page in PAGES} <= {*ORDER}
    assert all(chapter(name)[0].title for name in ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_links_between_chapters_lead_somewhere(name: str) -> None:
    for target, anchor in re.findall(r"\]\(([\w-]+)\.md(?:#([\w-]+))?\)", (FOLDER / f"{name}.md").read_text(encoding="utf-8")):
        assert target in ORDER
        assert not anchor or anchor in {section.anchor for section in chapter(target)}
    assert ".md)" not in "".join(section.text for section in chapter(name))


def test_paths_that_the_documentation_names_exist() -> None:
    pages = README + "".join((FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in ORDER)
    named = {*re.findall(r"`((?:lab|app|tests|notebooks)/[\w./]+)`", pages)}
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [path for path in re.findall(r"\]\((app/[^)]+)\)", README) if not (ROOT / path).exists()] == []
    assert len(README.splitlines()) <= 120


def test_the_glossary_is_that_of_the_library() -> None:
    """Write it anew with: make glossary"""
    text = (FOLDER / "glossary.md").read_text(encoding="utf-8")
    assert text.partition("\n### ")[2] == glossary_markdown().removeprefix("### ") + "\n"


def test_search_finds_headings_first() -> None:
    hits = search("Virtual  STEP")
    assert hits[0].section.title == "Virtual step"
    assert any("accelerate launch" in hit.excerpt for hit in search("accelerate launch"))
    assert search("  ") == search("no such words at all") == []


def test_the_page_shows_chapters_and_opens_results() -> None:
    app = open_page(GUIDE)
    assert "Getting started" in page_text(app, escaped=True)
    app = open_page(GUIDE, chapter="diagnosis")
    assert "18 checks" in page_text(app, escaped=True)
    app.text_input(key="guide.search").set_value("keep_pair_rows").run()
    assert "sections contain" in page_text(app, escaped=True)
    app.button(key="guide.hit.run-folders.long-runs").click().run()
    assert not app.exception
    assert (app.query_params["chapter"], app.query_params["section"]) == ("run-folders", "long-runs")
    assert "Long runs" in page_text(app, escaped=True)
    app.radio(key="guide.chapter").set_value("pairs").run()
    assert app.query_params["chapter"] == "pairs"
    assert "section" not in app.query_params
    assert "25 pairs a page" in page_text(app, escaped=True)


def test_an_unknown_chapter_is_an_error() -> None:
    assert "The guide has no chapter" in page_text(open_page(GUIDE, chapter="../README"))


def test_every_page_links_to_its_chapter(store_run: Callable[..., Run]) -> None:
    store_run("one")
    for page in PAGES[:-1]:
        app = AppTest.from_file(MAIN, default_timeout=60).run()
        app.switch_page(page.file).run()
        links = [link.proto for link in app.get("page_link") if link.proto.label == "Help"]
        assert [link.query_string for link in links] == [f"chapter={page.chapter}"], page.title


def test_indented_commands_are_code_on_the_page() -> None:
    """Streamlit strips a text's leading spaces, which would make the first command a paragraph."""
    section = next(section for section in chapter("getting-started") if section.title == "Install and open")
    first, *rest = section.text.strip().splitlines()
    assert first == "```text"
    assert rest[0].startswith("make lab")
    assert all(section.text.count("```") % 2 == 0 for name in ORDER for section in chapter(name))
