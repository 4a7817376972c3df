"""The pair store: versions, access, pages and errors."""

import fcntl
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import event

from lab.pairs import BulkChange, Pair, PairQuery, PairsError, PairStore, open_pairs, pairs_from_rows, read_pairs

USER = {"role": "user", "content": "How do I boil 100%_ eggs?"}
ROWS = [
    {"prompt": [USER], "chosen": "Ten MINUTES.", "rejected": "No.", "score": 1},
    {"prompt": "Straße?", "chosen": "Yes", "rejected": "no\x00 minutes"},
    {"prompt": "Third", "chosen": "c", "rejected": "d"},
]


@pytest.fixture
def store(new_store):
    return new_store(pairs_from_rows(ROWS))


@pytest.fixture
def file_store(tmp_path):
    """A store in an SQLite file, for what concerns files."""
    return PairStore.create(tmp_path / "a.sqlite", pairs_from_rows(ROWS), name="eggs", source="a book")


def test_what_a_new_store_holds(store, location, tmp_path):
    assert (store.name, store.source, store.location, len(store), store.version) == ("eggs", "a book", location, 3, 0)
    assert store.all() == pairs_from_rows(ROWS) == [store.get(id) for id in store.ids()]
    assert store.log() == []
    assert store.undo() is store.redo() is None
    assert [p.name for p in tmp_path.iterdir() if "building" in p.name] == []


def test_a_store_is_a_sequence_of_its_pairs(store):
    first, second, third = pairs = pairs_from_rows(ROWS)
    assert list(store) == pairs
    assert (store[0], store[-1], store[1:]) == (first, third, [second, third])
    assert store[second.id] == second
    assert (second.id in store, second in store, "nothing" in store) == (True, True, False)
    assert read_pairs(store) == pairs
    seen = []
    for pair in store:  # a snapshot: edits meanwhile leave the iteration as it is
        store.drop(pair.id)
        seen.append(pair)
    assert seen == pairs
    store.restore(third.id)
    assert [*store] == [store[0]] == [store[third.id]]
    assert store[first.id].dropped
    assert first.id in store
    assert first not in store


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (3, IndexError, "eggs has no pair number 3; it has 3 pairs, numbered from 0"),
        (-4, IndexError, "eggs has no pair number -4"),
        ("nothing", KeyError, "There is no pair 'nothing' in this set"),
        (1.5, TypeError, "cannot be found by a float; give its number, its id or a slice"),
    ],
)
def test_a_pair_that_is_not_in_the_store(store, key, error, message):
    with pytest.raises(error, match=message):
        store[key]


def test_edits_make_versions(store):
    id = store.ids()[0]
    before = time.time()
    pair = store.edit(id, chosen="Nine.", prompt=[USER, {"role": "assistant", "content": "Hm?"}, USER])
    assert (pair.version, pair.chosen, pair.id, pair.meta) == (2, "Nine.", id, {"score": 1})
    assert store.edit(id, chosen="Nine.") == pair == store.get(id)
    assert store.swap(id).chosen == "No."
    assert store.drop(id) == store.drop(id)
    assert (len(store), store.get(id).dropped, id in store.ids()) == (2, True, False)
    assert [(e.number, e.pair_id, e.action, e.before, e.after) for e in store.log()] == [
        (1, id, "edit", 1, 2),
        (2, id, "swap", 2, 3),
        (3, id, "drop", 3, 4),
    ]
    assert all(before <= edit.time <= time.time() for edit in store.log())
    assert store.log(since=2) == store.log()[2:]
    assert store.restore(id).version == 5
    assert [p.version for p in store.history(id)] == [1, 2, 3, 4, 5]
    assert store.history(id)[1] == store.get(id, 2) == pair
    assert store.all(0) == pairs_from_rows(ROWS)
    assert [p.id for p in store.all(3)] == store.ids()[1:]
    assert store.all(4) == store.all()


