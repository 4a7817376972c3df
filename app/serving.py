"""Serve the addresses of all pages, so that each can be opened, bookmarked and left by the browser's Back button.

Streamlit answers every address with one HTML file. A script in that file's head corrects four faults of Streamlit's script:

- It looks for the server below the page's path (a 404); the server's address is given.
- It adds a history entry for every change of the address; parameters set by the page replace the entry.
- It takes the parameters of a page's fields out of the address when the page is left; the page's entry keeps them.
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
  // A page that is left takes the parameters of its fields out of the address just before; its entry gets them back. Other removals
  // become an entry a moment later.
  let removal = null;
  const settle = (left) => {
    if (!removal) return;
    const {before, after, timer} = removal;
    removal = null;
    clearTimeout(timer);
    history.replaceState(before.state, "", before.address);
    if (!left) push(after.state, "", after.address);
  };
  window.labLeaving = (path) => {
    if (path === pageOf(location)) return;
    leaving = performance.now();
    settle(true);
  };
  window.addEventListener("popstate", () => {
    leaving = -Infinity;
    if (removal) clearTimeout(removal.timer);
    removal = null;
  }, true);
  window.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    const here = link && link.origin === location.origin && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (here) window.labLeaving(pageOf(link));
  }, true);
  history.pushState = (state, title, address) => {
    settle(new URL(address ?? location.href, location.href).pathname !== location.pathname);
    const now = new URL(location.href), next = new URL(address ?? now.href, now);
    const names = filledIn[pageOf(now)];
    const kept = [...now.searchParams].every(([name, value]) => next.searchParams.get(name) === value);
    const added = [...next.searchParams.keys()].filter((name) => !now.searchParams.has(name));
    const byItself = names && (names.includes("*") || (kept && (!now.search || added.every((name) => names.includes(name)))));
    if (now.pathname !== next.pathname) leaving = -Infinity;
    else if (performance.now() - leaving < 15000) return;
    const soon = performance.now() - last < 100;  // several changes of one click are one
    const fewer = !kept && [...next.searchParams].every(([name, value]) => now.searchParams.get(name) === value);
    if (now.pathname === next.pathname && (byItself || soon)) history.replaceState(state, title, address);
    else if (now.pathname === next.pathname && fewer) {
      const before = {state: history.state, address: now.href}, after = {state, address: next.href};
      history.replaceState(state, title, address);
      removal = {before, after, timer: setTimeout(settle, 400, false)};
    } else push(state, title, address);
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
