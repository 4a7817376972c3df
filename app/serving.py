"""Serve the addresses of all pages, so that each can be opened, bookmarked and left by the browser's Back button.

Streamlit answers every address with one HTML file. A script in that file's head corrects three faults of Streamlit's script:

- It looks for the server below the page's path (a 404); the server's address is given.
- It adds a history entry for every change of the address; parameters set by the page replace the entry.
- It sends unpaired surrogates, after which the server refuses all requests of the page; they are replaced in every text field.

The head also names the files that the first drawing needs (`app.fixed_files`). All addresses are below `server.baseUrlPath` if set.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route
from streamlit import file_util

from app.fixed_files import base_path, links
from app.pages import PAGES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

FILLED_IN: dict[str, tuple[str, ...]] = {"": PAGES[0].fills_in} | {page.path: page.fills_in for page in PAGES[1:]}
"""Parameters that a page adds to its address by itself, by the page's path; the default page's path is empty."""

SCRIPT = """<script>
(() => {
  const base = %s;
  window.__streamlit = {BACKEND_BASE_URL: location.origin + base};
  const pageOf = (address) => address.pathname.slice(base.length + 1);
  // Parameters set by the page replace the history entry.
  const filledIn = %s;
  const push = history.pushState.bind(history);
  let last = -Infinity;
  // On the way to another page its parameters may come before its path, and belong to no entry of the page that is left.
  let leaving = -Infinity;
  window.labLeaving = (path) => { if (path !== pageOf(location)) leaving = performance.now(); };
  window.addEventListener("popstate", () => { leaving = -Infinity; }, true);
  window.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const here = link && link.origin === location.origin && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (here) window.labLeaving(pageOf(link));
  }, true);
  history.pushState = (state, title, address) => {
    const now = new URL(location.href), next = new URL(address ?? now.href, now);
    const names = filledIn[pageOf(now)];
    const kept = [...now.searchParams].every(([name, value]) => next.searchParams.get(name) === value);
    const added = [...next.searchParams.keys()].filter((name) => !now.searchParams.has(name));
    const byItself = names && (names.includes("*") || (kept && (!now.search || added.every((name) => names.includes(name)))));
    if (now.pathname !== next.pathname) leaving = -Infinity;
    else if (performance.now() - leaving < 15000) return;
    const soon = performance.now() - last < 100;  // several changes of one click are one
    if (now.pathname === next.pathname && (byItself || soon)) history.replaceState(state, title, address);
    else push(state, title, address);
    if (now.pathname === next.pathname && !byItself) last = performance.now();
  };

  // Half of a character, alone, cannot be sent: the server would refuse all that the page sends from then on.
  const halves = /[\\ud800-\\udbff](?![\\udc00-\\udfff])|(?<![\\ud800-\\udbff])[\\udc00-\\udfff]/g;
  window.addEventListener("input", ({target}) => {
    if (typeof target.value !== "string" || target.value.search(halves) < 0) return;
    const kind = target instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
    const whole = target.value.replace(halves, "\\ufffd");
    Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(target, whole);
  }, true);
})();
</script>"""


@functools.cache
def html() -> str:
    """Return Streamlit's HTML file with the script and the links to fixed files in its head."""
    content = (Path(file_util.get_static_dir()) / "index.html").read_text(encoding="utf-8")
    content = content.replace("<head>", f"<head>{SCRIPT % (json.dumps(base_path()), json.dumps(FILLED_IN))}", 1)
    return content.replace("</head>", f"{links()}</head>", 1)


async def _page(_: Request) -> Response:
    return HTMLResponse(html(), headers={"Cache-Control": "no-cache"})


async def _live(request: Request) -> Response:
    query = request.url.query
    return RedirectResponse(f"{base_path()}/?{query}" if query else f"{base_path()}/")


def routes() -> list[Route]:
    """Return the routes of all pages, for `st.App`. Call it after Streamlit's options are set."""
    base = base_path()
    return [*(Route(f"{base}/{path}", _page) for path in FILLED_IN), Route(f"{base}/{PAGES[0].path}", _live)]