def test_undo_and_redo_are_edits_of_their_own(store):
    one, two, _ = store.ids()
    store.edit(one, chosen="1")
    store.drop(two)
    undone = store.undo()
    assert (undone.number, undone.pair_id, undone.action, undone.before, undone.after) == (3, two, "undo", 2, 3)
    assert store.undo().pair_id == one
    assert store.all() == [Pair(p.id, *p.content, version=v, meta=p.meta) for p, v in zip(pairs_from_rows(ROWS), (3, 3, 1))]
    assert store.page(PairQuery(state="edited")) == ([], 0)
    assert store.redo().pair_id == one
    assert store.get(one).chosen == "1"
    store.swap(one)
    assert store.redo() is None  # a fresh edit forgets what was undone
    assert store.version == 6


def test_edits_that_are_refused_change_nothing(store):
    id = store.ids()[1]
    for change, message in (
        ({"chosen": ""}, "chosen is empty"),
        ({"rejected": " \n"}, "rejected is empty"),
        ({"chosen": "no\x00 minutes"}, "identical"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [{"role": "user"}]}, "no 'content'"),
        ({"chosen": 3}, "chosen is a number"),
        ({"chosen": "x", "expected_version": 2}, "this pair was changed elsewhere"),
    ):
        with pytest.raises(PairsError, match=message):
            store.edit(id, **change)
    for method in (store.swap, store.drop, store.restore):
        with pytest.raises(PairsError, match="changed elsewhere"):
            method(id, expected_version=7)
    assert (store.version, store.all()) == (0, pairs_from_rows(ROWS))


def test_an_edit_that_fails_halfway_is_rolled_back(store):
    rename = "ALTER TABLE {} RENAME TO {}".format
    with store._database.transaction("", "") as db:
        db.exec_driver_sql(rename("search", "elsewhere"))  # which an edit changes last
    with pytest.raises(PairsError, match=r"could not be changed; nothing was written \(.*search"):
        store.edit(store.ids()[0], chosen="x")
    assert store.history(store.ids()[0]) == pairs_from_rows(ROWS)[:1]
    assert (store.version, store.undo()) == (0, None)
    with store._database.transaction("", "") as db:
        db.exec_driver_sql(rename("elsewhere", "search"))
    assert store.edit(store.ids()[0], chosen="x").version == 2


def test_many_rows_that_the_database_refuses_are_rolled_back(store):
    many = pairs_from_rows([{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(200)])
    with store._database.transaction("", "") as db:
        db.exec_driver_sql("INSERT INTO search VALUES (150, 'in the way')")
    with pytest.raises(PairsError, match=r"could not be changed; nothing was written \(.*(duplicate|UNIQUE)"):
        store.update_from(many)
    assert (len(store), store.version) == (3, 0)


def test_no_edit_or_undo_reads_a_whole_table(tmp_path):
    pairs = [Pair(f"{n}", f"prompt {n}", "good", "bad") for n in range(2000)]
    store = PairStore.create(tmp_path / "a.sqlite", pairs, name="", source="")
    seen = []

    @event.listens_for(store._database._engine, "before_cursor_execute")
    def note(connection, cursor, statement, parameters, context, many):
        seen.append((statement, parameters[0] if many else parameters))

    for number in range(20):
        store.edit(str(number), chosen="edited", tags=["t"])
    store.apply(["1", "5"], BulkChange("drop"))
    assert [store.undo().action, store.redo().action, store.undo().action] == ["undo", "redo", "undo"]
    assert len(store.next_redo()) == 2
    with sqlite3.connect(store.path) as db:
        plans = {
            statement: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in seen
            if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        }
    assert len(plans) > 10
    allowed = ("SCAN CONSTANT ROW", "SCAN number_names")
    scans = {s: plan for s, plan in plans.items() if any("SCAN" in line and not line.startswith(allowed) for line in plan)}
    assert scans == {}


def test_unknown_things(store):
    for call in (store.get, store.history, store.edit, store.swap, store.drop, store.restore):
        with pytest.raises(PairsError, match="no pair 'nobody'"):
            call("nobody")
    with pytest.raises(PairsError, match="no version 2; choose one from 1 to 1"):
        store.get(store.ids()[0], 2)
    for version in (-1, 1):
        with pytest.raises(PairsError, match="choose one from 0 to 0"):
            store.all(version)
    for query, message in ((PairQuery(state="none"), "state 'none'; use current"), (PairQuery(sort="size"), "no number 'size'")):
        with pytest.raises(PairsError, match=message):
            store.page(query)
    for wrong in ({"offset": -1}, {"limit": -1}):
        with pytest.raises(PairsError, match="give numbers from 0"):
            store.page(**wrong)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("minutes", [0, 1]),
        ("MINUTES.", [0]),
        ("100%_ egg", [0]),
        ("%", [0]),
        ("_", [0]),
        ("strasse", [1]),  # case folding, not lower case
        ("no\x00 m", [1]),
        ("no", [0, 1]),
        ("yesno", []),  # no match across two texts
        ("user", []),  # roles are not text
        ("", [0, 1, 2]),
    ],
)
def test_search(store, search, found):
    ids = store.ids()
    pairs, total = store.page(PairQuery(search))
    assert ([p.id for p in pairs], total) == ([ids[i] for i in found], len(found))


