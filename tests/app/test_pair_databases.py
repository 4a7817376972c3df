"""Sets in a PostgreSQL database on the pages: opened by their address, trained on, imported into; and passwords, kept nowhere."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from streamlit.testing.v1 import AppTest

import lab
from app.state import pair_sets
from lab import home
from lab.pairs import Pair, PairsError, PairStore, is_url, pairs_from_rows, read_pairs
from lab.pairs.addresses import PASSWORD, holds_password
from tests.app.pages import page_text
from tests.app.test_import_form import open_form, press
from tests.app.test_pairs import errors, listed, query
from tests.pairs.postgres import ROOT, missing, server

VIEWS = ROOT / "app" / "views"
AWAY = "postgresql://ann@127.0.0.1:9/pairs?set=mine"
SECRET = "hunter2"
WITH_PASSWORD = [
    f"postgresql://ann:{SECRET}@127.0.0.1:9/pairs?set=mine",
    f" PostgreSQL://ann:{SECRET}@127.0.0.1:9/pairs",
    f"postgres://ann:{SECRET}/+@127.0.0.1:nine/pairs",
    f"postgresql://ann@127.0.0.1:9/pairs?password={SECRET}&set=mine",
    f"postgresql://ann@127.0.0.1:9/pairs?set=mine&p%61ssword={SECRET}",
    f"postgresql+psycopg://ann@127.0.0.1:9/pairs?sslpassword={SECRET}",
    f"mysql://ann:{SECRET}@127.0.0.1/pairs",
    f"https://ann:{SECRET}@127.0.0.1/pairs.jsonl",
]
ROWS = [{"prompt": f"Which herb stands in pot {i}?", "chosen": f"Basil {i}.", "rejected": f"No herb {i}."} for i in range(12)]


@pytest.fixture
def address(postgres_url: str, lab_home: Path) -> Iterator[str]:
    """A set in a database that nobody has listed yet."""
    address = f"{postgres_url}&set={quote(lab_home.parent.name[:50])}"
    PairStore.create(address, pairs_from_rows(ROWS), name="herbs", source="a book").close()
    yield address
    pair_sets.unlist_database(address)


def open_pairs_page(**query: str) -> AppTest:
    at = AppTest.from_file(VIEWS / "pairs" / "pairs.py", default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def open_address(at: AppTest, address: str) -> AppTest:
    at.text_input(key="databases.address").set_value(address)
    at.button(key="databases.open").click().run()
    assert not at.exception
    return at


def everything_kept(folder: Path) -> str:
    return " ".join(file.read_text(errors="replace") + file.name for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("address", WITH_PASSWORD)
def test_an_address_with_a_password_is_refused_and_repeated_nowhere(address: str, lab_home: Path, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    calls = (
        lambda: lab.open_pairs(address),
        lambda: read_pairs(address),
        lambda: lab.train("dpo", address, steps=1),
        lambda: lab.train("dpo", address, steps=-1),
        lambda: lab.preflight("dpo", address),
        lambda: pair_sets.list_database(address),
    )
    for call in calls:
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == PASSWORD
    if is_url(address):
        with pytest.raises(PairsError, match="holds a password"):
            PairStore(address)
    assert SECRET not in everything_kept(lab_home)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address", [AWAY, "postgresql://host/pairs", "owner/name", "C:/a:b@c", "a:b@c.jsonl", "postgresql:///p?host=/a/b"]
)
def test_other_places_hold_no_password(address: str) -> None:
    assert not holds_password(address)


def test_no_page_shows_or_keeps_a_password(lab_home: Path) -> None:
    store = lab.open_pairs(ROWS)
    at = open_address(open_pairs_page(pairs=store.path.name), WITH_PASSWORD[0])
    assert errors(at) == [PASSWORD]
    assert at.text_input(key="databases.address").value == ""
    assert SECRET not in str(at.main) + str(at.query_params)
    form = AppTest.from_file(VIEWS / "new_run" / "new_run.py", default_timeout=60).run()
    form.selectbox(key="pairs").select("other").run()
    form.text_input(key="pairs.path").set_value(WITH_PASSWORD[3]).run()
    assert errors(form) == [PASSWORD]
    assert not any("lab train" in code.value or "lab.train" in code.value for code in form.code)
    assert SECRET not in everything_kept(lab_home)


@pytest.mark.extended
def test_no_command_shows_a_password(lab_home: Path) -> None:
    for arguments in (["pairs"], ["train", "--objective", "dpo", "--steps", "1", "--pairs"]):
        command = [sys.executable, "-m", "lab", *arguments, WITH_PASSWORD[0]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode != 0
        assert "holds a password" in done.stderr
        assert SECRET not in done.stdout + done.stderr + everything_kept(lab_home)


def test_a_database_that_is_away_is_one_sentence_and_the_page_stays_usable(lab_home: Path) -> None:
    pytest.importorskip("psycopg")
    store = lab.open_pairs(ROWS)
    at = open_address(open_pairs_page(pairs=store.path.name), AWAY)
    (message,) = errors(at)
    assert "could not be opened" in message
    assert "Connection refused" in message
    assert "\n" not in message
    assert len(listed(at)["rows"]) == len(ROWS), "the set that was there stays"
    file = pair_sets.address_file(home.home() / "pairs", AWAY)
    file.write_text(AWAY)
    at = open_pairs_page(pairs=file.name)
    assert "could not be opened" in errors(at)[0]
    at.selectbox[0].select(store.path.name).run()
    assert not at.exception
    assert errors(at) == []
    assert len(listed(at)["rows"]) == len(ROWS)
    form = AppTest.from_file(VIEWS / "new_run" / "new_run.py", default_timeout=60).run()
    form.selectbox(key="pairs").select(file.name).run()
    assert not form.exception
    assert "could not be opened" in errors(form)[0]
    form.selectbox(key="pairs").select(store.path.name).run()
    assert errors(form) == []


@pytest.mark.extended
def test_a_database_that_goes_away_while_a_set_is_open(lab_home: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    store = lab.open_pairs(ROWS)
    with server() as url:
        team = PairStore.create(f"{url}&set=gone", pairs_from_rows(ROWS), name="herbs", source="a book")
        at = open_address(open_pairs_page(pairs=store.path.name), team.location)
        assert len(listed(at)["rows"]) == len(ROWS)
    assert "could not be read" in errors(at.run())[0]
    assert not at.exception
    form = AppTest.from_file(VIEWS / "new_run" / "new_run.py", default_timeout=60).run()
    form.selectbox(key="pairs").select(pair_sets.key(team.location)).run()
    assert not form.exception
    assert "could not be read" in errors(form)[0]
    at.selectbox[0].select(store.path.name).run()
    assert not at.exception
    assert len(listed(at)["rows"]) == len(ROWS)
    pair_sets.unlist_database(team.location)


@pytest.mark.extended
def test_a_set_is_opened_listed_edited_and_taken_off_the_list(address: str) -> None:
    store = lab.open_pairs(ROWS[:2])
    at = open_address(open_pairs_page(pairs=store.path.name), address)
    key = query(at, "pairs")
    assert key is not None
    assert key.endswith(".postgresql")
    assert pair_sets.stored_sets()[key] == address
    assert "database" in pair_sets.label(key)
    assert len(listed(at)["rows"]) == len(ROWS)
    team = PairStore(address)
    at = open_pairs_page(pairs=key, pair=team.ids()[0])
    next(button for button in at.button if button.label == "Drop").click().run()
    assert not at.exception
    assert len(team) == len(ROWS) - 1
    at.button(key="databases.unlist").click().run()
    assert key not in pair_sets.stored_sets()
    assert len(team) == len(ROWS) - 1


@pytest.mark.extended
def test_new_run_trains_on_a_set_of_a_database(address: str) -> None:
    pair_sets.list_database(address)
    form = AppTest.from_file(VIEWS / "new_run" / "new_run.py", default_timeout=60).run()
    form.selectbox(key="pairs").select(pair_sets.key(address)).run()
    assert errors(form) == []
    assert any(address in code.value for code in form.code)
    assert f"{len(ROWS)} pairs" in page_text(form)
    run = lab.train("dpo", address, steps=2, batch_size=2, evaluate=False, pairs_version="follow", background=False, device="cpu")
    assert (run.state, run.manifest["pairs_store"], run.pair_store().name) == ("finished", address, "herbs")
    at = open_pairs_page(pairs=pair_sets.key(address), view="evidence")
    assert run.dir.name in str(at.main)


@pytest.mark.extended
def test_a_file_is_imported_into_a_new_set_of_a_database_and_updates_it(postgres_url: str, tmp_path: Path, lab_home: Path) -> None:
    file = tmp_path / "herbs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    address = f"{postgres_url}&set=imported"
    at = open_form(file, into="a new set in a database", address=address)
    press(at, "Import")
    assert "5 pairs are stored as herbs." in page_text(at)
    key = pair_sets.key(address)
    assert PairStore(address).all() == read_pairs(file)
    at = open_form(file, into="a new set in a database", address=address)
    press(at, "Import")
    assert "There is a set at" in errors(at)[0]
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    at = open_form(file, into=key)
    press(at, "Import")
    assert "7 added, 0 updated, 5 unchanged" in page_text(at)
    press(at, "Open the set")
    assert query(at, "pairs") == key
    pair_sets.open_set(address).add(Pair("x", "p", "a", "b"))
    pair_sets.unlist_database(address)
