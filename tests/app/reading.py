"""What a person can read on a page, measured in the browser: texts that are cut, and texts that hardly stand out."""

from __future__ import annotations

from typing import Any

CUT = """() => {
  const cut = [];
  const hides = (style, way) => ["hidden", "clip"].includes(style[way]);
  const scrolls = (style, way) => ["auto", "scroll"].includes(style[way]);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, style, noscript, title, [aria-hidden=true], [role=option], .legendtoggle")) continue;
    if (element.closest("[data-testid=stIconMaterial], [data-testid=stDataFrame]")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2 || getComputedStyle(element).visibility === "hidden") continue;
    let across = true, down = true;
    for (let a = element; a && a !== document.body && (across || down); a = a.parentElement) {
      const style = getComputedStyle(a), frame = a.getBoundingClientRect();
      if (frame.width < 2 || frame.height < 2) { across = down = false; break; }  // words for screen readers alone
      const wide = box.right > frame.right + 2 || box.left < frame.left - 2;
      const high = box.bottom > frame.bottom + 3 || box.top < frame.top - 3;
      if (a.tagName.toLowerCase() === "svg" ? wide && across : (across && wide && hides(style, "overflowX"))
          || (down && high && hides(style, "overflowY"))) {
        const where = a.dataset?.testid || a.className?.baseVal || a.className || a.tagName;
        cut.push(`${node.textContent.trim().slice(0, 60)} in ${where}`);
        break;
      }
      if (scrolls(style, "overflowX")) across = false;
      if (scrolls(style, "overflowY")) down = false;
    }
  }
  return [...new Set(cut)];
}"""
"""Texts that reach out of a box that hides what reaches out of it."""

FAINT = """() => {
  const parse = (text) => {
    const m = text.match(/rgba?\\(([^)]+)\\)/);
    if (m) { const [r, g, b, a = 1] = m[1].split(/[ ,/]+/).map(Number); return [r, g, b, a]; }
    const c = text.match(/color\\(srgb ([^)]+)\\)/);
    if (c) { const [r, g, b, a = 1] = c[1].split(/[ /]+/).map(Number); return [255 * r, 255 * g, 255 * b, a]; }
    return [0, 0, 0, 0];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    // The number of a slider stands above its thumb, of which it is a part.
    const thumb = element.closest("[data-testid=stSliderThumbValue]");
    for (let a = thumb ? thumb.parentElement.parentElement : element; a; a = a.parentElement) {
      const colour = parse(getComputedStyle(a).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] >= 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, style, noscript, title, option, [data-testid=stIconMaterial]")) continue;
    if (element.closest("[disabled], [aria-disabled=true], [data-testid=stStatusWidget], .heatmap-label")) continue;
    if (element.closest("[data-testid=stSpinner], [data-testid=stSkeleton], [data-stale=true]")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width < 2 || box.height < 2 || style.visibility === "hidden") continue;
    let shown = 1;
    for (let a = element; a; a = a.parentElement) shown *= Number(getComputedStyle(a).opacity);
    const drawn = parse(element.closest("svg") ? style.fill : style.color);
    if (shown < 0.05 || drawn[3] < 0.05) continue;
    if (element.closest("svg")) shown *= Number(style.fillOpacity);
    const below = ground(element), ink = over([...drawn.slice(0, 3), drawn[3] * shown], below);
    const [high, low] = [light(ink), light(below)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    const where = element.closest("[data-testid]")?.dataset.testid;
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${node.textContent.trim().slice(0, 50)} in ${where}`);
  }
  return [...new Set(faint)];
}"""
"""Texts whose contrast to what lies beneath them is below 4.5 to 1; what is switched off is exempt."""


def cut_texts(page: Any) -> list[str]:
    """Texts of a page that are cut."""
    found: list[str] = page.evaluate(CUT)
    return found


def faint_texts(page: Any) -> list[str]:
    """Texts of a page that hardly stand out."""
    found: list[str] = page.evaluate(FAINT)
    return found
