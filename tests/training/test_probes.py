"""Probes: exact split of gradients, actual update ratios, the budget, and training that is not affected."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab
from lab.objectives import OBJECTIVES, make_objective
from lab.pairs import pair_of
from lab.policy import Encoder, Lora, ReferenceCache, load_policy
from lab.run.config import TrainConfig
from lab.store import SilentWriter
from lab.training import loop
from lab.training.data.encoded_pairs import encode_pair
from lab.training.data.random_streams import generator
from lab.training.distributed import ALONE, Workers
from lab.training.evaluation.gradient_by_layer import ProbeBudget, layer_of, select_layers
from lab.training.evaluation.panel import Panel
from lab.training.evaluation.probes import Probes, panel_enabled, probe_copies
from lab.training.setup.prepare import _check_probes
from lab.training.step import accumulate, pair_logps
from tests.training.run_comparison import assert_same, interrupted, resumed

COUNT = 6
SHORT = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "warmup_ratio": 0, "device": "cpu", "background": False}
PANEL = {"held_out": 0.2, "eval_prompts": 2, "eval_tokens": 5, "eval_every": 0, "save_every": 0, "panel_pairs": 3}


class RecordingWriter(SilentWriter):
    """Keeps the recorded layers."""

    def layers(self, step, rows):
        self.rows = {row.layer: row for row in rows}


class Setting:
    """A policy that differs a little from its reference, pairs, and the arguments of a step; `probed` makes one probed step."""

    def __init__(self, folder, rows, cache, objective, lora=None, kind="llama", dropout=0.0):
        self.objective = objective
        self.policy = load_policy(str(folder(kind)), lora=lora, device="cpu")
        encoder = Encoder(self.policy.tokenizer)
        self.pairs = [encode_pair(pair_of(row), encoder, objective.degraded_spec()) for row in rows[:COUNT]]
        reference = ReferenceCache(cache / "reference", self.policy)
        reference.prepare(self.policy, [c for pair in self.pairs for c in pair.completions()])
        self.reference = reference.lookup
        for number, parameter in enumerate(self.policy.parameters().values()):
            parameter.data.add_(torch.randn(parameter.shape, generator=generator(0, number, 9)) * 0.02)
        degraded_spec = objective.degraded_spec()
        self.head = None
        if degraded_spec:  # some pairs have degraded answers and some have none
            self.pairs = [pair if number % 3 else replace(pair, degraded=()) for number, pair in enumerate(self.pairs)]
            self.head = torch.nn.Linear(self.policy.hidden_size, degraded_spec.degrees)
        self.state = objective.initial_state()
        if objective.needs_dataset:
            with torch.no_grad():
                self.state = objective.dataset_state([self.logps()])

    def logps(self):
        return pair_logps(self.policy, self.objective, self.pairs, self.reference, self.head)

    def probed(self, **config):
        """Make one step; return its rows by layer, and the chosen part by parameter. The total is in the parameters' `.grad`."""
        settings = TrainConfig.parse(objective=self.objective, batch_size=COUNT, **config)
        store = RecordingWriter()
        probing = Probes(settings, self.policy, Panel(), store, ALONE)
        accumulate(
            self.policy,
            self.objective,
            self.pairs,
            self.state,
            generator(0, 1, 2),
            reference=self.reference,
            degree_head=self.head,
            micro_batch_size=settings.micro_batch_size,
            probe=probing.probe(),
        )
        chosen = dict(probing._chosen)
        probing.split()
        probing.record(1)
        return store.rows, chosen

    def side_gradient(self, side):
        """Return the gradient of the mean loss through the log-probs of one side only, by parameter."""
        self.policy.model.zero_grad(set_to_none=True)
        logps = self.logps()
        other = "rejected" if side == "chosen" else "chosen"
        cut = {other: getattr(logps, other).detach()}
        if logps.degraded is not None:
            cut["degraded"] = replace(logps.degraded, head_logits=logps.degraded.head_logits.detach())
        draws = self.objective.draw(logps.map(torch.Tensor.detach), generator(0, 1, 2))
        outcome, _ = self.objective(replace(logps, **cut), self.state, draws, training=True)
        outcome.losses.mean().backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in self.policy.parameters().items()}


@pytest.fixture
def setting(model_folder, rows, tmp_path):
    return lambda objective, **how: Setting(model_folder, rows, tmp_path, make_objective(objective), **how)


def layer_gradient(gradients, layer):
    return torch.cat([gradient.flatten().double() for name, gradient in gradients.items() if layer_of(name) == layer])


