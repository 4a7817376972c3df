"""Reading a page on which texts of data stand: all that can be read in it, and all that such a text has made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from app.text.plain import displayable

CANARY = """
for (const owner of [document, window]) {
  const own = owner === window ? "name" : "title";
  const {get, set} = Object.getOwnPropertyDescriptor(owner === window ? Window.prototype : Document.prototype, own) ??
    Object.getOwnPropertyDescriptor(window, own);
  Object.defineProperty(owner, own, {configurable: true, get, set(value) {
    if (String(value) === "owned") window.canary = true;
    set.call(this, value);
  }});
}
"""
"""Runs before a page's own scripts and notices when a script sets the title to "owned", as the hostile texts try to."""

FOREIGN = """() => {
  const made = [];
  const note = (element, why) => made.push(`${why}: ${element.outerHTML.slice(0, 300)}`);
  const each = (selector, why, unless = () => false) =>
    document.querySelectorAll(selector).forEach((element) => unless(element) || note(element, why));
  const has = (...words) => (element) => !words.some((word) => element.textContent.includes(word));
  if (window.canary) made.push("a script ran");
  each("iframe, object, embed, audio, video, base, form[action], meta[http-equiv]", "an element of data");
  each("img", "an image", (image) => /^(data:image.svg|blob:)/.test(image.src) && !image.closest(".stMarkdown"));
  each("[onerror], [onload], [onclick], [onmouseover]", "a handler");
  each("a[href], link[href]:not([rel*=icon]), use[href]", "a link elsewhere", (link) =>
    URL.parse(link.getAttribute("href"), location)?.origin === location.origin);
  each("style", "a style", has("body{display:none}"));
  each("body script", "a script", (script) => script.src || !script.textContent.includes("owned"));
  each(".katex, .katex-error", "a formula");
  each("[data-testid=stMarkdownColoredText], [data-testid=stMarkdownColoredBackground], [class*=stMarkdownColored]", "a colour",
    (element) => !element.textContent);
  each("[data-testid=stIconMaterial], .material-symbols-rounded", "an icon", has("skull"));
  each("[role=img][aria-label]", "an icon", (icon) => !/skull|streamlit/i.test(icon.ariaLabel));
  each("h1, h2, h3, h4, h5, h6", "a heading", has("Heading"));
  each("li, blockquote", "a block", has("list", "quote"));
  each("b, strong, em, small", "emphasis", (element) => !["bold", "x", "y"].includes(element.textContent.trim()));
  each("circle[r='9']", "a picture");
  if (document.body.innerText.includes("\\u{1f604}")) made.push("an emoji from its name");
  if (getComputedStyle(document.body).display === "none") made.push("the page was hidden");
  return made;
}"""
"""Lists what the page holds and no page of the lab would make of itself."""

READ = """(within) => {
  const parts = [];
  if (within !== "body") return [...document.querySelectorAll(within)].map((element) => element.textContent).join("\\u0000\\n");
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT);
  const leaf = (element) => ["CODE", "PRE", "TD", "P", "OPTION", "BUTTON"].includes(element.tagName)
    || element.matches(".answer, .heat, .degraded, [data-testid=stText], [data-testid=stMarkdownContainer], [role=option]");
  for (let element = walker.nextNode(); element; element = walker.nextNode()) {
    if (["INPUT", "TEXTAREA"].includes(element.tagName)) parts.push(element.value);
    else if (leaf(element)) parts.push(element.textContent);
    else if (element.childElementCount === 0) parts.push(element.textContent);
    for (const name of ["title", "aria-label"]) if (element.hasAttribute(name)) parts.push(element.getAttribute(name));
  }
  return [...new Set(parts)].join("\\u0000\\n");
}"""
"""Reads all texts of the page: of its elements, fields, titles and (in the tables that screen readers get) canvases."""


def watch(page: Any) -> None:
    """Look at a page before it is opened: scripts of data and dialogs are noticed."""
    page.add_init_script(CANARY)
    page.on("dialog", lambda dialog: (_ for _ in ()).throw(AssertionError(f"a dialog: {dialog.message}")))


def check(page: Any, expected: Iterable[str] = (), where: str = "", within: str = "body") -> None:
    """Fail where data became more than text, or where a text is not on the page as it was written.

    Args:
        page: The page.
        expected: Texts that stand on it. Characters that nobody would see are expected as code points, and white space as one
            blank, because lists show it so.
        where: Says which view this is.
        within: Selector of the elements in which the texts are expected.
    """
    made = page.evaluate(FOREIGN)
    assert not made, f"{where}: {made}"
    shown = squeezed(page.evaluate(READ, within))
    missing = [text for text in expected if squeezed(displayable(text)) not in shown]
    assert not missing, f"{where}: {[text[:80] for text in missing]} not in {shown[:3000]}"


def squeezed(text: str) -> str:
    """Return a text with all white space as single blanks."""
    return re.sub(r"\s+", " ", text).strip()
