"""Style rules beyond Streamlit's theme: text wraps instead of being cut, and small print has a contrast of at least 4.5 to 1."""

from __future__ import annotations

import streamlit as st

SMALL_PRINT = {False: "#55606b", True: "#a9b4be"}
"""Colour of captions on a light (False) and on a dark (True) page."""

ON_PRIMARY = {False: "#ffffff", True: "#0e1117"}
"""Colour of texts on the primary colour, which is dark on a light (False) and light on a dark (True) page."""

CSS = """<style>
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {color: SMALL !important; opacity: 1 !important;}
[data-testid="stPaginationEllipsis"], button[data-testid^="stBaseButton"]:not(:disabled) kbd,
button[data-testid^="stBaseButton"]:not(:disabled) [class*="hortcut"] {color: SMALL !important; opacity: 1 !important;}
[data-testid="stCode"] code span {color: inherit !important;}
[data-testid="stMetricValue"], [data-testid="stMetricValue"] *, [data-testid="stMetricLabel"], [data-testid="stMetricLabel"] *,
[data-testid="stMetricDelta"] *, [data-testid="stWidgetLabel"] *, [data-testid="stCheckbox"] label *,
[data-testid="stButtonGroup"] button *, [data-testid^="stBaseButton"] [data-testid="stMarkdownContainer"] *,
[data-testid="stExpander"] summary *
  {white-space: normal; overflow: visible; text-overflow: clip; overflow-wrap: anywhere;}
[data-testid^="stBaseButton"], [data-testid="stButtonGroup"] button {height: auto; min-width: max-content;}
[data-testid="stMetricValue"] {line-height: 1.25;}
[data-testid="stBaseButton-primary"]:not(:disabled), [data-testid="stBaseButton-primary"]:not(:disabled) *,
[data-testid="stMultiSelectTagsContainer"] span, [data-testid="stMultiSelectTagsContainer"] svg
  {color: ON_PRIMARY !important;}
/* A chart needs room for its title: columns that hold one go below each other before they get narrower. */
[data-testid="stColumn"]:has(.lab-figure) {min-width: min(340px, 100%);}
/* So do the two halves of a story, and on narrow screens the page's margins get smaller. */
.st-key-learn-story [data-testid="stColumn"] {min-width: min(19rem, 100%);}
@media (max-width: 1100px) {[data-testid="stMainBlockContainer"] {padding-left: 2rem; padding-right: 2rem;}}
/* The listener for keys takes no room. */
[class*="st-key-live-keys"] {position: absolute; height: 0;}
/* The link to the guide stands in the page's upper padding, so that it takes no room either. */
:has(> .st-key-lab-help) {height: 1rem; margin: -1rem 0;}
.st-key-lab-help {height: 1rem; align-items: flex-end;}
.st-key-lab-help a {min-height: 0; height: 1rem; padding: 0 0.25rem; font-size: 0.75rem;}
.st-key-lab-help a * {font-size: 0.75rem !important; color: SMALL !important; line-height: 1rem;}
</style>"""


def apply(dark: bool) -> None:
    """Add the style rules to the page; once in each drawing of the whole page."""
    st.html(CSS.replace("SMALL", SMALL_PRINT[dark]).replace("ON_PRIMARY", ON_PRIMARY[dark]))