def assert_exact(rows, sides):
    """Assert that norms and cosines equal those of separately computed gradients, to 1e-5."""
    assert rows.keys() == {layer_of(name) for name in sides["chosen"]}
    for layer, row in rows.items():
        c, r = (layer_gradient(sides[side], layer) for side in ("chosen", "rejected"))
        noise = 1e-7 * float(torch.maximum(c.norm(), r.norm()))  # for a side without a gradient the difference is rounding
        assert row.norm_chosen == pytest.approx(float(c.norm()), rel=1e-5, abs=noise)
        assert row.norm_rejected == pytest.approx(float(r.norm()), rel=1e-5, abs=noise)
        if min(c.norm(), r.norm()) > 10 * noise:
            assert row.cosine == pytest.approx(float(c @ r / (c.norm() * r.norm())), abs=1e-5)


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_split_equals_separate_backward_passes(name, lora, setting):
    """SPO's degree head reads degraded answers: its part of the gradient belongs to neither side."""
    made = setting(name, lora=lora)
    rows, chosen = made.probed()
    total = {name: p.grad.clone() for name, p in made.policy.parameters().items()}
    sides = {side: made.side_gradient(side) for side in ("chosen", "rejected")}
    assert_exact(rows, sides)
    for parameter, gradient in chosen.items():
        expected = sides["chosen"][parameter]
        assert (gradient - expected).norm() <= 1e-5 * expected.norm() + 1e-9, parameter
    rest = sum((g - sides["chosen"][n] - sides["rejected"][n]).norm() ** 2 for n, g in total.items()) ** 0.5
    both = sum(g.norm() ** 2 for g in total.values()) ** 0.5
    assert rest > 1e-2 * both if name == "spo" else rest <= 1e-5 * both  # the head's part


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("name", ["simpo", "sgdpo", "aot", "spo"])
def test_the_split_with_micro_batches_equals_that_of_the_batch(name, size, setting):
    made = setting(name)
    rows, _ = made.probed(micro_batch_size=size)
    assert_exact(rows, {side: made.side_gradient(side) for side in ("chosen", "rejected")})


@pytest.mark.parametrize(("kind", "tied"), [("gpt2", True), ("llama", False)])
def test_tied_weights_are_counted_once(kind, tied, setting):
    made = setting("dpo", kind=kind)
    ends = {"wte", "embed_tokens", "lm_head"}
    rows, _ = made.probed()
    assert rows.keys() & ends == ({"wte"} if tied else {"embed_tokens", "lm_head"})
    assert_exact(rows, {side: made.side_gradient(side) for side in ("chosen", "rejected")})
    if tied:  # the gradient through the output projection reaches all rows, not only those of the tokens in the text
        sides = made.side_gradient("chosen")
        name = next(name for name in sides if layer_of(name) == "wte")
        assert made.policy.model.get_output_embeddings().weight is made.policy.model.get_input_embeddings().weight
        assert (sides[name].abs().sum(1) > 0).all()


def test_layer_of_a_parameter_with_and_without_an_adapter():
    base = "base_model.model.model"
    layers = {
        "model.layers.3.self_attn.q_proj.weight": "layers.3",
        "transformer.h.11.mlp.c_fc.bias": "h.11",
        "transformer.wte.weight": "wte",
        "model.norm.weight": "norm",
        f"{base}.layers.3.self_attn.q_proj.lora_A.default.weight": "layers.3",
        "base_model.model.lm_head.lora_B.default.weight": "lm_head",
        f"{base}.embed_tokens.lora_embedding_A.default": "embed_tokens",
        "base_model.model.lm_head.modules_to_save.default.weight": "lm_head",
    }
    assert {name: layer_of(name) for name in layers} == layers


def test_select_layers_by_pattern():
    names = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.{m}.weight" for i in (0, 1, 11) for m in "ab"), "lm_head.weight"]
    assert select_layers(names, "all") == tuple(names)
    assert select_layers(names, "layers.1") == tuple(names[3:5])
    assert select_layers(names, "lm_head, layers.1*") == tuple(names[3:])
    for wrong in ("layers.2", "lm_head, head", "", " , "):
        with pytest.raises(ValueError, match=r"there are embed_tokens, layers\.0, layers\.1, layers\.11, lm_head"):
            select_layers(names, wrong)


def test_selected_layers_have_the_same_numbers_as_among_all(setting):
    everything, _ = setting("sgdpo").probed()
    some, chosen = setting("sgdpo").probed(probe_layers="layers.1, norm")
    assert some == {layer: everything[layer] for layer in ("layers.1", "norm")}
    assert {layer_of(name) for name in chosen} == some.keys()


def test_an_unknown_layer_fails_the_run_during_preparation(rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **SHORT, probe_layers="layer.7")
    assert run.state == "failed"
    assert "no layer that is trained is called 'layer.7'; there are embed_tokens, layers.0, layers.1" in run.error
    assert run.step == 0
    with pytest.raises(ValueError, match="there are embed_tokens"):
        lab.preflight("dpo", rows, model_folder("llama"), probe_layers="layer.7", device="cpu")


