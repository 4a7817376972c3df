"""The diagnosis in words: each condition in a real tiny run that has it, and silence where it is not."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from lab.diagnosis import CHECKS, Thresholds, diagnose, read_thresholds, run_checks, write_thresholds
from lab.store import StoreReader, StoreWriter
from lab.store.folder import RUN_FORMAT, RunError
from tests.diagnosis import troubled


def findings(run, **options):
    return {one.kind: one for one in diagnose(run.reader, **options)}


def test_a_healthy_run_has_no_trouble(trouble):
    run = trouble("healthy")
    assert run.state == "finished", run.error
    assert run.diagnose() == []
    seen = run_checks(run.reader)
    assert seen.keys() == CHECKS.keys()
    waiting = {kind for kind, one in seen.items() if one.missing}
    assert waiting == {"margin_statistics", "pilots_stuck", "harmful_change", "memorised"}, "all others were content"
    assert all(one.numbers for kind, one in seen.items() if kind not in waiting)


@pytest.mark.parametrize(("name", "kind"), [("healthy sgdpo", "pilots_stuck"), ("healthy alpha_dpo", "margin_statistics")])
def test_healthy_runs_of_the_methods_have_no_trouble(trouble, name, kind):
    run = trouble(name)
    assert run.diagnose() == []
    assert run_checks(run.reader)[kind].numbers


@pytest.mark.parametrize(
    ("name", "kind", "severity", "message"),
    [
        ("alike", "chosen_falls", "warning", r"Since step \d+ the chosen log-prob fell [\d.]+ nats below its start, the rejected"),
        ("alike", "sides_opposed", "warning", r"In \d of \d layers .*median cosine -(0\.9|1)"),
        ("alike", "rejected_collapses", "warning", r"log-prob is [\d.]+ nats below its start"),
        ("alike", "saturated", "warning", r"% of the latest 24 pairs have no gradient left"),
        ("not a number", "not_finite", "error", r"gradient norm stopped being finite at step 3\. The step before had"),
        ("copies", "margin_statistics", "warning", r"gaps of a batch are all alike"),
        ("one by one", "margin_statistics", "warning", r"A batch of 1 pairs is too small"),
        ("short pilots", "pilots_stuck", "warning", r"pilot of the chosen \(\d+ % of its log-ratio\)"),
        ("flipped", "loss_spike", "warning", r"The loss jumped in one batch: to [\d.]+ at step \d+"),
        (
            "by heart",
            "memorised",
            "warning",
            r"memorised its 19 training pairs\. After 11 epochs .* 100 % .* \d+ % of the 21 held-out",
        ),
        (
            "told apart, none held out",
            "memorised",
            "notice",
            r"may have memorised its 16 .* too few other .*the 8 pairs of the second",
        ),
        (
            "told apart, none held out",
            "nothing_held_out",
            "warning",
            r"All 16 pairs are trained on \(held_out is 0\) and each was seen 5",
        ),
        (
            "too slow",
            "nothing_held_out",
            "notice",
            r"\(evaluate is off\) and each was seen 2 times\. Start a new run with evaluate on",
        ),
        pytest.param(
            "too fast",
            "rate_too_high",
            "warning",
            r"learning rate 0\.01 is too high here\. .* and ",
            marks=pytest.mark.extended,
        ),
        ("too slow", "rate_too_low", "warning", r"After 25 of 25 steps at learning rate 1e-08"),
        pytest.param(
            "too slow, one by one",
            "rate_too_low",
            "warning",
            r"After 25 of 25 steps at learning rate 1e-08",
            marks=pytest.mark.extended,
        ),
        ("wrong beta", "parameters", "warning", r"beta = 0\.1 is outside 2 to 10"),
        pytest.param(
            "without end",
            "grows_longer",
            "warning",
            r"tokens at the first evaluation and \d+ after step 20 .* no longer end by themselves",
            marks=pytest.mark.extended,
        ),
        ("backwards", "goes_backwards", "error", r"The chosen answers lost [\d.]+ nats against the rejected"),
    ],
)
def test_trouble_is_found(trouble, name, kind, severity, message):
    run = trouble(name)
    one = findings(run)[kind]
    assert one.severity == severity
    assert re.search(message, one.message), one.message
    assert one.numbers
    assert set(one.thresholds) == set(CHECKS[kind].thresholds)
    assert one.step == run.step
    known = set(run.reader.pairs.latest()["pair"]) | set(run.reader.held_out.latest()["pair"])
    assert set(one.pairs) <= known
    assert bool(one.pairs) == (kind not in ("parameters", "rate_too_low", "nothing_held_out")) or one.severity == "notice"


def test_pairs_that_are_told_apart_are_not_learned_by_heart_where_others_are_told_apart_too(trouble):
    run = trouble("told apart")
    seen = run_checks(run.reader)
    assert seen["memorised"].numbers["accuracy in the last epoch [share]"] > 0.99
    assert seen["memorised"].numbers["epochs"] > 3
    assert findings(run).keys() & {"memorised", "nothing_held_out", "held_out_behind"} == set()


def test_held_out_pairs_fall_behind_without_being_few(trouble):
    """The gap is told by one finding: as learning by heart where the pairs are few."""
    run = trouble("by heart")
    assert "held_out_behind" not in findings(run)
    one = findings(run, thresholds=Thresholds.parse(few_pairs=10))["held_out_behind"]
    assert re.search(r"100 % of the training pairs .* \d+ % of the \d+ held-out ones at step 50 \(after 11 epochs\)", one.message)
    assert one.pairs


def test_chosen_answers_that_rise_while_the_rejected_fall_are_what_training_is_for(trouble):
    run = trouble("chosen rise")
    numbers = run_checks(run.reader)["rejected_collapses"].numbers
    assert numbers["chosen log-prob against its start [nats]"] > 1
    assert numbers["rejected, per token [nats/token]"] < -0.05
    strict = Thresholds.parse(rejected_fall=0.01)
    assert findings(run, thresholds=strict).keys() & {"rejected_collapses", "chosen_falls"} == set()
    assert "rejected_collapses" in findings(trouble("alike"), thresholds=strict), "there the chosen fall, too"


def test_a_stale_reference_is_found(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    rows = troubled.told_apart(8)
    troubled.run("dpo", rows, model_folder("gpt2"), steps=1, probe_budget=0)
    troubled.spoil_reference(tmp_path / "cache")
    run = troubled.run("dpo", rows, model_folder("gpt2"), steps=1, probe_budget=0)
    one = findings(run)["first_step"]
    assert one.severity == "error"
    assert f"starts at {np.log(2):.4f}" in one.message
    assert one.numbers["first loss [nats]"] != pytest.approx(np.log(2), abs=1e-3)


def test_the_pairs_named_are_the_ones_that_cause_it(trouble):
    run = trouble("flipped")
    one = findings(run)["loss_spike"]
    batch = run.reader.pairs.batch(one.since).sort_values("loss", ascending=False)
    assert one.pairs[0] == batch["pair"].iloc[0]
    assert "No idea" in run.pair_store().get(one.pairs[0]).chosen, "it is one of those whose answers are swapped"


def test_thresholds_decide_and_are_kept_with_the_run(trouble, tmp_path):
    run = trouble("alike")
    assert "chosen_falls" in findings(run)
    assert "chosen_falls" not in findings(run, thresholds=Thresholds.parse(chosen_fall=1000))
    folder = tmp_path / "copy"
    shutil.copytree(run.dir, folder)
    write_thresholds(folder, Thresholds.parse(chosen_fall=1000))
    assert json.loads((folder / "thresholds.json").read_text()) == {"chosen_fall": 1000}
    assert read_thresholds(folder).chosen_fall == 1000
    import lab

    assert "chosen_falls" not in {one.kind for one in lab.open_run(folder).diagnose()}
    write_thresholds(folder, Thresholds())
    assert not (folder / "thresholds.json").exists()
    (folder / "thresholds.json").write_text('{"chosen_fall": -1}')
    with pytest.raises(RunError, match=r"chosen_fall = -1 does not work: .* delete it"):
        read_thresholds(folder)


def test_every_threshold_is_declared_once_and_used_by_a_check():
    used = [name for check in CHECKS.values() for name in check.thresholds]
    assert sorted(used) == sorted(Thresholds.model_fields)
    assert all(field.description for field in Thresholds.model_fields.values())
    with pytest.raises(ValueError, match="There is no threshold 'chosen'"):
        Thresholds.parse(chosen=1)


def test_it_travels_in_time(trouble):
    run = trouble("alike")
    assert "chosen_falls" not in findings(run, step=12)
    assert findings(run, step=40)["chosen_falls"] == findings(run)["chosen_falls"]
    assert findings(run, step=30).keys() != findings(run, step=5).keys()


def test_odd_stores_are_no_trouble(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    StoreWriter(empty).close()
    assert diagnose(StoreReader(empty)) == []  # no run.json either

    odd = tmp_path / "odd"
    odd.mkdir()
    store = StoreWriter(odd)
    rng = np.random.default_rng(0)
    for step in range(1, 61):  # an objective of one's own, recorded by somebody else
        store.scalars(step, {"loss": 0.5 + 0.01 * rng.normal(), "mine": float(step)})
        store.pair_terms(step, ["a", "b"], [0, 0], {"loss": np.array([0.5, 0.5]), "mine": np.array([1.0, np.nan])})
    store.status(step=60)
    store.event(60, "check", what="loss at the first step")  # half of what a check says
    store.close()
    (odd / "run.json").write_text(json.dumps({"format": RUN_FORMAT}))
    assert diagnose(StoreReader(odd)) == []
    assert "cannot be read here" in run_checks(StoreReader(odd))["first_step"].missing
    (odd / "run.json").write_text("no json")
    (odd / "changes.json").write_text("no json")
    assert diagnose(StoreReader(odd)) == []


def test_parameters_follow_changes_made_in_mid_run(trouble, tmp_path):
    run = trouble("healthy")
    folder = tmp_path / "changed"
    shutil.copytree(run.dir, folder)
    (folder / "changes.json").write_text(json.dumps([{"after": 20, "settings": {"beta": 5.0}, "pairs_version": None}]))
    reader = StoreReader(folder)
    assert "parameters" not in {one.kind for one in diagnose(reader, step=20)}
    assert "beta = 5 is outside" in {one.kind: one for one in diagnose(reader, step=21)}["parameters"].message


def test_findings_are_plain_values(trouble):
    content = json.dumps([dataclasses.asdict(one) for one in trouble("alike").diagnose()])
    assert json.loads(content)[0]["kind"] in CHECKS
