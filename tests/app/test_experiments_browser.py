"""The Experiments page in a real browser: declared from pasted YAML, started, followed, stopped, continued, and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import lab
from lab.world import ensure
from tests.app.browsing import address_of, body
from tests.experiments.faked import content, folder_with
from tests.helpers import until

pytestmark = pytest.mark.browser

YAML = """name: first
objectives: [dpo, {name: sgdpo, label: "<b>mine</b>"}]
seeds: 2
steps: 12
batch_size: 2
eval_every: 6
eval_prompts: 3
eval_pairs: 4
panel_pairs: 0
probe_budget: 0
"""


def test_an_experiment_is_declared_followed_and_read(shared_cache: Path, dashboard: str, page: Any) -> None:
    ensure(cache=shared_cache)
    page.goto(f"{dashboard}/experiments")
    page.get_by_role("button", name="Declare an experiment").click()
    page.get_by_text("Fill in from a YAML file").click()
    page.get_by_label("Or its content").fill(YAML)
    page.get_by_label("Or its content").press("Control+Enter")
    page.get_by_role("button", name="Fill in", exact=True).click()
    page.get_by_text("2 variants with 2 seeds each").wait_for()
    page.get_by_label("Seeds", exact=True).fill("0")
    page.get_by_label("Seeds", exact=True).press("Enter")
    page.get_by_text("seeds = 0 does not work").first.wait_for()
    assert page.get_by_role("button", name="Start the runs").is_disabled()
    page.get_by_label("Seeds", exact=True).fill("2")
    page.get_by_label("Seeds", exact=True).press("Enter")
    page.get_by_role("button", name="Start 4 runs").click()

    page.locator(".lab-grid button").first.wait_for()
    until(lambda: "experiment=first" in address_of(page), 60, lambda: address_of(page))
    experiment = lab.open_experiment("first")
    assert page.locator(".lab-grid th b").count() == 0
    assert "<b>mine</b>" in page.locator(".lab-grid").inner_text()
    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: not experiment.active, 120, lambda: body(page))
    page.get_by_role("button", name="Continue").click()
    until(lambda: experiment.state().count("finished") == 4, 240, lambda: body(page))
    page.get_by_text("4 of 4 runs finished").wait_for()

    cell = page.get_by_role("button", name="dpo, seed 1: finished, step 12 of 12")
    cell.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Recorded as").or_(page.get_by_text("Step 12 of 12")).first.wait_for()
    assert f"run={experiment.runs[2].key}" in address_of(page)
    page.keyboard.press("ArrowDown")
    assert "mine" in str(page.evaluate("document.activeElement.getAttribute('aria-label')"))

    page.get_by_role("radio", name="Results").click()
    page.get_by_text("after training over 2 seeds").first.wait_for()
    page.locator(".lab-figure .main-svg").first.wait_for()
    until(lambda: "view=Results" in address_of(page), 60, lambda: address_of(page))
    page.reload()
    page.get_by_text("after training over 2 seeds").first.wait_for()
    page.get_by_role("radio", name="Curves").click()
    until(lambda: page.locator(".lab-figure .main-svg").count() >= 2, 60, lambda: body(page))
    page.get_by_role("button", name="All experiments").click()
    folder_with(content(["dpo", "ipo"], 1, steps=5), "second")
    page.locator(".lab-rows tbody tr", has_text="second").click()
    page.get_by_role("button", name="ipo, seed 0").wait_for()  # another experiment begins with its progress
    page.get_by_role("button", name="All experiments").click()
    page.locator(".lab-rows tbody tr", has_text="4 of 4").click()
    page.locator(".lab-grid button").first.wait_for()
    page.get_by_role("radio", name="Curves").click()
    until(lambda: page.locator(".lab-figure .main-svg").count() >= 2, 60, lambda: body(page))
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("A dpo, 2 seeds").first.wait_for()
    assert set(parse_qs(urlsplit(address_of(page)).query)) == {"runs"}
    page.go_back()
    until(lambda: "/experiments?experiment=first" in address_of(page), 60, lambda: address_of(page))
    assert "view=Curves" in address_of(page), "a page that is left keeps what its fields had put into the address"
    until(lambda: page.locator(".lab-figure .main-svg").count() >= 2, 60, lambda: body(page))
    page.get_by_role("button", name="Runs", exact=True).click()
    until(lambda: page.locator(".lab-rows tbody tr").count() == 5, 60, lambda: body(page))
