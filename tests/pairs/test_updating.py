"""A file that is opened again: at once where it has not changed, else its set is updated and what people made there stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lab
from lab.cli import main
from lab.pairs import PairStore, RefusedRows, import_pairs, open_pairs, pair_of, pairs_from_rows
from lab.pairs.importing import json_files

ROOT = Path(__file__).parents[2]
ROWS = [
    {"prompt": f"How do I bake {name}?", "chosen": f"Mix {name}.", "rejected": "No."} for name in ("rye", "oat", "corn", "rice")
]
NEW = {"prompt": "And spelt?", "chosen": "The same.", "rejected": "No."}


def write(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", ROWS)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Lines that were parsed, without those of the sample from which columns are guessed."""
    lines: list[bytes] = []
    real = json_files._parse_line
    monkeypatch.setattr(json_files, "_parse_line", lambda line: (lines.append(line), real(line))[1])
    return lines


def test_work_stays_and_the_report_says_what_changed(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    rye, oat, corn, rice = store.ids()
    store.edit(rye, chosen="Knead rye.", tags=["checked"], note="better")
    store.drop(oat)
    store.edit(rice, weight=2.0)
    before = store.snapshot("mine").version
    write(file, [ROWS[0], {**ROWS[1], "source": "a book"}, NEW, ROWS[2]])  # rice is gone
    again, report = import_pairs(file, home=tmp_path)
    assert again.path == store.path
    assert [pair.chosen for pair in again] == ["Knead rye.", "Mix corn.", "The same."]
    assert (again.get(rye).tags, again.get(rye).note, again.get(oat).meta) == (("checked",), "better", {"source": "a book"})
    assert [pair.id for pair in again.all(before)] == [rye, corn, rice]  # a run of this version trains on what it did
    summary = "1 added, 0 updated, 3 unchanged, 1 no longer in the source (dropped, 1 of them edited here)"
    assert report.update.summary() == summary
    assert report.lines()[-3:] == [
        f"The set, since the last import: {summary}.",
        f"No longer in the source: {ROWS[3]['prompt']}",
        "A row whose text has changed counts as one added and one no longer in the source.",
    ]
    assert again.log()[-1].reason == "its source has changed"
    write(file, [*ROWS, NEW])
    again, report = import_pairs(file, home=tmp_path)
    assert [pair.chosen for pair in again] == ["Knead rye.", "Mix corn.", "Mix rice.", "The same."]
    assert report.update.summary() == "0 added, 1 updated, 4 unchanged"
    assert again.get(rice).weight == 2.0


def test_edits_of_a_pair_whose_row_was_away_come_back_with_it(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    rye, oat, corn, rice = store.ids()
    store.edit(rice, chosen="Mix brown rice.", tags=["mine"], note="mine")
    for _ in range(2):
        write(file, ROWS[:2])
        assert open_pairs(file, home=tmp_path).ids() == [rye, oat]
        write(file, ROWS)
        again, report = import_pairs(file, home=tmp_path)
        assert report.update.summary() == "0 added, 2 updated, 2 unchanged"
        pair = again.get(rice)
        assert (pair.chosen, pair.tags, pair.note, pair.dropped) == ("Mix brown rice.", ("mine",), "mine", False)
        assert again.get(corn).chosen == "Mix corn."
    write(file, [*ROWS[:3], {**ROWS[3], "source": "a book"}])  # an unchanged text is no reason to take the edit back
    again, report = import_pairs(file, home=tmp_path)
    assert (again.get(rice).note, report.update.conflicts) == ("mine", [])
    store.drop(oat)
    write(file, ROWS)
    assert open_pairs(file, home=tmp_path).get(oat).dropped, "a person dropped it, not the source"


def test_an_unchanged_file_is_not_parsed_and_a_changed_one_once(file, tmp_path, parsed):
    for rows, count in ((ROWS, 1), (ROWS, 0), ([*ROWS, NEW], 1), ([*ROWS, NEW], 0)):
        write(file, rows)
        parsed.clear()
        store = open_pairs(str(file), home=tmp_path / "home")
        assert len(parsed) == len(rows) + count * len(rows)  # the sample, and the import
        assert len(store) == len(rows)


def test_what_a_person_or_another_source_brought_in_does_not_vanish(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    ids = store.ids()
    store.add(pair_of({"prompt": "Mine?", "chosen": "a", "rejected": "b"}))
    store.update_from(pairs_from_rows([{"prompt": "From elsewhere?", "chosen": "a", "rejected": "b"}]))
    write(file, ROWS[:2])
    assert len(open_pairs(file, home=tmp_path)) == 4
    store.restore(ids[3])
    write(file, ROWS[:1])
    store, report = import_pairs(file, home=tmp_path)
    assert [pair.prompt for pair in store] == [ROWS[0]["prompt"], ROWS[3]["prompt"], "Mine?", "From elsewhere?"]
    assert report.update.vanished == [ids[1]]


def test_refused_rows_change_nothing_and_are_refused_each_time(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    write(file, [NEW, "{broken"])
    for _ in range(2):
        with pytest.raises(RefusedRows, match="line 2"):
            open_pairs(file, home=tmp_path)
        assert (store.version, len(store)) == (0, 4)
    for _ in range(2):
        assert len(open_pairs(file, home=tmp_path, on_error="skip")) == 1
        with pytest.raises(RefusedRows, match="line 2"):
            open_pairs(file, home=tmp_path)


def test_places_parts_and_columns_are_sources_of_their_own(file, tmp_path, monkeypatch):
    store = open_pairs(file, home=tmp_path)
    monkeypatch.chdir(file.parent)
    (tmp_path / "link").symlink_to(file.parent)
    assert (
        open_pairs(Path(file.name), home=tmp_path).path
        == open_pairs(tmp_path / "link" / file.name, home=tmp_path).path
        == store.path
    )
    (tmp_path / "other").mkdir()
    assert open_pairs(write(tmp_path / "other" / file.name, ROWS), home=tmp_path).path != store.path
    reversed_answers = open_pairs(file, home=tmp_path, mapping={"chosen": "rejected", "rejected": "chosen"})
    assert (reversed_answers[0].chosen, open_pairs(file, home=tmp_path)[0].chosen) == ("No.", "Mix rye.")
    two = tmp_path / "two.json"
    two.write_text(json.dumps({"train": ROWS, "dev": ROWS[:1]}))
    assert [len(open_pairs(two, home=tmp_path, split=name)) for name in ("train", "dev", "train")] == [4, 1, 4]


def test_without_update_a_set_depends_on_the_content_alone(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    store.drop(store.ids()[0])
    own = open_pairs(file, home=tmp_path, update=False)
    assert (len(own), own.path) == (4, open_pairs(ROWS, home=tmp_path, name="mine").path)


def test_processes_that_open_at_once_make_and_update_one_set(file, tmp_path):
    code = "import sys; from pathlib import Path; from lab.pairs import open_pairs\n"
    code += "print(len(open_pairs(sys.argv[1], home=Path(sys.argv[2]))))"
    many = [{**NEW, "prompt": f"And {number}?"} for number in range(500)]
    for rows in (many, [*many[100:], *ROWS]):
        write(file, rows)
        command = [sys.executable, "-c", code, str(file), str(tmp_path / "home")]
        running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        assert [int(each.communicate(timeout=120)[0]) for each in running] == [len(rows)] * 3
    (stored,) = (tmp_path / "home").glob("*.sqlite")
    assert len(lab.open_pairs(stored)) == len(rows)
    assert lab.open_pairs(stored).version == 104  # one update: 100 dropped, 4 added


def test_it_is_said_in_the_library_on_the_command_line_and_of_a_run(file, tmp_path, caplog, capsys):
    lab.open_pairs(file)
    assert caplog.messages == []
    write(file, [*ROWS, NEW])
    said = "1 added, 0 updated, 4 unchanged"
    run = lab.train("dpo", str(file), steps=1, batch_size=2, run_dir=tmp_path / "run", queue=False, background=False)
    assert f"{file} differs from its last import, so its set was updated: {said}." in caplog.messages
    write(file, [*ROWS[1:], NEW])
    assert main(["pairs", str(file), "--limit", "1"]) == 0
    shown = capsys.readouterr()
    assert "4 unchanged, 1 no longer in the source (dropped)" in shown.err
    assert "4 pairs, version 2" in shown.out
    assert len(PairStore(run.manifest["pairs_store"]).all(run.pairs_version)) == 5
    assert main(["pairs", str(file), "--no-update"]) == 0
    assert "4 pairs, version 0" in capsys.readouterr().out


def test_rows_that_vanished_are_kept_on_request_and_an_upload_of_the_file_drops_only_its_own(file, tmp_path):
    store = open_pairs(file, home=tmp_path)
    store.update_from(pairs_from_rows([{"prompt": "From elsewhere?", "chosen": "a", "rejected": "b"}]))
    write(file, ROWS[:3])
    store, report = import_pairs(file, home=tmp_path, drop_vanished=False)
    assert (len(store), report.update.dropped, report.update.vanished_prompts) == (5, False, [ROWS[3]["prompt"]])
    update = store.update_from(pairs_from_rows([*ROWS[:2], NEW]), drop_vanished=True, own_source=True)
    assert update.vanished_prompts == [ROWS[2]["prompt"], ROWS[3]["prompt"]]
    assert [pair.prompt for pair in store][2:] == ["From elsewhere?", NEW["prompt"]]
    update = store.update_from(pairs_from_rows(ROWS[:2]), drop_vanished=True, own_source=True)
    assert update.vanished_prompts == [NEW["prompt"]], "what the file brought in later is its own as well"
    store.undo()
    assert len(store) == 4
