"""Snapshots, differences, merging and splitting of pair sets, and importing a source again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.pairs import (
    BulkChange,
    Difference,
    NumberRange,
    Pair,
    PairConflict,
    PairQuery,
    PairsError,
    PairStore,
    pairs_from_rows,
    read_pairs,
)

PAIRS = pairs_from_rows([{"prompt": f"p{n}", "chosen": f"a{n}", "rejected": f"b{n}", "row": n} for n in range(6)])
IDS = [pair.id for pair in PAIRS]
NEW = Pair("new", "another", "good", "bad", weight=2, degree=0.5, tags=("x",), note="by hand")


@pytest.fixture
def store(new_store: Callable[..., PairStore]) -> PairStore:
    return new_store(PAIRS)


def test_tags_given_as_one_text_are_refused(store: PairStore) -> None:
    with pytest.raises(PairsError, match="give a list of tags"):
        store.edit(IDS[0], tags="abc")


def test_snapshots_and_differences(store: PairStore) -> None:
    store.drop(IDS[5])
    begin = store.snapshot("begin", author="Ann", reason="before the review")
    assert (begin.version, begin.author, store.snapshots()) == (1, "Ann", [begin])
    edited = store.edit(IDS[0], chosen="c", degree=1.0)
    store.drop(IDS[1])
    store.restore(IDS[5])
    added = store.add(NEW)
    store.swap(IDS[2])
    store.swap(IDS[2])
    expected = Difference([added], [PAIRS[1]], [store.get(IDS[5])], [(PAIRS[0], edited)])
    assert store.diff("begin") == store.diff(1, store.version) == expected
    back = store.diff(store.version, "begin")
    assert (back.added, [pair.id for pair in back.dropped], back.changed) == ([], [IDS[5], "new"], [(edited, PAIRS[0])])
    assert [pair.id for pair in back.restored] == [IDS[1]]
    assert store.diff(1, 1) == Difference()
    assert store.all(begin.version) == PAIRS[:5]
    for name, message in (
        ("begin", "which is taken"),
        (" ", "a name of its own"),
        ("7", "another version"),
        ("follow", "another version"),
    ):
        with pytest.raises(PairsError, match=message):
            store.snapshot(name)
    with pytest.raises(PairsError, match="no snapshot 'end'; it has 'begin'"):
        store.diff("end")


def test_pairs_are_added_and_duplicated(store: PairStore) -> None:
    assert store.add(NEW) == NEW == store[-1] == store.page(PairQuery("ANOTHER"))[0][0]
    copy = store.duplicate(IDS[0])
    again = store.duplicate(IDS[0])
    assert [pair.id for pair in store[-2:]] == [f"{IDS[0]}-2", f"{IDS[0]}-3"] == [copy.id, again.id]
    assert copy.content == PAIRS[0].content
    assert [edit.action for edit in store.log()] == ["add"] * 3
    assert store.all(1) == [*PAIRS, NEW]
    store.undo()
    assert again.id not in store.ids()
    assert store.redo().pair_id == again.id
    assert store.all() == [*PAIRS, NEW, copy, replace(again, version=3)]
    with pytest.raises(PairsError, match="already has a pair new"):
        store.add(NEW)
    with pytest.raises(PairsError, match="cannot be added: weight is -1; give a number from 0 on"):
        store.add(replace(NEW, id="other", weight=-1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": float("nan")}, "weight is nan"),
        ({"degree": 0.0}, "degree is 0.0; give a number above 0"),
        ({"degree": True}, "degree is a truth value"),
        ({"tags": [" "]}, "a tag is empty"),
        ({"note": 3}, "note is a number"),
        ({"weight": 10**400}, "weight is 1000"),
        ({"tags": 3}, "tags is a number"),
        ({"tags": ["a", 3]}, "a tag is a number"),
        ({"tags": [["a"]]}, "a tag is a list"),
        ({"note": "x", "author": 3}, "'3' is a number"),
        ({"note": "x", "reason": None}, "'None' is null"),
        ({"note": "x", "expected_version": "1"}, "expected_version is text"),
    ],
)
def test_marks_that_are_refused(store: PairStore, changes: dict[str, object], message: str) -> None:
    with pytest.raises(PairsError, match=message):
        store.edit(IDS[0], **changes)
    assert store.version == 0


def test_a_pair_that_files_could_not_keep_is_not_added(store: PairStore, tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    wrong: list[Any] = [{"id": id} for id in ("", " ", "a\nb", "\0", "\ud800", "x" * 101, 3)]
    wrong += [{"meta": meta} for meta in (None, [1], "x", {1: 2}, deep, {"x": object()})]
    for changes in wrong:
        with pytest.raises(PairsError):
            store.add(replace(NEW, **changes))
        with pytest.raises(PairsError):
            store.update_from([replace(NEW, **changes)])
        with pytest.raises(PairsError):
            PairStore.create(tmp_path / "a.sqlite", [replace(NEW, **changes)], name="a", source="a")
    for other in ({"prompt": "p"}, "x", None):
        with pytest.raises(PairsError):
            store.add(other)
        with pytest.raises(PairsError):
            store.update_from([other])
        with pytest.raises(PairsError):
            store.merge(other)
    assert (store.version, list(tmp_path.glob("a.sqlite*")), list(store)) == (0, [], PAIRS)


def test_states_and_ranges_of_other_types_are_refused(store: PairStore) -> None:
    store.drop(IDS[0])
    for version in (0.5, True, "1", [0]):
        with pytest.raises(PairsError, match=r"no (version|snapshot)"):
            store.diff(version)
        with pytest.raises(PairsError, match="no version"):
            store.all(version)
    for value in ("x", None, 10**400):
        with pytest.raises(PairsError, match="give a number"):
            store.put_numbers("first/loss", {IDS[0]: value})
    for bound in ("a", float("nan"), 10**400, [1]):
        with pytest.raises(PairsError, match="give numbers"):
            NumberRange("weight", bound)
    with pytest.raises(PairsError, match="name of a snapshot is a number"):
        store.snapshot(5)


def test_exports_under_any_name_end_or_are_refused(store: PairStore, tmp_path: Path) -> None:
    for name in ("a'\";$(x)\n.jsonl", "ä" * 120 + ".jsonl", "x" * 248 + ".csv", "-rf.jsonl"):
        assert store.export(tmp_path / name) == len(PAIRS)
        assert read_pairs(tmp_path / name) == PAIRS
    for name in ("x" * 300 + ".jsonl", "a\0.jsonl", "\ud800.jsonl"):
        with pytest.raises(PairsError, match="cannot be the path of a file"):
            store.export(tmp_path / name)
        with pytest.raises(PairsError, match="cannot be the path of a file"):
            PairStore(str(tmp_path / name))
    assert not [each for each in tmp_path.iterdir() if each.name.endswith(".part")]


def test_one_undo_takes_back_all_of_an_update(store: PairStore) -> None:
    report = store.update_from([*PAIRS[2:], NEW], drop_vanished=True)
    assert (report.added, report.vanished, store.ids()) == (["new"], IDS[:2], [*IDS[2:], "new"])
    store.undo()
    assert store.ids() == IDS
    store.redo()
    assert store.ids() == [*IDS[2:], "new"]
    assert (store.redo(), [edit.number for edit in store.log()]) == (None, list(range(1, 10)))


def test_a_copy_of_a_pair_does_not_take_the_place_of_its_original(store: PairStore) -> None:
    store.duplicate(IDS[0])
    rows = [{"prompt": f"p{n}", "chosen": f"new {n}", "rejected": f"b{n}", "row": n} for n in range(len(PAIRS))]
    report = store.update_from(pairs_from_rows(rows), key="row", drop_vanished=True)
    assert (report.updated, report.vanished) == (IDS, [])
    store.update_from([replace(PAIRS[1], id="other", meta={"row": 0})])
    with pytest.raises(PairsError, match="Two pairs of the set have the 'row' 0"):
        store.update_from(pairs_from_rows(rows), key="row")


def test_a_bulk_change_is_one_action(store: PairStore) -> None:
    store.drop(IDS[0])
    change = BulkChange("drop")
    assert (store.preview(IDS, change, first=2).count, store.preview(IDS, change, first=2).ids) == (5, (IDS[1], IDS[2]))
    assert store.apply(IDS, change, author="Ann", reason="all wrong") == 5
    assert (len(store), store.apply(IDS, change, author="Ann")) == (0, 0)
    assert {(edit.group, edit.author, edit.reason) for edit in store.log(since=1)} == {(2, "Ann", "all wrong")}
    assert len(store.next_undo(author="Ann")) == 5
    assert store.undo(author="Ann").number == 7
    assert store.ids() == IDS[1:]
    assert store.redo(author="Ann").action == "redo"
    assert len(store) == 0
    store.undo(author="Ann")
    for action, value in (("swap", None), ("weight", 0.5), ("degree", 0.3), ("tag", " t "), ("note", "n")):
        store.apply(IDS, BulkChange(action, value))
    assert store.get(IDS[0]).weight == 0.5
    assert store[0] == replace(
        PAIRS[1], chosen="b1", rejected="a1", weight=0.5, degree=0.3, tags=("t",), note="n", version=store[0].version
    )
    assert store.count(PairQuery("b1", tags=("t",))) == 1
    for _ in range(5):
        store.undo()
    assert [replace(pair, version=1) for pair in store] == PAIRS[1:]
    assert store.count(PairQuery(state="edited")) == 0
    with pytest.raises(PairsError, match="degree is 7"):
        store.apply(IDS, BulkChange("degree", 7))


def test_the_second_of_two_people_is_told_and_loses_nothing(store: PairStore) -> None:
    theirs = store.edit(IDS[0], chosen="Ann's", author="Ann")
    with pytest.raises(PairConflict, match="version 1, now it is 2, by Ann") as conflict:
        store.edit(IDS[0], chosen="mine", note="why", author="Bob", expected_version=1)
    assert (conflict.value.theirs, conflict.value.base) == (theirs, PAIRS[0])
    assert (conflict.value.mine.chosen, conflict.value.mine.note) == ("mine", "why")
    assert store.version == 1


def test_undo_is_of_the_author_and_overwrites_nobody(store: PairStore) -> None:
    store.edit(IDS[0], chosen="Ann 1", author="Ann")
    store.edit(IDS[1], chosen="Bob 1", author="Bob")
    store.edit(IDS[0], chosen="Bob 2", author="Bob")
    with pytest.raises(PairsError, match=f"the edit of pair {IDS[0]} cannot be undone, because Bob changed that pair later"):
        store.undo(author="Ann")
    assert store.version == 3
    assert store.undo(author="Bob").pair_id == IDS[0]
    assert store.get(IDS[0]).chosen == "Ann 1"
    assert store.undo(author="Ann").pair_id == IDS[0]
    with pytest.raises(PairsError, match="cannot be repeated, because Ann changed that pair later"):
        store.redo(author="Bob")
    assert store.undo(author="Bob").pair_id == IDS[1]
    assert [store.undo(author=name) for name in ("Ann", "Bob", "nobody")] == [None, None, None]
    assert [replace(pair, version=1) for pair in store] == PAIRS


def test_a_source_is_imported_again(store: PairStore) -> None:
    kept = store.edit(IDS[0], chosen="edited here")
    store.drop(IDS[1])
    by_hand = store.add(NEW)
    fresh = pairs_from_rows([{"prompt": "p9", "chosen": "a9", "rejected": "b9"}])
    report = store.update_from([*PAIRS[:4], *fresh], author="Ann")
    assert (report.added, report.updated, report.unchanged, report.conflicts) == ([fresh[0].id], [], 4, [])
    assert (report.vanished, report.dropped) == ([IDS[4], IDS[5]], False)
    assert store.all() == [kept, *PAIRS[2:], by_hand, *fresh]
    report = store.update_from([*PAIRS[:4], *fresh], drop_vanished=True)
    assert (report.added, report.vanished) == ([], [IDS[4], IDS[5]])
    assert store.all() == [kept, *PAIRS[2:4], by_hand, *fresh]
    store.undo()
    assert [pair.id for pair in store][3:5] == IDS[4:]
    with pytest.raises(PairsError, match="twice"):
        store.update_from([*fresh, *fresh])


def test_rows_with_a_key_update_their_pair(store: PairStore) -> None:
    mine = store.edit(IDS[0], chosen="edited here")
    rows = [{"prompt": f"p{n}", "chosen": f"new {n}", "rejected": f"b{n}", "row": n, "more": "x"} for n in range(3)]
    report = store.update_from(pairs_from_rows(rows), key="row")
    assert (report.added, report.updated, report.vanished) == ([], IDS[1:3], IDS[3:])
    (conflict,) = report.conflicts
    assert (conflict.mine, conflict.theirs.chosen, conflict.base) == (replace(mine, meta={"row": 0}), "new 0", PAIRS[0])
    assert [pair.chosen for pair in store][:3] == ["edited here", "new 1", "new 2"]
    assert store.get(IDS[1]).meta == {"row": 1, "more": "x"}
    assert store.update_from(pairs_from_rows(rows), key="row").updated == []
    store.edit(IDS[1], chosen="edited after the import")
    assert [c.mine.id for c in store.update_from(pairs_from_rows(rows), key="row").conflicts] == [IDS[0]]
    with pytest.raises(PairsError, match="no 'row'; choose a column that every row has"):
        store.update_from([NEW], key="row")


def test_sets_are_split_and_merged(store: PairStore, tmp_path: Path) -> None:
    store.edit(IDS[1], tags=["t"], weight=2.0)
    store.edit(IDS[4], tags=["t"])
    part = store.split(PairQuery(tags=("t",)), tmp_path / "part.sqlite", drop=True)
    assert [(pair.id, pair.tags, pair.weight) for pair in part] == [(IDS[1], ("t",), 2.0), (IDS[4], ("t",), 1.0)]
    assert store.ids() == [IDS[0], IDS[2], IDS[3], IDS[5]]
    store.undo()
    part.edit(IDS[1], chosen="there", author="Bob")
    store.edit(IDS[4], chosen="here")
    part.edit(IDS[4], chosen="there")
    part.add(NEW)
    report = store.merge(part)
    assert (report.added, [conflict.mine.chosen for conflict in report.conflicts]) == (["new"], ["here"])
    assert report.updated == [IDS[1]]  # edited in the part only
    assert [conflict.mine.id for conflict in store.merge(part).conflicts] == [IDS[4]]
    for query, location, message in (
        (PairQuery("nothing there"), tmp_path / "b.sqlite", "No pair of eggs matches"),
        (PairQuery(), tmp_path / "part.sqlite", "There is already something at"),
    ):
        with pytest.raises(PairsError, match=message):
            store.split(query, location)


def test_edits_of_a_copy_are_merged(store: PairStore, tmp_path: Path) -> None:
    other = store.split(PairQuery(state="all"), tmp_path / "copy.sqlite")
    other.edit(IDS[0], chosen="there")
    other.drop(IDS[1])
    store.edit(IDS[2], chosen="here")
    report = store.merge(other, author="Ann")
    assert (report.updated, report.unchanged, report.conflicts, report.added) == (IDS[:2], 4, [], [])
    assert [pair.chosen for pair in store] == ["there", "here", "a3", "a4", "a5"]
    assert store.undo(author="Ann").action == "undo"
    assert [pair.chosen for pair in store] == ["a0", "a1", "here", "a3", "a4", "a5"]
