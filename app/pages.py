"""The pages of the dashboard: one table for the menu, the server's addresses and the way from one page to another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Attributes:
        path: Part of its address.
        title: Its name in the menu.
        icon: A Material symbol.
        fills_in: Parameters that the page adds to its address by itself; "*" for all that it ever changes.
    """

    path: str
    title: str
    icon: str
    fills_in: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The page's script, as `st.switch_page` and `st.page_link` take it."""
        name = self.path.replace("-", "_")
        return f"views/{name}/{name}.py"


LIVE = Page("live", "Live", "monitoring", ("run",))
INSPECT = Page("inspect", "Inspect", "search", ("run", "pair"))
NEW_RUN = Page("new-run", "New run", "play_circle")
COMPARE = Page("compare", "Compare", "stacked_line_chart", ("runs", "pair"))
PAIRS = Page("pairs", "Pairs", "compare", ("pairs",))
PLAYGROUND = Page("playground", "Playground", "tune", ("*",))

PAGES = (LIVE, INSPECT, NEW_RUN, COMPARE, PAIRS, PLAYGROUND)
"""In the menu's order; the first is the default, whose own address is that of the dashboard."""