def test_pages_filters_and_orders(store):
    one, two, three = store.ids()
    store.edit(three, chosen="minutes")
    store.drop(one)
    assert [p.id for p in store.page()[0]] == [two, three]
    assert [p.id for p in store.page(PairQuery(state="dropped"))[0]] == [one]
    assert [p.id for p in store.page(PairQuery(state="edited"))[0]] == [three]
    assert [p.id for p in store.page(PairQuery(sort="recent"))[0]] == [three, two]
    assert [p.id for p in store.page(PairQuery("minutes", sort="recent"))[0]] == [three, two]
    assert [p.id for p in store.page(PairQuery("minutes", "dropped"))[0]] == [one]
    assert ([p.id for p in store.page(offset=1, limit=1)[0]], store.page(offset=1, limit=1)[1]) == ([three], 2)
    assert store.page(offset=5) == ([], 2)
    assert store.page(PairQuery("minutes"), limit=0) == ([], 2)
    store.restore(one)
    assert store.count(PairQuery("minutes")) == 3  # a kept answer is not stale


def test_a_second_store_sees_edits_and_conflicts(store):
    other = PairStore(store.location)
    id = store.ids()[0]
    assert other.count(PairQuery("fresh")) == 0
    seen = other.get(id)
    store.edit(id, chosen="fresh")
    assert other.count(PairQuery("fresh")) == 1
    with pytest.raises(PairsError, match=r"you saw version 1, now it is 2"):
        other.edit(id, chosen="late", expected_version=seen.version)
    assert other.undo().pair_id == id


