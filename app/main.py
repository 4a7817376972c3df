"""The dashboard's frame: its pages and how one gets from one to another. Started by `python -m app`."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from streamlit import runtime

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:  # `streamlit run app/main.py` puts only the script's own folder on the path
    sys.path.insert(0, ROOT)

# Drawn here: an icon by name or an emoji would be fetched from the net.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1b222a"/>
<path d="M5 22 L12 15 L18 18 L27 7" stroke="#56B4E9" stroke-width="3" fill="none"/>
<path d="M5 24 L12 25 L18 22 L27 27" stroke="#F0904C" stroke-width="3" fill="none"/></svg>"""

from app import look  # noqa: E402 - behind the path
from app.fixed_files import MIDDLEWARE  # noqa: E402
from app.pages import PAGES  # noqa: E402
from app.serving import routes  # noqa: E402
from app.state.navigation import leaving  # noqa: E402
from app.widgets import figure  # noqa: E402
from lab import extensions  # noqa: E402


def draw() -> None:
    """Draw the page that the address names, below the menu of all pages."""
    for complaint in extensions.load():  # at every run of the script: a file may have come since
        st.warning(complaint)
    st.set_page_config(page_title="Preference lab", page_icon=ICON, layout="wide")
    look.apply(figure.dark())
    pages = [
        st.Page(page.file, title=page.title, icon=f":material/{page.icon}:", url_path=page.path, default=page is PAGES[0])
        for page in PAGES
    ]
    chosen = st.navigation(pages, position="top")
    if not leaving():
        chosen.run()


if runtime.exists():
    draw()
else:  # `streamlit run app/main.py` imports this file first, and serves the application that it defines
    app = st.App(Path(__file__).absolute(), routes=routes(), middleware=MIDDLEWARE)
