"""Guide: the user guide by chapter, with a search. The address holds chapter and section."""

from __future__ import annotations

import streamlit as st

from app.state.address import put
from app.text.plain import plain
from app.views.guide.chapters import ORDER, Section, chapter, search

SEARCH, CHAPTER, OPENED = "guide.search", "guide.chapter", "guide.opened"
"""In the session: the text searched for; the chapter chosen in the list; how many search results were opened."""

JAVASCRIPT = """
export default function ({data, parentElement}) {
  if (parentElement.at === data.at) return;
  parentElement.at = data.at;
  setTimeout(() => document.getElementById(data.anchor)?.scrollIntoView(), 200);  // once the sections are on the page
}
"""

_scroll = st.components.v2.component("lab_guide_scroll", html="<span></span>", js=JAVASCRIPT, isolate_styles=False)


def page() -> None:
    """Draw the list of chapters, and beside it the chapter in the address or the search results."""
    name, anchor = st.query_params.get("chapter", ORDER[0]), st.query_params.get("section", "")
    left, right = st.columns([1, 3], gap="large")
    with left:
        text = st.text_input("Search the guide", key=SEARCH, placeholder="a word or a phrase", type="search") or ""
        st.session_state[CHAPTER] = name if name in ORDER else None
        st.radio("Chapter", ORDER, format_func=lambda name: chapter(name)[0].title, key=CHAPTER, on_change=_open_chapter)
    with right:
        if text.strip():
            _results(text)
        elif name in ORDER:
            _chapter(name, anchor)
        else:
            st.error(plain(f"The guide has no chapter {name}; choose one on the left."))


def _open_chapter() -> None:
    st.session_state[SEARCH] = ""
    put(chapter=st.session_state[CHAPTER], section=None)


def _open_section(section: Section) -> None:
    st.session_state[SEARCH] = ""
    st.session_state[OPENED] = st.session_state.get(OPENED, 0) + 1
    put(chapter=section.chapter, section=section.anchor or None)


def _results(text: str) -> None:
    """Draw the sections that contain a text; a click opens the section."""
    hits = search(text)
    st.caption(plain(f"{len(hits)} sections contain “{text.strip()}”. Clear the search to return to the chapter."))
    for hit in hits:
        section, title = hit.section, chapter(hit.section.chapter)[0].title
        label = f"{title}: {section.title}" if section.anchor else title
        key = f"guide.hit.{section.chapter}.{section.anchor}"
        st.button(plain(label), type="tertiary", key=key, on_click=_open_section, args=(section,))
        st.caption(plain(hit.excerpt))


def _chapter(name: str, anchor: str) -> None:
    """Draw a chapter and scroll to one of its sections."""
    for section in chapter(name):
        if section.anchor:
            st.header(section.title, anchor=section.anchor)
        else:
            st.title(section.title, anchor=False)
        st.markdown(section.text)
    if anchor:
        _scroll(key="guide-scroll", data={"anchor": anchor, "at": f"{name}#{anchor} {st.session_state.get(OPENED, 0)}"})


page()