def test_threads_share_a_store(store):
    id = store.ids()[0]
    failed = []

    def work(number):
        try:
            for k in range(10):
                store.edit(id, chosen=f"{number}/{k}")
                store.page(PairQuery(str(k)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert store.version == 40
    assert {p.chosen for p in store.history(id)[1:]} == {f"{n}/{k}" for n in range(4) for k in range(10)}


def test_create_opens_what_exists(store):
    store.drop(store.ids()[0])
    again = PairStore.create(store.location, [], name="other", source="other")
    assert (again.name, again.version, len(again)) == ("eggs", 1, 2)


def test_create_leaves_nothing_half_made(new_location, tmp_path):
    def broken():
        yield from pairs_from_rows(ROWS)
        raise RuntimeError("source fell over")

    same = pairs_from_rows(ROWS[:1])
    for pairs, error in (
        (broken(), RuntimeError),
        (same + same, PairsError),
        ([Pair("x", "p", "a", "a")], PairsError),
        ([Pair("x", "p", "a", "b", meta={"bad": object()})], PairsError),
    ):
        place = new_location()
        with pytest.raises(error):
            PairStore.create(place, pairs, name="", source="")
        assert not PairStore.exists(place)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PairsError, match="could not be stored"):
        PairStore.create(tmp_path / "file" / "b.sqlite", pairs_from_rows(ROWS), name="", source="")


def test_create_never_replaces_a_faster_one(tmp_path):
    path = tmp_path / "a.sqlite"

    def slow():
        yield from pairs_from_rows(ROWS)
        (building,) = tmp_path.glob(".*.building")
        os.utime(building, (0, 0))  # as old as a file can be, and still being filled
        PairStore.create(path, pairs_from_rows(ROWS), name="first", source="").drop(pairs_from_rows(ROWS)[0].id)

    assert (PairStore.create(path, slow(), name="second", source="").name, len(PairStore(path))) == ("first", 2)


@pytest.mark.parametrize("written", [0, 2**33])
def test_leftovers_of_killed_builders_are_swept_whatever_the_clock_says(tmp_path, written):
    leftover, held = tmp_path / ".a.sqlite.1-0.building", tmp_path / ".a.sqlite.2-0.building"
    wal = leftover.with_name(f"{leftover.name}-wal")
    with held.open("wb") as other_process:
        fcntl.flock(other_process, fcntl.LOCK_EX)
        for file in (leftover, wal):
            file.write_bytes(b"")
        for file in (leftover, wal, held):
            os.utime(file, (written, written))
        PairStore.create(tmp_path / "a.sqlite", pairs_from_rows(ROWS), name="", source="")
    assert held.exists()
    assert not leftover.exists()
    assert not wal.exists()


def test_files_that_are_no_store(tmp_path):
    with pytest.raises(PairsError, match="There is no file"):
        PairStore(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.sqlite").write_text("hello " * 1000)
    with pytest.raises(PairsError, match="is not a store of pairs"):
        PairStore(tmp_path / "text.sqlite")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)")
    with pytest.raises(PairsError, match="not a store of pairs"):
        PairStore(tmp_path / "other.sqlite")


def test_odd_names(tmp_path):
    path = tmp_path / "a? b#c%20 é.sqlite"
    store = PairStore.create(path, pairs_from_rows(ROWS), name="\udcff", source="x")
    assert (PairStore(path).name, len(store)) == ("\udcff", 3)


def test_a_store_is_closed_in_every_thread_and_opens_again(file_store):
    files = Path("/proc/self/fd")

    def held() -> int:
        return sum(os.path.realpath(file) == str(file_store.path) for file in files.iterdir())

    go, done = threading.Event(), threading.Event()

    def read() -> None:
        assert len(file_store) == 3
        done.set()
        go.wait(10)

    with file_store as same:
        assert same is file_store
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            done.clear()
            thread.start()
            assert done.wait(10)
        assert held() > 0
    assert held() == 0
    assert len(file_store) == 3  # and it opens again
    go.set()
    for thread in threads:
        thread.join()
    file_store.close()
    file_store.close()
    assert held() == 0


def test_a_store_is_opened_by_its_location(store, tmp_path):
    store.drop(store.ids()[0])
    assert open_pairs(store.location, home=tmp_path).all() == store.all()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("postgresql://ann:secret@host/pairs", "holds a password, which runs would record"),
        ("postgresql://host/pairs?set=a%22b", "cannot name a set of pairs"),
        ("postgresql://lab@/pairs?host=/nowhere", "could not be opened"),
    ],
)
def test_addresses_that_are_refused(address, message):
    pytest.importorskip("psycopg")
    with pytest.raises(PairsError, match=message) as error:
        PairStore(address)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


class NoIndexer:
    """Stands for a process that ends before it has indexed anything."""

    def __init__(self, location):
        pass

    def stop(self):
        pass


def test_a_large_set_is_indexed_after_it_is_created(tmp_path, monkeypatch):
    path, pairs = tmp_path / "a.sqlite", [Pair(f"{n}", f"prompt {n}", "good", "bad") for n in range(2500)]
    monkeypatch.setattr("lab.pairs.store.search.BATCH", 300)
    with monkeypatch.context() as patch:
        patch.setattr("lab.pairs.store.building.INDEXED_AT_ONCE", 1000)
        patch.setattr("lab.pairs.store.pages.Indexer", NoIndexer)
        store = PairStore.create(path, pairs, name="", source="")
    assert store.search_ready == 0.4
    store.edit("2400", chosen="edited before it is indexed")
    store.edit("3", chosen="edited as well")
    other = PairStore(path)
    for reader in (store, other):
        assert reader.matching(PairQuery("EDITED")) == ["3", "2400"]
        assert reader.count(PairQuery("prompt 24")) == 111
    assert other.wait_for_search(60)
    assert store.count(PairQuery("prompt 24")) == 111
    store.undo()
    assert store.matching(PairQuery("edited")) == ["2400"]
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO search_index(search_index) VALUES ('integrity-check')")