def test_sharded_weights_are_not_split_with_a_warning(model_folder):
    policy, warnings = load_policy(str(model_folder("llama")), device="cpu"), []
    for budget in (0.05, 0):
        config = TrainConfig.parse(objective="dpo", probe_budget=budget)
        _check_probes(config, policy, Workers(0, 2, sharded=True), warnings.append)
        assert Probes(config, policy, Panel(), SilentWriter(), Workers(0, 2, sharded=True)).probe() is None
    _check_probes(TrainConfig.parse(objective="dpo"), policy, ALONE, warnings.append)
    assert len(warnings) == 1
    assert "FSDP" in warnings[0]


@pytest.mark.parametrize("lora", [None, Lora(rank=2)], ids=["full", "lora"])
def test_the_update_ratio_equals_adamws_first_step(lora, setting):
    """AdamW's first step, computed by hand: each weight moves by the learning rate, plus weight decay."""
    made = setting("dpo", lora=lora)
    named = made.policy.parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    store = RecordingWriter()
    probing = Probes(TrainConfig.parse(objective="dpo", batch_size=COUNT), made.policy, Panel(), store, ALONE)
    optimizer = torch.optim.AdamW(named.values(), lr=3e-3, weight_decay=0.1, eps=1e-30)
    accumulate(made.policy, made.objective, made.pairs, {}, generator(0, 1, 2), reference=made.reference, probe=probing.probe())
    probing.split()
    torch.nn.utils.clip_grad_norm_(named.values(), 1e-3)
    optimizer.step()
    probing.record(1)
    assert store.rows.keys() == {layer_of(name) for name in named}
    for layer, row in store.rows.items():
        weights = layer_gradient(before, layer)
        gradient = layer_gradient({name: p.grad for name, p in named.items()}, layer)
        moved = 3e-3 * gradient.sign() + 3e-4 * weights  # lr * (m̂/√v̂ = ±1), and weight decay
        assert row.update_ratio == pytest.approx(float(moved.norm() / weights.norm()), rel=1e-3)


seconds = st.floats(0.001, 10)


