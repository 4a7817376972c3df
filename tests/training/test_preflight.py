"""The preflight report: it describes the run, and computing it changes nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

import lab
from lab.cli import main
from lab.pairs import pair_of
from lab.policy import Lora, load_policy
from lab.run.config import TrainConfig
from lab.run.preflight_report import Memory, Preflight, seconds, size
from lab.training.data.training_pairs import read_pairs
from lab.training.distributed import Workers
from lab.training.setup import memory_estimate
from lab.training.setup import preflight as room
from lab.training.setup.memory_estimate import token_count
from lab.training.setup.preflight import preflight

pytestmark = pytest.mark.extended

FAST = {"steps": 4, "batch_size": 4, "save_every": 0, "device": "cpu", "evaluate": False}


def read(config, rows, policy):
    encoder = policy.encoder(config.max_length)
    return read_pairs(config, [pair_of(row) for row in rows], encoder, policy.vocabulary)


@pytest.fixture
def policy(model_folder):
    return load_policy(str(model_folder("llama")), device="cpu")


@pytest.fixture
def uneven(rows):
    """Return three short pairs, two with a long answer, one with a long prompt, and one whose long answers differ at the end."""
    long = "mix the flour and the water " * 10
    return [
        *rows[:3],
        rows[3] | {"chosen": long + "once"},
        rows[4] | {"chosen": long + "twice"},
        rows[5] | {"prompt": "bake " * 60},
        rows[6] | {"chosen": long + "a", "rejected": long + "b"},
    ]


def test_counts_and_lengths_of_pairs(policy, uneven):
    config = TrainConfig.parse(objective="dpo", **FAST | {"steps": 7})
    reading = read(config, uneven, policy)
    report = preflight(policy, config, reading, 512, missing=0)
    pairs = [reading.encoded[i] for i in range(7)]
    tokens = [len(p.chosen.prompt) + len(p.chosen.answer) + len(p.rejected.answer) for p in pairs]
    assert (report.pairs, report.seen, report.prompts, report.tokens_per_epoch) == (7, 7, 7, sum(tokens))
    assert report.epochs == 4
    assert [finding.kind for finding in report.findings] == ["no_held_out"]
    for side in ("chosen", "rejected"):
        lengths = sorted(len(getattr(p, side).answer) for p in pairs)
        assert (report.lengths[side].longest, report.lengths[side].median) == (lengths[-1], lengths[3])
        assert sum(report.lengths[side].histogram) == 7
        assert report.lengths[side].median <= report.lengths[side].p95 <= report.lengths[side].longest
    assert report.lengths["prompt"].longest == len(pairs[5].chosen.prompt)
    assert any("every pair fits into 512 tokens" in line for line in report.lines())
    assert Preflight.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report


def test_findings_name_the_cut_pairs(policy, uneven):
    config = TrainConfig.parse(objective="dpo", max_length=64, **FAST | {"steps": 7})
    reading = read(config, uneven, policy)
    findings = {finding.kind: finding for finding in preflight(policy, config, reading, 64, missing=0).findings if finding.pairs}
    ids = [reading.encoded[i].id for i in range(7)]
    assert findings.keys() == {"answer_cut", "prompt_cut", "same"}
    assert findings["answer_cut"].ids == (ids[3], ids[4], ids[6])
    assert findings["same"].ids == (ids[6],)
    assert ids[5] in findings["prompt_cut"].ids
    whole = read(config.model_copy(update={"max_length": 512}), uneven, policy).encoded
    for i in range(7):
        cut, full = reading.encoded[i], whole[i]
        assert len(cut.chosen.answer) + cut.chosen_cut == len(full.chosen.answer)
        assert len(cut.rejected.answer) + cut.rejected_cut == len(full.rejected.answer)
        assert len(cut.chosen.prompt) + cut.prompt_cut == len(full.chosen.prompt)
    answer_cut = findings["answer_cut"]
    assert answer_cut.tokens == sum(p.cut for p in reading.encoded.values())
    assert "3 of 7 pairs have an answer longer than 56 tokens (of 64, " in answer_cut.message  # 8 are kept of a prompt
    enough = int(answer_cut.message.split("max_length = ")[1].split()[0])
    for length in (enough, enough - 1):
        encoded = read(config.model_copy(update={"max_length": length}), uneven, policy).encoded.values()
        assert any(pair.cut for pair in encoded) == (length < enough)
    assert preflight(policy, config, reading, 64, missing=0).lengths["chosen"].longest == max(
        len(p.chosen.answer) for p in whole.values()
    )


def test_too_long_drop_leaves_pairs_out(model_folder, uneven):
    run = lab.train("dpo", uneven, model_folder("llama"), max_length=64, too_long="drop", background=False, **FAST)
    assert run.state == "finished", run.error
    report = run.preflight()
    (dropped,) = [finding for finding in report.findings if finding.kind == "dropped"]
    assert (report.pairs, dropped.pairs, len(dropped.ids)) == (4, 3, 3)
    assert set(run.pairs()["pair"]).isdisjoint(dropped.ids)
    assert len(run.pairs()) == 4
    assert any("left out" in detail["message"] for detail in run.events("warning")["detail"])
    assert run.scalars(["epoch"])["epoch"].iloc[-1] == 4  # 4 steps of 4 pairs


def test_held_out_pairs_that_do_not_fit_are_findings(policy, uneven, model_folder):
    """All long answers are held out, so that no training pair is cut."""
    config = TrainConfig.parse(objective="dpo", max_length=64, **FAST | {"evaluate": True, "held_out": 0.5})
    for seed in range(100):
        config = config.model_copy(update={"seed": seed})
        reading = read(config, uneven, policy)
        if 1 < len(reading.kept_apart) < 6 and not any(pair.cut for pair in reading.encoded.values()):
            break
    cut = [pair for pair in reading.held_out if pair.cut]
    (finding,) = [f for f in preflight(policy, config, reading, 64, missing=0).findings if f.kind == "held_out_cut"]
    assert (finding.pairs, finding.tokens) == (3, sum(pair.cut for pair in cut))
    assert finding.ids == tuple(pair.id for pair in cut)
    assert f"3 of {len(reading.kept_apart)} held-out pairs have an answer longer than 56 tokens" in finding.message
    enough = int(finding.message.split("max_length = ")[1].split()[0])
    assert not any(p.cut for p in read(config.model_copy(update={"max_length": enough}), uneven, policy).held_out)
    config = config.model_copy(update={"too_long": "drop"})
    reading = read(config, uneven, policy)
    assert not any(pair.cut for pair in reading.held_out)
    (finding,) = [f for f in preflight(policy, config, reading, 64, missing=0).findings if f.kind.startswith("held_out")]
    assert (finding.kind, finding.ids) == ("held_out_dropped", tuple(pair.id for pair in cut))
    assert f"3 of {len(reading.kept_apart)} held-out pairs are left out of evaluation" in finding.message
    settings = FAST | {"evaluate": True, "held_out": 0.5, "seed": seed, "max_length": 64, "eval_prompts": 0}
    run = lab.train("dpo", uneven, model_folder("llama"), too_long="drop", background=False, **settings)
    assert [f.kind for f in run.preflight().findings if f.kind.startswith("held_out")] == ["held_out_dropped"]
    assert any("left out of evaluation" in detail["message"] for detail in run.events("warning")["detail"])


def test_the_report_counts_pairs_with_a_weight(policy, rows):
    config = TrainConfig.parse(objective="dpo", **FAST)
    weights = (2.0, 0.0, 1.0, 0.5)
    pairs = [replace(pair_of(row), weight=weight) for row, weight in zip(rows, weights)]
    reading = read_pairs(config, pairs, policy.encoder(config.max_length), policy.vocabulary)
    (finding,) = [f for f in preflight(policy, config, reading, 512, missing=0).findings if f.kind == "weighted"]
    assert finding.pairs == 3
    assert "3 of 4 pairs have a weight other than 1 (0 to 2)" in finding.message
    assert "1 of them have weight 0" not in finding.message
    assert "1 of them has weight 0" in finding.message


def test_the_report_says_where_degrees_are_used(policy, rows):
    pairs = [replace(pair_of(row), degree=degree) for row, degree in zip(rows, (1 / 3, None, 1.0, None))]

    def findings(pairs, objective):
        config = TrainConfig.parse(objective=objective, **FAST)
        reading = read_pairs(config, pairs, policy.encoder(config.max_length), policy.vocabulary)
        return [f for f in preflight(policy, config, reading, 512, missing=0).findings if "degree" in f.kind]

    (used,) = findings(pairs, {"name": "simpo", "degree_margin": 0.5})
    assert (used.pairs, used.message) == (2, "2 of 4 pairs have an annotated degree; simpo trains on it.")
    (unused,) = findings(pairs, "sgdpo")
    assert "sgdpo does not use it" in unused.message
    (none,) = findings([pair_of(row) for row in rows[:4]], {"name": "dpo", "degree_margin": 0.5})
    assert "none of 4 pairs has one" in none.message
    assert findings([pair_of(row) for row in rows[:4]], "dpo") == []


def test_it_is_an_error_if_no_pair_fits(model_folder, uneven):
    with pytest.raises(ValueError, match=r"Every one of 2 pairs .* raise max_length"):
        lab.preflight("dpo", uneven[3:5], model_folder("llama"), max_length=64, too_long="drop", **FAST)


def test_the_error_names_a_pair_that_cannot_be_tokenized(model_folder, rows):
    conversation = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    (stored,) = lab.open_pairs([conversation]).ids()
    with pytest.raises(ValueError, match=f"from {stored} on, is refused: .*no chat template"):
        lab.preflight("dpo", [conversation], model_folder("llama"), **FAST)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.5)])
def test_preflight_changes_neither_weights_nor_random_state(lora, model_folder, rows):
    policy = load_policy(str(model_folder("llama")), lora=lora, device="cpu")
    config = TrainConfig.parse(objective={"name": "spo", "base": "sgdpo"}, lora_rank=2 if lora else 0, **FAST)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    random = torch.random.get_rng_state()
    preflight(policy, config, read(config, rows, policy), 512, missing=100)
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in policy.model.state_dict().items())
    assert all(parameter.grad is None for parameter in policy.model.parameters())
    assert policy.model.training


def test_the_memory_estimate_depends_on_the_settings(model_folder, rows):
    def memory(lora=None, **settings):
        policy = load_policy(str(model_folder("llama")), lora=lora, device="cpu")
        config = TrainConfig.parse(objective="dpo", **FAST | settings)
        return preflight(policy, config, read(config, rows, policy), 512, missing=0).memory, policy

    whole, policy = memory(probe_budget=0)
    trained = 4 * sum(p.numel() for p in policy.parameters().values())
    assert (whole.gradients, whole.optimizer) == (trained, 2 * trained)
    assert whole.weights >= trained
    assert memory(batch_size=4)[0].gradients == 2 * trained  # the probe of the chosen side needs another
    assert memory(micro_batch_size=1)[0].gradients == 3 * trained  # and one for the current micro-batch
    assert trained < memory(probe_layers="norm")[0].gradients < 1.01 * trained
    parts, _ = memory(micro_batch_size=1, probe_budget=0)
    assert parts.activations < 0.5 * whole.activations
    assert parts.logits < whole.logits
    twice, _ = memory(batch_size=8, probe_budget=0)
    assert 1.5 * whole.activations < twice.activations < 2.5 * whole.activations
    policy = load_policy(str(model_folder("llama")), device="cpu", gradient_checkpointing=True)
    config = TrainConfig.parse(objective="dpo", gradient_checkpointing=True, probe_budget=0, **FAST)
    spared = preflight(policy, config, read(config, rows, policy), 512, missing=0).memory
    assert spared.activations < 0.8 * whole.activations
    assert policy.model.training
    adapter, policy = memory(Lora(rank=2), lora_rank=2, probe_budget=0)
    assert adapter.gradients == 4 * sum(p.numel() for p in policy.parameters().values()) < trained
    assert whole.total == whole.process + whole.weights + whole.optimizer + max(whole.step, whole.evaluation)
    assert (
        max(whole.gradients, whole.activations + whole.logits) < whole.step < whole.gradients + 2 * whole.activations + whole.logits
    )
    assert parts.step > parts.gradients + parts.activations + parts.logits  # with the gradients of earlier micro-batches


@pytest.mark.parametrize(
    ("free", "settings", "advice"),
    [
        (0.6, {"batch_size": 16}, "set micro_batch_size to"),
        (0.85, {"batch_size": 1}, "set probe_layers to a few of the layers, or probe_budget to 0"),
        (0.01, {"micro_batch_size": 1}, "train an adapter"),
        (0.01, {"micro_batch_size": 1, "lora_rank": 2}, "max_length"),
    ],
)
def test_too_little_memory_fails_before_the_first_step_with_advice(free, settings, advice, model_folder, rows, monkeypatch):
    settings = FAST | settings
    if "adapter" in advice or "probe" in advice:  # few activations, so that gradients and optimizer take the larger part
        rows = [{"prompt": "mix", "chosen": "dough", "rejected": "no"}]
    enough = lab.preflight("dpo", rows, model_folder("llama"), **settings)
    assert enough.advice is None
    set_free_memory(monkeypatch, int(free * enough.memory.more))
    run = lab.train("dpo", rows, model_folder("llama"), background=False, **settings)
    assert (run.state, run.step) == ("failed", 0)
    assert run.error == run.preflight().advice
    assert advice in run.error
    with pytest.raises(lab.ConfigError, match="besides the weights") as refused:
        lab.preflight("dpo", rows, model_folder("llama"), **settings)
    assert refused.value.report.memory.free == run.preflight().memory.free
    assert any(line.startswith("warning") for line in run.preflight().lines())
    if "micro_batch_size to" in advice:
        size_that_fits = int(run.error.split("micro_batch_size to ")[1].split()[0])
        assert lab.preflight("dpo", rows, model_folder("llama"), **settings | {"micro_batch_size": size_that_fits}).advice is None


def set_free_memory(monkeypatch, free):
    """Make `free` bytes available on the device."""
    for where in ("lab.training.setup.prepare", "lab.training.setup.preflight"):
        monkeypatch.setattr(f"{where}.available_bytes", lambda device: free)


def limit_memory(monkeypatch, most, *, gradients=True):
    """Let passes of more than `most` tokens run out of memory, and with gradients=False every backward pass of the measurement."""
    computed, backward = room.pair_logps, torch.autograd.grad

    def pair_logps(policy, objective, pairs, *more):
        if sum(map(token_count, pairs)) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return computed(policy, objective, pairs, *more)

    def grad(*given, **more):
        if sys._getframe(1).f_globals["__name__"].startswith("lab.policy"):  # the comparison of layouts
            return backward(*given, **more)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")

    monkeypatch.setattr(room, "pair_logps", pair_logps)
    monkeypatch.setattr(memory_estimate, "pair_logps", pair_logps)
    if not gradients:
        monkeypatch.setattr(room.torch.autograd, "grad", grad)


def test_shorter_pairs_are_measured_where_pairs_do_not_fit(policy, rows, monkeypatch):
    config = TrainConfig.parse(objective="dpo", **FAST)
    reading = read(config, rows, policy)
    whole = preflight(policy, config, reading, 512, missing=0)
    longest = max(map(token_count, reading.encoded.values()))
    limit_memory(monkeypatch, longest)  # one pair fits, two do not
    report = preflight(policy, config, reading, 512, missing=0)
    assert report.time.measured_pairs == 1
    assert 0.5 * whole.memory.activations < report.memory.activations < 2 * whole.memory.activations
    limit_memory(monkeypatch, longest // 2)
    report = preflight(policy, config, reading, 512, missing=0, free=1000)
    assert 0.4 * whole.memory.activations < report.memory.activations < 2 * whole.memory.activations
    assert report.time is None
    assert "time     unknown: memory ran out while a pair was timed" in report.lines()
    assert report.advice
    assert Preflight.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report


def test_out_of_memory_in_the_measurement_gives_a_report_with_advice(model_folder, rows, monkeypatch, capsys, tmp_path):
    with monkeypatch.context() as within:
        limit_memory(within, 10**6, gradients=False)
        run = lab.train("dpo", rows, model_folder("llama"), background=False, **FAST)
        assert run.state == "failed"
        report = run.preflight()
        assert report.time is None
        assert "ran out in a pass of a single pair: set micro_batch_size to 1 and lower max_length" in report.advice
        assert run.error == report.advice
        file = tmp_path / "pairs.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        command = ["train", "--objective", "dpo", "--model", str(model_folder("llama")), "--pairs", str(file), "--device", "cpu"]
        assert main([*command, "--dry-run"]) == 1
        out, err = capsys.readouterr()
        assert "time     unknown: memory ran out" in out
        assert err.startswith("error: Training needs about")

    def load(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr("lab.training.setup.prepare.load_policy", load)
    assert main([*command, "--dry-run"]) == 1
    assert "error: Out of memory: lower micro_batch_size" in capsys.readouterr().err


def test_a_run_stores_its_report_before_its_first_step(model_folder, rows, monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))  # no reference log-probs of earlier tests
    run = lab.train("sgdpo", rows, model_folder("gpt2"), background=False, **FAST)
    report = run.preflight()
    kinds = run.events()["kind"].tolist()
    assert kinds.index("preflight") < kinds.index("reference")
    assert report.time.step > 0
    assert report.time.training == pytest.approx(4 * report.time.step)
    assert report.time.reference > 0
    assert report.seen == 16
    assert run.status["memory"] > 10_000_000  # the measured value beside it
    again = lab.preflight("sgdpo", rows, model_folder("gpt2"), **FAST)
    assert again.time.reference == 0  # computed by the run, and kept
    assert again.lengths == report.lengths
    assert lab.open_run(run.dir).preflight() == report
    assert len(lab.runs()) == 1


def test_only_the_pairs_of_the_runs_steps_are_seen(model_folder, rows):
    report = lab.preflight("dpo", rows, model_folder("gpt2"), **FAST | {"steps": 2, "micro_batch_size": 2})
    assert (report.pairs, report.seen, report.micro_batch_size) == (50, 8, 2)
    assert report.epochs == pytest.approx(8 / 50)


def test_resumed_runs_and_branches_report_the_remaining_steps(model_folder, rows, tmp_path, capsys):
    folder, pairs = tmp_path / "run", lab.open_pairs(rows[:20])
    settings = FAST | {"steps": 6, "save_every": 1, "keep_checkpoints": 10, "max_length": 96, "too_long": "drop"}

    def on_step(step, scalars):
        if step == 2:
            for id in pairs.ids()[:12]:
                pairs.drop(id)
            pairs.edit(pairs.ids()[0], rejected="Nobody knows. " * 20)  # does not fit
            lab.open_run(folder).take_edits()
            lab.open_run(folder).set(learning_rate=5e-4)
        if step == 4:
            lab.open_run(folder).stop()

    run = lab.train("dpo", pairs, model_folder("llama"), run_dir=folder, background=False, on_step=on_step, **settings)
    whole = run.preflight()
    assert (whole.pairs, whole.done, whole.left, whole.seen) == (20, 0, 6, 20)
    assert [f.kind for f in whole.findings] == ["no_held_out"]
    assert not whole.lines()[0].startswith("from")
    branch = lab.train(branch_from=run, at=3, background=False, steps=8)
    report = branch.preflight()
    assert (report.pairs, report.done, report.left) == (7, 3, 5)  # the pairs in use at step 3
    assert [(f.kind, f.pairs) for f in report.findings if f.pairs] == [("dropped", 1)]
    assert report.epochs == pytest.approx(5 * 4 / 7)
    assert report.time.training == pytest.approx(5 * report.time.step)
    assert report.time.reference == 0  # all of it is cached
    before = lab.train(branch_from=run, at=1, background=False, steps=2).preflight()
    assert (before.pairs, before.done, before.left, before.seen) == (20, 1, 1, 4)
    capsys.readouterr()
    assert main(["train", "--resume", "--run-dir", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "from     step 4 of 6, so 2 are left"
    assert out[1].startswith("pairs    7; 2 steps of 4 are 1.14 epochs")
    assert sum(line.startswith("memory") for line in out) == 1  # not also the first report
    assert (run.preflight().done, run.preflight().left) == (4, 2)
    assert lab.open_run(folder).events("preflight")["step"].tolist() == [0, 4]
    assert main(["train", "--resume", "--run-dir", str(folder)]) == 0  # no steps are left
    assert capsys.readouterr().out.splitlines()[0].startswith("finished at step 6")


def test_several_processes_share_batch_and_memory(policy, rows, monkeypatch):
    def even_pass(policy, config, pairs):  # independent of other processes
        tokens = sum(map(token_count, pairs))
        return 1e-4 * tokens, 2e-4 * tokens

    monkeypatch.setattr(room, "_pass", even_pass)
    monkeypatch.setattr(room, "_optimizer_seconds", lambda policy: 0.0)
    config = TrainConfig.parse(objective="dpo", **FAST | {"batch_size": 8})
    reading = read(config, rows, policy)
    single = preflight(policy, config, reading, 512, missing=10**9, free=10**9)
    two = preflight(policy, config, reading, 512, missing=10**9, free=10**9, workers=Workers(0, 2, local_world_size=2))
    assert (two.processes, two.batch_size, two.micro_batch_size) == (2, 8, 4)
    assert two.memory.free == 10**9 // 2  # on one machine, with the same memory
    assert two.memory.activations < 0.6 * single.memory.activations
    assert two.memory.gradients == single.memory.gradients
    assert two.time.step == pytest.approx(single.time.step / 2)
    assert two.time.reference == pytest.approx(single.time.reference / 2)
    assert any("in each of 2 processes" in line for line in two.lines())
    sharded = preflight(policy, config, reading, 512, missing=0, free=10**9, workers=Workers(0, 2, True, 1)).memory
    assert (sharded.free, sharded.optimizer) == (10**9, single.memory.optimizer // 2)


def test_sizes_and_times_as_text():
    assert [size(n) for n in (0, 999, 12_345, 5_000_000, 7.25e9)] == ["0 B", "999 B", "12.3 KB", "5 MB", "7.2 GB"]
    assert [seconds(n) for n in (0.1234, 12, 600, 7200)] == ["0.12 s", "12 s", "10 min", "2.0 h"]
    counted = Memory(device="cpu", weights=1, gradients=1, optimizer=2, activations=3, logits=4, free=10)
    assert counted.enough
    assert (counted.more, counted.total) == (10, 11)
