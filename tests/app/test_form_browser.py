"""What only a browser can show of the New run form: what was entered stays, and a name that is typed is the one that is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.objectives import OBJECTIVES
from tests.app.browsing import body
from tests.helpers import until

pytestmark = pytest.mark.browser

PATIENCE = 240.0
"""Seconds; the machine may be busy."""


def fill(page: Any, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True).first
    field.fill(value)
    field.press("Enter")


def entered(page: Any, label: str) -> str:
    return str(page.get_by_label(label, exact=True).first.input_value())


def picked(page: Any, label: str) -> str:
    return str(page.get_by_role("combobox", name=label, exact=True).first.input_value())


def type_into_list(page: Any, label: str, text: str) -> None:
    page.get_by_role("combobox", name=label, exact=True).first.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("Enter")


def test_a_typed_name_is_the_one_that_is_taken(dashboard: str, page: Any) -> None:
    page.goto(f"{dashboard}/new-run")
    page.get_by_role("combobox", name="Objective", exact=True).wait_for()
    inside = [name for name in sorted(OBJECTIVES) if any(name in other for other in OBJECTIVES if other != name)]
    assert {"dpo", "aot"} <= {*inside}
    for name in [*inside, "sgdpo", "dpop", "aot_unpaired", "DPO"]:
        type_into_list(page, "Objective", name)
        wanted = f"{name.lower()}: "
        until(lambda: picked(page, "Objective").startswith(wanted), PATIENCE, lambda: picked(page, "Objective"))  # noqa: B023
    page.get_by_role("button", name="Start the run").wait_for()
    type_into_list(page, "Twin with another objective", "ipo")
    page.get_by_role("button", name="Start the twins").wait_for()
    assert picked(page, "Twin with another objective") == "ipo"
    page.get_by_role("link", name="Learn").click()
    page.get_by_role("combobox", name="Objective A", exact=True).wait_for()
    for name in ("sgdpo", "dpo"):
        type_into_list(page, "Objective A", name)
        until(lambda: picked(page, "Objective A").startswith(f"{name}: "), PATIENCE, lambda: picked(page, "Objective A"))  # noqa: B023


def test_what_was_entered_stays_until_it_is_reset(dashboard: str, page: Any, tmp_path: Path) -> None:
    page.goto(f"{dashboard}/new-run")
    page.get_by_role("combobox", name="Objective", exact=True).wait_for()
    fill(page, "r1", "0.7")
    type_into_list(page, "Objective", "dpo")
    until(lambda: picked(page, "Objective").startswith("dpo: "), PATIENCE, lambda: body(page))
    page.get_by_label("r1", exact=True).wait_for(state="detached")  # the former objective has a beta, too
    fill(page, "Beta β (1/nats)", "0.25")
    fill(page, "Steps", "77")
    page.get_by_text("More settings").click()
    fill(page, "Seed", "12345")
    fill(page, "Name", "my <b>run</b>")
    file = tmp_path / "mine.csv"
    file.write_text("prompt,chosen,rejected\n" + "".join(f"p{i},a{i},b{i}\n" for i in range(9)))
    page.get_by_text("Upload pairs").click()
    page.locator("input[type=file]").set_input_files(file)
    until(lambda: "9 pairs are stored and chosen" in body(page), PATIENCE, lambda: body(page))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 no PAR1")
    page.locator("input[type=file]").set_input_files(bad)
    until(lambda: "not a readable Parquet file" in body(page), PATIENCE, lambda: body(page))
    fill(page, "Warm-up ratio", "7")
    until(lambda: "it must be at most 1" in body(page), PATIENCE, lambda: body(page))

    page.get_by_role("link", name="Pairs").click()
    page.locator(".lab-rows tbody tr").first.wait_for()
    page.get_by_role("link", name="New run").click()
    until(lambda: picked(page, "Objective").startswith("dpo: "), PATIENCE, lambda: body(page))
    until(lambda: entered(page, "Beta β (1/nats)") == "0.25", PATIENCE, lambda: entered(page, "Beta β (1/nats)"))
    until(lambda: entered(page, "Steps") == "77", PATIENCE, lambda: entered(page, "Steps"))
    until(lambda: entered(page, "Name") == "my <b>run</b>", PATIENCE, lambda: entered(page, "Name"))
    assert picked(page, "Pairs").startswith("mine")
    page.get_by_text("More settings").click()
    until(lambda: entered(page, "Seed") == "12345", PATIENCE, lambda: entered(page, "Seed"))
    until(lambda: float(entered(page, "Warm-up ratio")) == 7, PATIENCE, lambda: entered(page, "Warm-up ratio"))
    type_into_list(page, "Objective", "sgdpo")
    until(lambda: entered(page, "r1") == "0.7", PATIENCE, lambda: body(page))

    page.get_by_role("button", name="Reset to defaults").click()
    until(lambda: entered(page, "Steps") == "200", PATIENCE, lambda: body(page))
    until(lambda: entered(page, "r1") == "0.6", PATIENCE, lambda: entered(page, "r1"))
    until(lambda: entered(page, "Name") == "", PATIENCE, lambda: entered(page, "Name"))
    until(lambda: picked(page, "Pairs").startswith("world"), PATIENCE, lambda: picked(page, "Pairs"))
    assert json.dumps(body(page)).count("77 steps") == 0
