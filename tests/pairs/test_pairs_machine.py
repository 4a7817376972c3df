"""Random sequences of edits, bulk changes, undo and redo by two people, compared with a model made of plain lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lab.pairs import BulkChange, Difference, Pair, PairQuery, PairsError, PairStore, pairs_from_rows

IMPORTED = pairs_from_rows([{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(3)])
ADDED = [Pair(f"new{i}", "p", f"a{i}", "b", tags=("t",)) for i in range(2)]
ids = st.sampled_from([pair.id for pair in (*IMPORTED, *ADDED)])
texts = st.sampled_from(["a0", "b0", "a1", "B2", "new", "é\ud800", "\x00\x1a", "\ud83d\ude00", "", "p1"])
people = st.sampled_from(["Ann", "Bob"])
changes = st.sampled_from(
    [BulkChange(name) for name in ("swap", "drop", "restore")]
    + [
        BulkChange("tag", "t"),
        BulkChange("untag", "t"),
        BulkChange("weight", 0.5),
        BulkChange("degree", 1.0),
        BulkChange("note", "n"),
    ]
)
Version = tuple[Pair, int]
"""A version and its origin: the version whose content it repeats."""


class Edits(RuleBasedStateMachine):
    def __init__(self, location: str) -> None:
        super().__init__()
        PairStore.create(location, IMPORTED, name="m", source="m")
        self.stores = {"Ann": PairStore(location), "Bob": PairStore(location)}
        self.versions: dict[str, list[Version]] = {pair.id: [(pair, 1)] for pair in IMPORTED}
        self.states: list[dict[str, Pair]] = [{pair.id: pair for pair in IMPORTED}]
        self.done: dict[str, list[list[tuple[str, int, int]]]] = {"Ann": [], "Bob": []}
        self.undone: dict[str, list[list[tuple[str, int, int]]]] = {"Ann": [], "Bob": []}

    def teardown(self) -> None:
        for store in self.stores.values():
            store.close()

    def version(self, id: str, number: int) -> Version:
        first = self.versions[id][0][0]
        return (replace(first, dropped=True), 0) if number == 0 else self.versions[id][number - 1]

    def write(self, after: Pair, origin: int | None = None) -> tuple[str, int, int]:
        """Append a version and the state of the set after it; return the log entry."""
        line = self.versions.setdefault(after.id, [])
        number = len(line) + 1
        after = replace(after, version=number)
        line.append((after, number if origin is None else origin))
        self.states.append(self.states[-1] | {after.id: after})
        return after.id, number - 1, number

    def fresh(self, who: str, entries: list[tuple[str, int, int]]) -> None:
        if entries:
            self.done[who].append(entries)
            self.undone[who].clear()

    @rule(id=ids, who=people, field=st.sampled_from(["prompt", "chosen", "rejected", "note"]), text=texts)
    def edit(self, id: str, who: str, field: str, text: str) -> None:
        if id not in self.versions:
            return
        pair = self.versions[id][-1][0]
        after = replace(pair, **{field: text})
        if (text or field == "note") and after.chosen != after.rejected:
            self.stores[who].edit(id, **{field: text}, author=who, expected_version=pair.version)
            self.fresh(who, [self.write(after)] if after != pair else [])
        else:
            with pytest.raises(PairsError):
                self.stores[who].edit(id, **{field: text}, author=who)

    @rule(chosen=st.lists(ids, unique=True), who=people, change=changes)
    def apply(self, chosen: list[str], who: str, change: BulkChange) -> None:
        chosen = [id for id in chosen if id in self.versions]
        made = [after for id in chosen if (after := change.of(pair := self.versions[id][-1][0])) != pair]
        assert self.stores[who].preview(chosen, change).count == len(made)
        assert self.stores[who].apply(chosen, change, author=who) == len(made)
        self.fresh(who, [self.write(after) for after in made])

    @rule(number=st.integers(0, 1), who=people)
    def add(self, number: int, who: str) -> None:
        if number < len(self.versions) - len(IMPORTED):
            with pytest.raises(PairsError, match="already has"):
                self.stores[who].add(ADDED[number])
        elif number == len(self.versions) - len(IMPORTED):
            self.stores[who].add(ADDED[number], author=who)
            self.fresh(who, [self.write(ADDED[number])])

    @rule(who=people, redo=st.booleans())
    def time_travel(self, who: str, redo: bool) -> None:
        take, give = (self.undone[who], self.done[who]) if redo else (self.done[who], self.undone[who])
        move = getattr(self.stores[who], "redo" if redo else "undo")
        if not take:
            assert move(author=who) is None
            return
        steps = []
        for id, before, after in take[-1]:
            was, becomes = (self.version(id, number) for number in ((before, after) if redo else (after, before)))
            steps.append((self.versions[id][-1][1] == was[1], becomes))
        if not all(free for free, _ in steps):
            with pytest.raises(PairsError, match="changed that pair later"):
                move(author=who)
            return
        entries = [self.write(pair, origin) for _, (pair, origin) in steps]
        give.append(take.pop())
        entry = move(author=who)
        assert (entry.pair_id, entry.before, entry.after, entry.author) == (*entries[0], who)

    @invariant()
    def every_reader_sees_the_model(self) -> None:
        for store in self.stores.values():
            assert store.version == len(self.states) - 1 == len(store.log())
            listed = [pair for pair in self.states[-1].values() if not pair.dropped]
            assert store.all() == listed
            assert (len(store), store.ids()) == (len(listed), [pair.id for pair in listed])
            edited = [pair for pair in listed if trained(pair) != trained(self.versions[pair.id][0][0])]
            assert store.page(PairQuery(state="edited"))[0] == edited
            assert store.page(PairQuery(state="dropped"))[1] == len(self.states[-1]) - len(listed)
            for needle in ("A", "new", "\ud800", "\x00"):
                hits = [p for p in listed if any(needle.casefold() in text.casefold() for text in p.content)]
                assert store.page(PairQuery(needle)) == (hits, len(hits))
            assert store.tags() == ({"t": count} if (count := sum("t" in pair.tags for pair in listed)) else {})

    @invariant()
    def versions_are_kept_as_they_were(self) -> None:
        store = self.stores["Ann"]
        for id, versions in self.versions.items():
            assert store.history(id) == [pair for pair, _ in versions]
        for number in {0, len(self.states) // 2, len(self.states) - 1}:
            assert store.all(number) == [pair for pair in self.states[number].values() if not pair.dropped]
        assert store.diff(0) == difference(self.states[0], self.states[-1])


def trained(pair: Pair) -> tuple[Any, ...]:
    """The fields that training uses."""
    return pair.content, pair.weight, pair.degree


def difference(first: dict[str, Pair], second: dict[str, Pair]) -> Difference:
    here = [(first.get(id), pair) for id, pair in second.items()]
    return Difference(
        [after for before, after in here if before is None and not after.dropped],
        [before for before, after in here if before and after.dropped],
        [],
        [(a, b) for a, b in here if a and not b.dropped and replace(b, version=1) != a],
    )


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.extended)])
def test_any_sequence_of_edits_equals_the_model(new_location: Callable[[], str], examples: int) -> None:
    steps = settings(max_examples=examples, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(lambda: Edits(new_location()), settings=steps)
