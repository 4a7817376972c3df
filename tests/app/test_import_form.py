"""The import form of the Pairs page: columns, first rows through a template, refused rows, remembered mappings and updates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lab import home
from lab.pairs import PairStore, open_pairs
from tests.app.pages import page_text
from tests.helpers import until

PAGE = Path(__file__).parents[2] / "app" / "views" / "pairs" / "pairs.py"
ROWS: list[dict[str, Any]] = [
    {"frage": f"Which herb stands in pot {i}?", "gut": f"Basil {i}.", "schlecht": f"No herb {i}.", "system": "Be brief."}
    for i in range(8)
]


def lines(rows: list[Any]) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def open_form(path: Path, into: str = "", **values: Any) -> AppTest:
    """Draw the form with a path in it; `into` is chosen afterwards, as by a person, since each source has a proposal."""
    store = open_pairs([{"prompt": "p", "chosen": "a", "rejected": "b"}], home=home.home() / "pairs", name="other")
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pairs"], at.query_params["view"] = store.path.name, "import"
    at.session_state["import.how"] = "A path, or a data set of the hub"
    at.session_state["import.place"] = str(path)
    for name, value in values.items():
        at.session_state[f"import.{name}"] = value
    at.run()
    if into:
        at.selectbox(key="import.into").select(into).run()
    assert not at.exception
    return at


def choose(at: AppTest, **columns: str) -> AppTest:
    for name, column in columns.items():
        if name == "prompt":
            next(each for each in at.multiselect if each.label == "Prompt").set_value([column])
        else:
            next(each for each in at.selectbox if each.key and each.key.endswith(f".{name}")).select(column)
    return at.run()


def press(at: AppTest, label: str) -> AppTest:
    next(button for button in at.button if button.label.startswith(label)).click().run()
    until(lambda: not at.run().get("progress") and "reading the pairs" not in page_text(at))
    assert not at.exception
    return at


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "kräuter.jsonl"
    path.write_text(lines([*ROWS[:3], "{broken", *ROWS[3:], ROWS[0] | {"gut": ""}]))
    return path


def test_columns_are_chosen_rows_shown_and_the_good_ones_imported(source: Path) -> None:
    at = open_form(source)
    assert len(at.error) == 1  # for three rows alike
    assert "Lines 1, 2, 3: the field 'chosen' is missing" in page_text(at)
    assert "(under Columns)" in page_text(at)
    choose(at, prompt="frage", chosen="gut", rejected="schlecht")
    assert "system: Be brief.\nuser: Which herb stands in pot 0?" in page_text(at)
    press(at, "Import")
    text = page_text(at)
    assert "2 lines cannot be read as pairs, so nothing was imported; 8 can." in text
    (table,) = at.dataframe
    assert list(table.value["number"]) == [4, 10]
    assert "chosen is empty" in table.value["reason"][1]
    press(at, "Import the good ones (8)")
    assert "8 pairs are stored as kräuter." in page_text(at)
    (stored,) = (home.home() / "pairs").glob("kr-uter-*.sqlite")
    assert len(PairStore(stored)) == 8
    press(at, "Open the set")
    assert at.query_params["pairs"] in (stored.name, [stored.name])


def test_a_mapping_is_remembered_by_the_column_names(source: Path, tmp_path: Path) -> None:
    source.write_text(lines(ROWS))
    press(choose(open_form(source), prompt="frage", chosen="gut", rejected="schlecht"), "Import")
    other = tmp_path / "other.jsonl"
    other.write_text(lines([row | {"gut": "Mint."} for row in ROWS]))
    at = open_form(other)
    assert next(each for each in at.multiselect if each.label == "Prompt").value == ["frage"]
    import lab

    assert {pair.chosen for pair in lab.open_pairs(other)} == {"Mint."}


def test_a_set_is_updated_in_the_place_of_doubled(source: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)]
    source.write_text(lines(rows))
    store = open_pairs(source, home=home.home() / "pairs")
    store.edit(store.ids()[0], chosen="edited")
    source.write_text(lines([*rows, {"prompt": "new", "chosen": "a", "rejected": "b"}]))
    at = open_form(source, into=store.path.name)
    press(at, "Import")
    assert "1 added, 0 updated, 4 unchanged" in page_text(at)
    assert [pair.chosen for pair in PairStore(store.path)][:2] == ["edited", "a"]
    assert len(PairStore(store.path)) == 5


def test_rows_are_shown_as_the_model_is_trained_on_them(source: Path, model_folder: Callable[[str], Path]) -> None:
    model = {"model": "other", "model.path": str(model_folder("llama"))}
    source.write_text(lines([{"prompt": f"How do I bake? {i}", "chosen": "Mix.", "rejected": "No."} for i in range(3)]))
    at = open_form(source, **model)
    assert any("Mix." in code.value and "<" in code.value for code in at.code)
    source.write_text(lines([{"prompt": [{"role": "user", "content": "Hi"}], "chosen": "a", "rejected": "b"}]))
    assert "no chat template" in page_text(open_form(source, **model))


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("[1, 2", "not valid JSON"), ("x", "not valid JSON")])
def test_what_cannot_be_read_is_said_on_the_page(source: Path, content: str, message: str) -> None:
    source.write_text(content)
    at = open_form(source)
    if not at.error:
        press(at, "Import")
    assert message in page_text(at)


def test_an_upload_updates_the_set_of_its_name_and_columns_and_drops_what_is_gone(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)]
    source = tmp_path / "kitchen.jsonl"
    source.write_text(lines(rows))
    store = open_pairs(source, home=home.home() / "pairs")
    at = upload(store, "kitchen.jsonl", [*rows[:3], {"prompt": "new", "chosen": "a", "rejected": "b"}])
    assert at.selectbox(key="import.into").value == store.path.name
    assert vanished_choices(at) == ["drop them (can be undone)"]
    press(at, "Import")
    assert "1 added, 0 updated, 3 unchanged, 1 no longer in the source (dropped)" in page_text(at)
    assert "No longer in the source: p3" in page_text(at)
    assert [pair.prompt for pair in PairStore(store.path)] == ["p0", "p1", "p2", "new"]
    unrelated = upload(store, "kitchen.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}])
    assert unrelated.selectbox(key="import.into").value == "a new set"
    other = upload(store, "other.jsonl", rows)
    assert (other.selectbox(key="import.into").value, vanished_choices(other)) == ("a new set", [])
    assert vanished_choices(other.selectbox(key="import.into").select(store.path.name).run()) == ["keep them"]


def vanished_choices(at: AppTest) -> list[Any]:
    return [radio.value for radio in at.radio if radio.label == "Rows of the set that are no longer in the file"]


def upload(opened: PairStore, name: str, rows: list[Any]) -> AppTest:
    """Draw the form with an uploaded file in it, while a set is open."""
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["pairs"], at.query_params["view"] = opened.path.name, "import"
    at.run()
    at.file_uploader[0].upload(name, lines(rows).encode()).run()
    assert not at.exception
    return at


def test_a_new_set_is_made_beside_that_of_a_path_if_it_is_chosen(tmp_path: Path) -> None:
    source = tmp_path / "kitchen.jsonl"
    source.write_text(lines([{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)]))
    store = open_pairs(source, home=home.home() / "pairs")
    store.drop(store.ids()[0])
    at = open_form(source)
    at.selectbox(key="import.into").select("a new set").run()
    press(at, "Import")
    assert "4 pairs are stored as kitchen." in page_text(at)
    assert len(list((home.home() / "pairs").glob("kitchen-*.sqlite"))) == 2


def test_a_kept_mapping_is_shown_and_forgotten(source: Path, tmp_path: Path) -> None:
    source.write_text(lines(ROWS))
    press(choose(open_form(source), prompt="frage", chosen="schlecht", rejected="gut"), "Import")
    other = tmp_path / "other.jsonl"
    other.write_text(lines(ROWS))
    at = open_form(other)
    assert "kept for files with these columns" in page_text(at)
    next(button for button in at.button if button.label == "Forget them").click().run()
    assert not at.exception
    assert "kept for files with these columns" not in page_text(at)
    assert next(each for each in at.multiselect if each.label == "Prompt").value == []
