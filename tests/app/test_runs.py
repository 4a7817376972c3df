"""The Runs page without a browser: what it lists, filters and sorts, and what it changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.pages import RUNS
from app.state import access
from app.state.access import Tokens
from app.views.runs.groups import Group, id_of, ticked_after
from app.views.runs.listing import TICKED, made
from app.views.runs.ticked_runs import ASKED
from lab.experiments import Driver
from lab.run.handle import Run
from lab.run.listing.index import list_runs
from tests.app.conftest import HOSTILE_MARKUP
from tests.app.pages import open_page, page_text
from tests.experiments.faked import WrittenRuns, content, folder_with


def rows(app: AppTest) -> list[dict[str, Any]]:
    """Return the rows that the browser receives."""
    (drawn,) = [element.proto for element in app.get("bidi_component") if element.proto.component_name == "lab_rows"]
    page = json.loads(drawn.bytes)
    heads = [column["title"] for column in page["columns"]]
    return [{"id": row["id"]} | dict(zip(heads, row["cells"])) for row in page["rows"]]


def names(app: AppTest) -> list[str]:
    return [row["id"] for row in rows(app)]


def button(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def open_runs(**more: Any) -> AppTest:
    return open_page(RUNS, **more)


@pytest.fixture
def three(store_run: Callable[..., Run]) -> list[Run]:
    runs = [
        store_run("one", objective="sgdpo", steps=20),
        store_run("two", objective="dpo", steps=20, state="failed", error="Out of memory"),
        store_run("lives", objective="dpo", steps=40, state="running"),
    ]
    for number, run in enumerate(runs):
        manifest = run.manifest | {"created": f"2026-01-0{number + 1}T12:00:00+00:00"}
        (run.dir / "run.json").write_text(json.dumps(manifest))
    return runs


def test_a_row_shows_state_settings_numbers_and_curve(three: list[Run]) -> None:
    three[0].rename(HOSTILE_MARKUP)
    three[0].tag("base line")
    app = open_runs()
    assert names(app) == ["lives", "two", "one"]  # the newest first
    row = rows(app)[2]
    assert row["Name"]["text"] == HOSTILE_MARKUP
    assert row["Name"]["whole"] == f"{HOSTILE_MARKUP} (one)"
    assert [row[head]["text"] for head in ("State", "Objective", "Tags", "Steps", "Made")] == [
        "Finished", "SGDPO", "base line", "20", made(datetime(2026, 1, 1, 12).timestamp())
    ]  # fmt: skip
    assert row["Made"]["whole"].startswith("1 January 2026")
    assert row["Oracle reward of sampled answers"]["text"] == "0.62"
    steps, values = row["Loss"]["curve"]
    assert (steps[0], steps[-1]) == (1, 20)
    assert values[-1] == pytest.approx(three[0].scalars("loss")["loss"].iloc[-1], rel=1e-5)
    assert (rows(app)[1]["State"]["text"], rows(app)[1]["State"]["whole"]) == ("Failed", "Out of memory")
    assert rows(app)[0]["Steps"]["text"] == "20 / 40"


def test_filters_and_order_stand_in_the_address(three: list[Run]) -> None:
    three[2].archive()
    app = open_runs(words="dpo")
    assert names(app) == ["two", "one"]
    app.text_input(key="words").set_value("sgdpo").run()
    assert names(app) == ["one"]
    assert names(open_runs(archived="shown", state="running")) == ["lives"]
    assert names(open_runs(archived="only")) == ["lives"]
    assert names(open_runs(since="2026-01-02")) == ["two"]
    assert names(open_runs(until="2026-01-01")) == ["one"]
    assert names(open_runs(sort="objective", ascending="yes")) == ["two", "one"]
    nothing = open_runs(words="nowhere")
    assert "No run matches" in page_text(nothing)
    button(nothing, "Clear all filters").click().run()
    assert names(nothing) == ["two", "one"]


def test_a_page_holds_25_runs_of_all(store_run: Callable[..., Run]) -> None:
    for number in range(27):
        store_run(f"run{number:02d}", steps=1, evaluations=False, layers=False)
    app = open_runs(sort="name", ascending="yes")
    assert len(names(app)) == 25
    assert page_text(app).count("27 runs") == 1
    assert names(open_runs(sort="name", ascending="yes", sheet="2")) == ["run25", "run26"]


def test_ticked_runs_are_tagged_archived_and_deleted(three: list[Run]) -> None:
    app = open_runs(session={TICKED: ["one", "two"]})
    assert "2 ticked" in page_text(app)
    assert not button(app, "Compare").disabled
    button(app, "Tag").click().run()
    app.multiselect(key="runs.add").set_value(["good"]).run()
    button(app, "Change 2 runs").click().run()
    assert [run.labels.tags for run in three] == [("good",), ("good",), ()]
    button(app, "Archive").click().run()
    assert names(app) == ["lives"]
    app = open_runs(archived="only", session={TICKED: ["one", "two"]})
    button(app, "Unarchive").click().run()
    assert [run.labels.archived for run in three] == [False] * 3
    app = open_runs(session={TICKED: ["one", "two"]})
    button(app, "Delete").click().run()
    assert "Move 2 runs to the trash?" in page_text(app)
    assert "0 checkpoints" in page_text(app)
    app.query_params["run"] = "one"
    app.run()
    button(app, "Move to the trash").click().run()
    assert names(app) == ["lives"]
    assert "There is no run one" not in page_text(app)
    assert [toggle.label for toggle in app.toggle if "Trash" in toggle.label] == ["Trash: 2 deleted runs"]
    assert {run.name for run in lab.trashed_runs()} == {"one", "two"}


def test_an_experiment_is_one_line_that_opens_to_its_runs(three: list[Run]) -> None:
    folder = folder_with(content(["dpo", "sgdpo"], [0, 1], steps=5), "rates")
    Driver(folder, WrittenRuns()).run()
    app = open_runs()
    assert names(app) == ["experiment:rates", "lives", "two", "one"]
    assert rows(app)[0]["State"]["text"] == "▸ rates: 4 of 4 runs finished"
    assert "7 runs" in page_text(app)
    assert rows(open_runs(words="sgdpo rates"))[0]["State"]["text"] == "▸ rates: 4 of 4 runs finished (2 runs listed)"
    run = lab.open_run(next(iter(folder.run_folders().values())))
    run.rename("rates: dpo, seed 0")
    shown = {row["id"]: row["Name"]["text"] for row in rows(open_runs(open="rates")) if "Name" in row}
    assert shown[run.dir.name] == "dpo, seed 0", "the line above has the experiment's name"
    assert {row["id"]: row["Name"]["text"] for row in rows(open_runs(ungrouped="yes"))}[run.dir.name] == "rates: dpo, seed 0"
    opened = names(open_runs(open="rates"))
    assert len(opened) == 8
    assert {name.rpartition("-")[0] for name in opened[1:5]} == {"rates-dpo", "rates-sgdpo"}
    assert names(open_runs(ungrouped="yes")) == opened[1:]
    members = opened[1:5]
    app = open_runs(session={TICKED: members, ASKED: "delete"})
    assert "4 runs belong to the experiment rates. Results of finished runs stay with the experiment" in page_text(app)
    runs = list_runs().runs
    group = Group("rates", tuple(run for run in runs if run.folder.name in members), opened=False)
    page = {id_of(item): item for item in (group, *(run for run in runs if run.folder.name not in members))}
    assert ticked_after(["one"], ["experiment:rates", "one"], page) == ["one", *[run.folder.name for run in group.runs]]
    assert ticked_after(["one", *members], ["one"], page) == ["one"]
    assert ticked_after(["elsewhere"], ["two"], page) == ["elsewhere", "two"]


def test_a_run_that_trains_is_not_deleted_and_the_page_says_why(three: list[Run]) -> None:
    app = open_runs(session={TICKED: ["lives"], ASKED: "delete"})
    button(app, "Move to the trash").click().run()
    assert "stop it before you delete it" in page_text(app)
    assert names(app) == ["lives", "two", "one"]


def test_deleted_runs_are_restored_or_deleted_for_good(three: list[Run]) -> None:
    three[0].delete()
    three[1].delete()
    app = open_runs(session={"trash": True})
    assert "Trash: 2 deleted runs" in [toggle.label for toggle in app.toggle]
    app.multiselect(key="trash.chosen").set_value(["one"]).run()
    button(app, "Restore").click().run()
    assert names(app) == ["lives", "one"]
    next(each for each in app.button if each.label.startswith("Empty the trash (")).click().run()
    assert lab.trashed_runs() == []
    assert not any(toggle.label.startswith("Trash") for toggle in app.toggle)


def test_the_opened_run_is_named_and_annotated(three: list[Run]) -> None:
    app = open_runs(run="one")
    assert "sgdpo: beta" in page_text(app)
    app.text_input(key="name.one.").set_value("Best so far").run()
    assert three[0].name == "Best so far"
    assert app.text_input(key="name.one.Best so far").value == "Best so far"
    app.text_area[0].set_value("Try r1 = 0.9 next.").run()
    assert three[0].labels.note == "Try r1 = 0.9 next."
    app.multiselect(key="tags.one.()").set_value(["x"]).run()
    assert three[0].labels.tags == ("x",)
    assert "There is no run gone here" in page_text(open_runs(run="gone"))


def test_an_empty_list_says_what_to_do() -> None:
    app = open_runs()
    assert "Start one, and it appears" in page_text(app)
    assert "python -m lab train" in page_text(app)


def test_a_folder_that_cannot_be_listed_is_named(three: list[Run]) -> None:
    (three[1].dir / "run.json").write_text('{"conf')
    app = open_runs()
    assert names(app) == ["lives", "one"]
    assert "run.json is damaged" in page_text(app)


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tokens = Tokens.new(8501)
    monkeypatch.setattr(access, "_cookies", lambda: {tokens.cookie: tokens.watch})
    access.serve_with(tokens)
    yield
    access.serve_with(None)


def test_a_watching_browser_changes_nothing(three: list[Run], watching: None) -> None:
    app = open_runs(run="one", session={TICKED: ["one"], ASKED: "delete"})
    for label in ("Tag", "Archive", "Delete"):
        assert button(app, label).disabled
    assert all(field.disabled for field in app.text_area)
    assert "Move to the trash" not in [each.label for each in app.button if not each.disabled]
    assert len(lab.runs()) == 3