@given(st.floats(0.01, 1), st.lists(st.tuples(seconds, seconds), min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_the_budget_is_never_exceeded_by_more_than_one_probe(share, steps):
    """At any moment at most the share of the training time and one probe was spent."""
    budget, longest = ProbeBudget(share), 0.0
    for step, cost in steps:
        if budget.due():
            budget.spend(cost)
            longest = max(longest, cost)
        assert budget.spent <= share * budget.trained + longest + 1e-9
        budget.trained += step


@given(st.floats(0.01, 0.5), seconds, seconds, st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_the_budget_is_used_up_after_the_first_probe(share, step, cost, steps):
    """A run too short for one probe has one. A longer one uses its share up to two probes, unless one per step is less."""
    budget, probes = ProbeBudget(share), []
    for number in range(steps):
        if budget.due():
            budget.spend(cost)
            probes.append(number)
        budget.trained += step
    assert probes[0] == 0
    allowed = share * budget.trained
    assert budget.spent <= max(cost, allowed) + 1e-9
    if cost >= share * step:
        assert budget.spent >= allowed - 2 * cost - share * step - 1e-9


def test_no_probe_without_a_budget():
    budget = ProbeBudget(0)
    assert not budget.due()
    budget.trained = 100
    assert not budget.due()


def test_a_run_stays_within_its_probe_budget(rows, model_folder, monkeypatch):
    """With a clock that ticks whenever it is read: a probe takes three ticks, a step one and those of its probe, a panel one."""
    ticks = itertools.count()
    monkeypatch.setattr(Probes, "_now", lambda self: next(ticks))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(ticks), time=time.time, monotonic=time.monotonic))
    made = []
    original = Probes.__init__
    monkeypatch.setattr(Probes, "__init__", lambda self, *a, **k: (original(self, *a, **k), made.append(self))[0])
    spent = []

    def on_step(step, scalars):
        probes = made[0]
        for budget in (probes.gradients, probes.panel_budget):
            assert budget.spent <= budget.share * budget.trained + (budget.last or 0)
        spent.append((probes.gradients.spent, probes.panel_budget.spent, probes.gradients.trained))

    settings = SHORT | PANEL | {"steps": 60, "eval_tokens": 1, "probe_budget": 0.2}
    run = lab.train("dpo", rows, model_folder("llama"), on_step=on_step, **settings)
    assert run.state == "finished", run.error
    gradients, panel, trained = spent[-1]
    assert gradients + panel <= 0.2 * trained + 1e-9
    probed, measured = run.layers()["step"].unique(), run.panel()["step"].unique()
    assert probed[0] == 1
    assert len(probed) >= 2
    assert {0, 60} <= set(measured)
    assert len(measured) >= 4
    cost = run.scalars(["probe_cost"])["probe_cost"]
    assert cost.iloc[-1] == pytest.approx((gradients + panel) / trained)


@pytest.mark.parametrize(
    ("objective", "extra"),
    [
        ("sgdpo", {}),
        ("dpo", {"lora_rank": 2, "lora_dropout": 0.3}),
        ("sgdpo", {"micro_batch_size": 2, "lora_rank": 2, "lora_dropout": 0.3}),
    ],
    ids=["full", "lora", "micro"],
)
def test_probes_change_no_number_of_the_training(objective, extra, rows, model_folder):
    common = SHORT | PANEL | extra
    watched = lab.train(objective, rows, model_folder("llama"), **common, probe_budget=1, panel_every=1)
    alone = lab.train(objective, rows, model_folder("llama"), **common | {"probe_budget": 0, "panel_pairs": 0})
    assert watched.panel()["step"].unique().tolist() == [0, 1, 2, 3, 4]
    assert not watched.layers().empty
    assert alone.panel().empty
    assert alone.layers().empty
    assert_same(watched, alone)


def test_a_resumed_run_has_the_same_panel(rows, model_folder, tmp_path):
    common = SHORT | PANEL | {"save_every": 1, "keep_checkpoints": 9, "panel_every": 1}
    whole = lab.train("dpo", rows, model_folder("llama"), **common)
    part = resumed(interrupted(whole, 2, tmp_path / "part"))
    assert_same(part, whole)
    assert part.panel().equals(whole.panel())
    assert whole.panel()["pair"].nunique() == 3


def test_the_panel_equals_the_saved_models_own_log_probs(rows, model_folder):
    """Log-probs and greedy answers of the last step, compared with the saved model's own logits."""
    from transformers import AutoModelForCausalLM

    run = lab.train("dpo", rows, model_folder("gpt2"), **SHORT | PANEL | {"seed": 3})
    last = run.panel().query("step == 4").set_index("pair")
    assert len(last) == 3
    policy = load_policy(str(model_folder("gpt2")), device="cpu")
    encoder = policy.encoder(1024)
    model = AutoModelForCausalLM.from_pretrained(run.checkpoints()[-1]).eval()
    held_out = run.events("held_out")["detail"].iloc[0]["pairs"]
    pairs = run.pair_store()
    assert last.index.isin(held_out).all()

    def sum_of(prompt, answer):
        with torch.no_grad():
            logps = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        return float(logps.gather(1, torch.tensor(answer)[:, None]).sum()), logps.argmax(1).tolist()

    for id, row in last.iterrows():
        encoded = encode_pair(pairs.get(str(id)), encoder)
        for side in ("chosen", "rejected"):
            answer = getattr(encoded, side).answer
            assert row[side] == pytest.approx(sum_of(encoded.chosen.prompt, answer)[0], rel=1e-4)
            assert row[f"{side}_tokens"] == len(answer)
        ids = []
        while len(ids) < 5 and (not ids or ids[-1] not in encoder.ends):
            ids.append(sum_of(encoded.chosen.prompt, [*ids, 0])[1][-1])
        assert row["greedy"] == pytest.approx(sum_of(encoded.chosen.prompt, ids)[0], rel=1e-4)
        assert row["greedy_tokens"] == len(ids)
        assert row["answer"] == policy.tokenizer.decode(ids, skip_special_tokens=True)
        assert row["ended"] == (ids[-1] in encoder.ends)


@pytest.mark.parametrize(("setting", "why"), [("held_out", "holds no pairs out"), ("eval_prompts", "settings ask for no panel")])
def test_the_figure_of_a_run_without_a_panel_gives_the_reason(setting, why, rows, model_folder):
    run = lab.train("dpo", rows, model_folder("llama"), **SHORT | PANEL | {"steps": 1, setting: 0})
    assert run.panel().empty
    assert why in run.figure("panel").layout.annotations[0].text.replace("<br>", " ")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, True),
        ({"panel_pairs": 0}, False),
        ({"evaluate": False}, False),
        ({"eval_prompts": 0}, False),
        ({"eval_prompts": 0, "panel_every": 5}, True),
        ({"probe_budget": 0}, False),
        ({"probe_budget": 0, "panel_every": 0}, True),
    ],
)
def test_panel_enabled(settings, wanted):
    assert panel_enabled(TrainConfig.parse(objective="dpo", **settings)) == wanted


def test_probe_copies():
    def copies(objective="dpo", **how):
        return probe_copies(TrainConfig.parse(objective=objective, batch_size=8, **how))

    assert copies() == copies(micro_batch_size=8) == (1, 2)
    assert copies(micro_batch_size=4) == (2, 2)
    assert copies("spo") == (2, 3)
