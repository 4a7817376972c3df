"""Random sequences of edits, undo and redo, compared with a model made of plain lists."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lab.pairs import PairQuery, PairsError, PairStore, pairs_from_rows

IMPORTED = pairs_from_rows([{"prompt": f"p{i}", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(3)])
texts = st.sampled_from(["a0", "b0", "a1", "B2", "new", "é\ud800", "", "p1"])
which = st.sampled_from([pair.id for pair in IMPORTED])


class Edits(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "a.sqlite"
        self.stores = [PairStore.create(path, IMPORTED, name="m", source="m"), PairStore(path)]  # two editors of one file
        self.versions = {pair.id: [pair] for pair in IMPORTED}
        self.states = [list(IMPORTED)]
        self.done, self.undone = [], []

    def teardown(self):
        self.folder.cleanup()

    def write(self, pair, after):
        """The model's edit; False if nothing differs."""
        if after == pair:
            return False
        after = replace(after, version=pair.version + 1)
        self.versions[pair.id].append(after)
        self.states.append([after if other.id == pair.id else other for other in self.states[-1]])
        return True

    def change(self, pair, after):
        if self.write(pair, after):
            self.done.append((pair.id, pair.version, pair.version + 1))
            self.undone.clear()

    @rule(id=which, who=st.sampled_from([0, 1]), field=st.sampled_from(["prompt", "chosen", "rejected"]), text=texts)
    def edit(self, id, who, field, text):
        pair = self.versions[id][-1]
        after = replace(pair, **{field: text})
        if text and after.chosen != after.rejected:
            self.stores[who].edit(id, **{field: text}, expected_version=pair.version)
            self.change(pair, after)
        else:
            try:
                self.stores[who].edit(id, **{field: text})
            except PairsError:
                return
            raise AssertionError("an edit that makes no pair was taken")

    @rule(id=which, who=st.sampled_from([0, 1]), action=st.sampled_from(["swap", "drop", "restore"]))
    def act(self, id, who, action):
        pair = self.versions[id][-1]
        changes = {
            "swap": {"chosen": pair.rejected, "rejected": pair.chosen},
            "drop": {"dropped": True},
            "restore": {"dropped": False},
        }
        getattr(self.stores[who], action)(id)
        self.change(pair, replace(pair, **changes[action]))

    @rule(who=st.sampled_from([0, 1]), action=st.sampled_from(["undo", "redo"]))
    def time_travel(self, who, action):
        take, give = (self.done, self.undone) if action == "undo" else (self.undone, self.done)
        entry = getattr(self.stores[who], action)()
        if not take:
            assert entry is None
            return
        id, before, after = take.pop()
        give.append((id, before, after))
        now, like = self.versions[id][-1], self.versions[id][(before if action == "undo" else after) - 1]
        assert self.write(now, replace(like, version=now.version))
        assert (entry.pair_id, entry.action, entry.before, entry.after) == (id, action, now.version, now.version + 1)

    @invariant()
    def every_reader_sees_the_model(self):
        for store in self.stores:
            assert store.version == len(self.states) - 1 == len(store.log())
            listed = [pair for pair in self.states[-1] if not pair.dropped]
            assert store.all() == listed
            assert (len(store), store.ids()) == (len(listed), [pair.id for pair in listed])
            first = {pair.id: pair.content for pair in IMPORTED}
            assert store.page(PairQuery(state="edited"))[0] == [pair for pair in listed if pair.content != first[pair.id]]
            for needle in ("A", "new", "\ud800"):
                hits = [p for p in listed if any(needle.casefold() in text.casefold() for text in p.content)]
                assert store.page(PairQuery(needle)) == (hits, len(hits))

    @invariant()
    def versions_are_kept_as_they_were(self):
        store = self.stores[0]
        for id, versions in self.versions.items():
            assert store.history(id) == versions
        for number, state in enumerate(self.states):
            assert store.all(number) == [pair for pair in state if not pair.dropped]


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
