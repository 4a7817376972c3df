"""Edits of the pairs while a run trains: taken by a run that follows its pairs, never by one that is set to one version."""

from __future__ import annotations

import pytest

import lab
from lab.pairs import PairsError
from lab.run.config import ConfigError
from lab.run.pair_versions import UsedVersion, version_to_begin_with
from lab.store import RunError
from lab.training.control import edit_follower
from lab.training.control.edit_follower import EditFollower
from lab.training.data import training_pairs
from lab.training.data.stored_pairs import StoredPairs
from tests.training.run_comparison import asking, assert_same, interrupted, resumed

SETTINGS = {
    "steps": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "save_every": 1,
    "keep_checkpoints": 100,
    "device": "cpu",
    "eval_prompts": 0,
    "panel_pairs": 0,
}
NEW = "Mix the flour and the water, knead the dough, bake the bread, cut a slice."


@pytest.fixture
def at_once(monkeypatch):
    """Let runs look for edits after every step."""
    monkeypatch.setattr(edit_follower, "INTERVAL", 0.0)
    monkeypatch.setattr(edit_follower, "SHARE", float("inf"))


@pytest.fixture
def edited(rows, model_folder, tmp_path, monkeypatch):
    """Return edited(name, pairs_version): a run over a fresh set of twelve pairs, of which some are edited after step 3."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))

    def make(name, pairs_version, *, edits=True, take=False, rows=rows[:12], **more):
        monkeypatch.setenv("LAB_HOME", str(tmp_path / f"home-{name}"))  # every run has a store of its own
        pairs = lab.open_pairs(rows)
        ids = pairs.ids()
        pairs.drop(ids[9])

        def on_step(step, scalars):
            if step == 3 and edits:
                pairs.edit(ids[0], chosen=NEW)
                pairs.drop(ids[1])
                pairs.restore(ids[9])
                pairs.edit(ids[2], weight=2.0, tags=("checked",), reason="twice as important")
                if take:
                    lab.open_run(tmp_path / name).take_edits()

        settings = SETTINGS | {"run_dir": tmp_path / name, "pairs_version": pairs_version, "background": False} | more
        return lab.train("dpo", pairs, model_folder("llama"), on_step=on_step, **settings), pairs

    return make


def test_a_run_that_follows_takes_edits_by_itself_as_if_they_were_requested(edited, at_once, tmp_path):
    run, pairs = edited("run", "follow")
    expected, _ = edited("expected", "current", take=True)
    assert_same(run, expected)
    assert run.pair_versions() == expected.pair_versions() == [UsedVersion(1, 1, 3), UsedVersion(5, 4, 8)]
    assert run.events("edit")["step"].tolist() == [3]
    pairs.edit(pairs.ids()[2], chosen=NEW)  # later edits are not taken at the steps that are repeated
    again = resumed(interrupted(run, 2, tmp_path / "again"))
    assert again.pair_versions() == [UsedVersion(1, 1, 3), UsedVersion(6, 4, 8)]


def test_edits_do_not_disturb_a_run_set_to_one_version(edited, at_once):
    run, pairs = edited("run", "1")
    expected, _ = edited("expected", "1", edits=False)
    assert pairs.version == 5
    assert_same(run, expected)
    assert run.pair_versions() == [UsedVersion(1, 1, 8)]


def test_a_run_set_to_one_version_takes_no_edits_on_request(rows, model_folder, tmp_path):
    pairs = lab.open_pairs(rows[:12])
    for id in pairs.ids()[:3]:
        pairs.drop(id)
    folder = tmp_path / "run"
    ask = asking(folder, 2, "edits", version=3)
    settings = SETTINGS | {"run_dir": folder, "steps": 3}
    run = lab.train("dpo", pairs, model_folder("llama"), pairs_version=1, background=False, on_step=ask, **settings)
    assert run.pair_versions() == [UsedVersion(1, 1, 3)]
    assert "is set to version 1 of its pairs" in run.events("refused")["detail"][0]["message"]
    with pytest.raises(RunError, match="is set to version 1 of its pairs"):
        run.take_edits()
    branch = lab.train(branch_from=run, pairs_version=2, steps=5, background=False)
    assert branch.pair_versions() == [UsedVersion(1, 1, 3), UsedVersion(2, 4, 5)], branch.error
    pairs.snapshot("reviewed")
    pairs.drop(pairs.ids()[0])
    assert version_to_begin_with(pairs, "reviewed") == 3
    for wrong in ("5", "unknown", "-1"):
        with pytest.raises(ConfigError, match=r"has no such version or snapshot; .* or a snapshot \(reviewed\)"):
            lab.train("dpo", pairs, model_folder("llama"), pairs_version=wrong)
    with pytest.raises(ConfigError, match="cannot follow"):
        lab.train_twins(("dpo", "ipo"), pairs, model_folder("llama"), pairs_version="follow")


@pytest.mark.parametrize("too_long", ["cut", "drop"])
def test_only_changed_pairs_are_encoded_and_get_new_reference_log_probs(too_long, edited, at_once, rows, monkeypatch):
    """Of fifty pairs, some of them held out and one with an answer that is too long."""
    encoded = []
    encode = training_pairs.encode_known

    def counted(pair, *arguments, **more):
        encoded.append((pair.id, pair.version))
        return encode(pair, *arguments, **more)

    monkeypatch.setattr(training_pairs, "encode_known", counted)
    rows = [*rows[:49], rows[49] | {"chosen": "Knead the dough again and again. " * 40}]
    run, pairs = edited("run", "follow", rows=rows, steps=20, save_every=0, max_length=256, too_long=too_long, held_out=0.2)
    assert run.state == "finished", run.error
    changed = {(pair.id, pair.version) for pair in pairs.all() if pair.version > 1}
    assert [key for key in encoded if encoded.count(key) > 1] == []
    assert {key for key in encoded if key[1] > 1} == {key for key in changed if pairs.get(key[0]).weight == 1}
    (event,) = run.events("edit")["detail"]
    assert event["encoded"] == 2
    assert len(changed) == 3
    (weighted,) = [pair.id for pair in pairs.all() if pair.weight != 1]
    used = {pair: version for seen in (run.pairs(), run.held_out()) for pair, version in zip(seen["pair"], seen["version"])}
    assert used[weighted] == 2
    assert event["computed"] == 3  # one new answer of the edited pair, and both of the restored one


def test_edits_that_cannot_be_taken_are_refused_once(rows, model_folder, tmp_path, at_once):
    pairs = lab.open_pairs(rows[:6])

    def on_step(step, scalars):
        if step == 2:
            for id in pairs.ids():
                pairs.drop(id)
        if step == 5:
            pairs.undo()

    settings = SETTINGS | {"run_dir": tmp_path / "run", "pairs_version": "follow", "evaluate": False}
    run = lab.train("dpo", pairs, model_folder("llama"), background=False, on_step=on_step, **settings)
    assert run.state == "finished", run.error
    (refused,) = run.events("refused").to_dict("records")
    assert refused["step"] == 2
    assert "All pairs of the set are dropped" in refused["detail"]["message"]
    assert run.pair_versions() == [UsedVersion(0, 1, 5), UsedVersion(7, 6, 8)]


def test_versions_are_read_as_differences(rows, monkeypatch):
    pairs = lab.open_pairs(rows[:12])
    ids = pairs.ids()
    stored = StoredPairs(pairs)
    assert stored.at(0) == pairs.all()
    pairs.edit(ids[3], chosen=NEW)
    pairs.drop(ids[4])
    pairs.edit(ids[3], weight=2.0)
    monkeypatch.setattr(pairs, "all", lambda version=None: pytest.fail("the whole set was read"))
    versions = {version: stored.at(version) for version in (1, 3)}
    monkeypatch.undo()
    assert versions == {version: pairs.all(version) for version in (1, 3)}
    assert stored.at(1) == versions[1]
    pairs.restore(ids[4])
    assert stored.at(4) == pairs.all()


def test_the_store_is_asked_at_most_once_a_second_and_less_often_where_edits_are_slow():
    now, newest, asked, warnings = [0.0], [0], [], []

    def ask():
        asked.append(now[0])
        if newest[0] < 0:
            raise PairsError("The file is gone.")
        return newest[0]

    follower = EditFollower(ask, warnings.append, clock=lambda: now[0])

    def at(seconds, used):
        now[0] = seconds
        return follower.version_to_take(used)

    assert [at(t / 10, 0) for t in range(25)] == [None] * 25
    assert asked == [0.0, 1.0, 2.0]
    newest[0] = 3
    assert at(3.0, 0) == 3
    follower.took(2.0)
    assert at(42.9, 3) is None
    newest[0] = 4
    assert at(43.0, 3) == 4
    follower.refuse(4)
    assert at(44.0, 3) is None
    newest[0] = -1
    assert [at(t, 3) for t in (45.0, 46.0)] == [None, None]
    assert len(warnings) == 1
    assert "The file is gone." in warnings[0]
    newest[0] = 5
    assert at(47.0, 3) == 5
