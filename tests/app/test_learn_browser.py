"""The Learn page in a browser: what follows a setting, and every control by keyboard and by name."""

from __future__ import annotations

from typing import Any

import pytest

from app.state.learn.learn_address import VIEWS
from tests.app.browsing import address_of
from tests.helpers import until

PATIENCE = 120.0

CONTROLS = {"button", "slider", "textbox", "combobox", "radio", "checkbox", "switch", "link", "spinbutton", "application"}
"""Roles in the accessibility tree that a person can operate."""

# Controls that Tab has to reach. Arrow keys move inside a group of radio buttons, or of buttons of which one is chosen.
STOPS = """() => {
  const group = (e) => e.type === "radio" ? e.name : e.closest("[data-testid=stButtonGroup]");
  const stops = new Map();
  for (const e of document.querySelectorAll("button, input, select, textarea, summary, a[href], [tabindex]")) {
    const reachable = !e.disabled && e.tabIndex >= 0 && e.checkVisibility({visibilityProperty: true});
    if (reachable) stops.set(group(e) ?? e, e.outerHTML.slice(0, 200));
  }
  window.reached = new Set();
  document.addEventListener("focusin", ({target}) => window.reached.add(group(target) ?? target), true);
  window.missed = () => [...stops].filter(([stop]) => !window.reached.has(stop)).map(([, text]) => text);
  document.activeElement.blur();
  return stops.size;
}"""


def opened(page: Any, address: str) -> None:
    page.goto(address)
    page.get_by_role("radiogroup", name="View").wait_for()
    until(lambda: not page.get_by_test_id("stStatusWidget").count(), PATIENCE)


@pytest.mark.browser
def test_everything_follows_a_setting(dashboard: str, page: Any) -> None:
    opened(page, f"{dashboard}/learn?story=pilot&step=2")
    read = {
        "readout": lambda: page.locator(".lab-fields td.here").all_inner_texts(),
        "formula": lambda: page.locator("annotation").all_text_contents(),
        "draw": lambda: page.get_by_text("pilot_rejected").first.inner_text(),
        "address": lambda: address_of(page),
    }
    page.locator(".lab-fields td.here").first.wait_for()
    back = page.get_by_role("button", name="Back to the story")
    assert back.is_disabled()

    def after(act: Any, *changed: str) -> None:
        before = {name: read[name]() for name in changed}
        act()
        until(lambda: all(read[name]() != before[name] for name in changed), PATIENCE, lambda: str(before))

    after(lambda: page.get_by_role("button", name="Draw again").click(), "draw", "address")
    until(back.is_enabled, PATIENCE)
    page.get_by_role("slider", name="Beta").first.focus()
    after(lambda: page.keyboard.press("ArrowRight"), "readout", "formula", "address")
    page.locator(".lab-fields .hit").first.focus()
    after(lambda: page.keyboard.press("Shift+ArrowUp"), "readout", "formula", "address")
    page.get_by_role("button", name="Copy").click()
    cell = page.get_by_test_id("stCode").last
    until(lambda: "beta=0.12" in cell.inner_text() and "point = (0.0, -7.0)" in cell.inner_text(), PATIENCE, cell.inner_text)
    page.keyboard.press("Escape")
    after(back.click, "readout", "address")
    until(back.is_disabled, PATIENCE)
    assert page.get_by_text("step 2 of").count() == 1


@pytest.mark.browser
@pytest.mark.extended
@pytest.mark.parametrize("view", VIEWS)
def test_every_control_has_a_name_and_is_reached_by_tab(dashboard: str, page: Any, view: str) -> None:
    opened(page, f"{dashboard}/learn?A=sgdpo&B=alpha_dpo&story=pilot&step=1&view={view}&point=1,2")
    page.wait_for_timeout(4000)
    closed = page.locator("details:not([open]) > summary")
    while closed.count():
        closed.first.click()
    page.wait_for_timeout(1500)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in tree if not node["ignored"] and node.get("role", {}).get("value") in CONTROLS]
    assert len(controls) > 40
    unnamed = [node for node in controls if not (node.get("name", {}).get("value") or "").strip()]
    assert unnamed == []
    stops = page.evaluate(STOPS)
    for _ in range(stops + 40):
        page.keyboard.press("Tab")
    assert page.evaluate("window.missed()") == []
    chosen = page.get_by_role("radio", name=VIEWS[view], exact=True).first
    chosen.focus()
    page.keyboard.press("ArrowLeft" if view == "model" else "ArrowRight")
    page.keyboard.press("Enter")
    until(lambda: f"view={view}" not in address_of(page) or view == "field", PATIENCE)
