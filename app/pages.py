"""The pages of the dashboard: one table for the menu, the server's addresses and links between pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """A page of the dashboard.

    Attributes:
        path: Last part of its address.
        title: Its name in the menu.
        icon: A Material symbol.
        chapter: The chapter of the guide that describes it.
        fills_in: Parameters that the page adds to its address by itself; "*" for all that it ever changes.
    """

    path: str
    title: str
    icon: str
    chapter: str
    fills_in: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The page's script, as `st.switch_page` and `st.page_link` take it."""
        name = self.path.replace("-", "_")
        return f"views/{name}/{name}.py"


LIVE = Page("live", "Live", "monitoring", "live", ("run",))
INSPECT = Page("inspect", "Inspect", "search", "inspect", ("run", "pair"))
NEW_RUN = Page("new-run", "New run", "play_circle", "new-run")
EXPERIMENTS = Page("experiments", "Experiments", "science", "experiments")
RUNS = Page("runs", "Runs", "list", "runs")
COMPARE = Page("compare", "Compare", "stacked_line_chart", "compare", ("runs", "pair", "run", "step"))
PAIRS = Page("pairs", "Pairs", "compare", "pairs", ("pairs",))
LEARN = Page("learn", "Learn", "school", "learn", ("*",))
GUIDE = Page("guide", "Guide", "menu_book", "getting-started")

PAGES = (LIVE, INSPECT, NEW_RUN, EXPERIMENTS, RUNS, COMPARE, PAIRS, LEARN, GUIDE)
"""In the menu's order; the first is the default, whose address is that of the dashboard itself."""
