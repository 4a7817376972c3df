"""The dashboard's frame: its pages and the menu. Started by `python -m app`."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from streamlit import runtime

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:  # `streamlit run app/main.py` puts only the script's own folder on the path
    sys.path.insert(0, ROOT)

# Inline: an icon by name or an emoji would be fetched from the internet.
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1b222a"/>
<path d="M5 22 L12 15 L18 18 L27 7" stroke="#56B4E9" stroke-width="3" fill="none"/>
<path d="M5 24 L12 25 L18 22 L27 27" stroke="#F0904C" stroke-width="3" fill="none"/></svg>"""

from app import style  # noqa: E402 - behind the path
from app.fixed_files import MIDDLEWARE  # noqa: E402
from app.pages import GUIDE, LIVE, PAGES  # noqa: E402
from app.serving import routes  # noqa: E402
from app.state.navigation import leaving  # noqa: E402
from app.text.plain import plain  # noqa: E402
from app.widgets import figure  # noqa: E402
from lab import extensions  # noqa: E402


def draw() -> None:
    """Draw the page in the address below the menu of all pages."""
    st.set_page_config(page_title="Preference lab", page_icon=ICON, layout="wide")
    style.apply(figure.dark())
    pages = {
        # Streamlit serves the default page at the dashboard's own address, and its url_path at no other.
        st.Page(
            page.file,
            title=page.title,
            icon=f":material/{page.icon}:",
            url_path="home" if page is LIVE else page.path,
            default=page is LIVE,
        ): page
        for page in PAGES
    }
    live = st.Page(_open_live, title=LIVE.title, url_path=LIVE.path, visibility="hidden")
    chosen = st.navigation([*pages, live], position="top")
    if leaving():
        return
    for complaint in extensions.load():  # at every drawing: a file may be new, or still wrong
        st.warning(plain(complaint))
    if chosen in pages and pages[chosen] is not GUIDE:
        with st.container(key="lab-help"):
            st.page_link(GUIDE.file, label="Help", icon=":material/help:", query_params={"chapter": pages[chosen].chapter})
    chosen.run()


def _open_live() -> None:
    """Open the Live page from the address that its name suggests."""
    st.switch_page(LIVE.file, query_params=st.query_params.to_dict())


if runtime.exists():
    draw()
else:  # `streamlit run app/main.py` imports this file first, and serves the application that it defines
    app = st.App(Path(__file__).absolute(), routes=routes(), middleware=MIDDLEWARE)
