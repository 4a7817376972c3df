"""Properties of every registered objective, including those added later."""

import ast
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lab.objectives
from lab.objectives import OBJECTIVES, PairLogps, make_objective
from tests.objectives.helpers import TOKEN_FIELDS, credit_of, label, pairs_of, random_pairs, start, variants

ALL = list(variants())
FIELDS = (*TOKEN_FIELDS, "chosen_mask", "rejected_mask")
every = pytest.mark.parametrize("objective", ALL, ids=[label(o) for o in ALL])
lengths = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3)
seeds = st.integers(0, 2**31)


def losses_of(objective, p, training=True, state=None, draws=None):
    found_state, found_draws = start(objective, p)
    outcome, _ = objective(p, found_state if state is None else state, found_draws if draws is None else draws, training=training)
    return outcome.losses


class Frozen:
    """Replays what `detach` returned in the first call, so that finite differences see stop-gradients as constants."""

    def __init__(self):
        self.values = []

    def call(self, function):
        recording, original, replay = not self.values, torch.Tensor.detach, iter(self.values)

        def detach(tensor):
            if not recording:
                return next(replay)
            self.values.append(original(tensor).clone())
            return self.values[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "detach", detach)
            return function()


@every
@pytest.mark.parametrize("seed", range(3))
def test_gradient_equals_central_differences(objective, seed):
    p = random_pairs(seed, objective=objective)
    state, draws = start(objective, p)
    inputs = [p.chosen.clone().requires_grad_(), p.rejected.clone().requires_grad_()]
    if p.degraded is not None:
        inputs.append(p.degraded.head_logits.clone().requires_grad_())
    frozen = Frozen()

    def losses(chosen, rejected, head=None):
        degraded = None if head is None else replace(p.degraded, head_logits=head)
        batch = replace(p, chosen=chosen, rejected=rejected, degraded=degraded)
        return frozen.call(lambda: objective.compute(batch, state, draws, training=True))[0].losses

    losses(*(x.data for x in inputs))
    assert torch.autograd.gradcheck(losses, inputs, eps=1e-6, atol=1e-7, rtol=1e-5)


@every
@settings(max_examples=6)
@given(lengths=lengths, seed=seeds)
def test_credit_is_minus_the_gradient_and_zero_on_padding(objective, lengths, seed):
    p = random_pairs(seed, lengths, objective=objective)
    credited = credit_of(objective, p)
    chosen, rejected = p.chosen.clone().requires_grad_(), p.rejected.clone().requires_grad_()
    losses_of(objective, replace(p, chosen=chosen, rejected=rejected)).sum().backward()
    assert torch.equal(credited.chosen, -chosen.grad)
    assert torch.equal(credited.rejected, -rejected.grad)
    assert not credited.chosen[~p.chosen_mask].any()
    assert not credited.rejected[~p.rejected_mask].any()
    for name, value in credited.outcome.terms.items():
        assert value.shape == (len(p),), name
        assert not value.requires_grad
        assert value.isfinite().all(), name


@every
@settings(max_examples=6)
@given(lengths=lengths, seed=seeds, extra=st.integers(1, 5), shift=st.integers(0, 3))
def test_padding_changes_nothing(objective, lengths, seed, extra, shift):
    """Whatever stands in the padding, NaN included, on either side of the completion, and whatever is drawn."""
    p = random_pairs(seed, lengths, objective=objective)
    padded = {}
    for name in FIELDS:
        value = getattr(p, name)
        if name.endswith("mask"):
            padded[name] = torch.nn.functional.pad(value, (shift, extra), value=False)
        else:
            side = p.chosen_mask if name.endswith("chosen") else p.rejected_mask
            padded[name] = torch.nn.functional.pad(value.masked_fill(~side, math.nan), (shift, extra), value=math.nan)
    wide = PairLogps(**padded, degraded=p.degraded)
    a, b = credit_of(objective, p), credit_of(objective, wide)
    torch.testing.assert_close(b.outcome.losses, a.outcome.losses, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b.chosen[wide.chosen_mask], a.chosen[p.chosen_mask], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b.rejected[wide.rejected_mask], a.rejected[p.rejected_mask], rtol=1e-12, atol=1e-12)
    assert not b.chosen[~wide.chosen_mask].any()
    assert not b.rejected[~wide.rejected_mask].any()


@every
@settings(max_examples=6)
@given(lengths=lengths, seed=seeds, extra=st.integers(1, 5))
def test_draws_from_masks_need_no_log_probs_and_no_padding(objective, lengths, seed, extra):
    if not objective.draws_before_log_probs():
        return
    p = random_pairs(seed, lengths, objective=objective)
    none = {f"{side}{end}": torch.nn.functional.pad(getattr(p, f"{side}{end}"), (0, extra)) for side in ("chosen", "rejected")
            for end in ("", "_mask")}  # fmt: skip
    masks = PairLogps(**{name: value if name.endswith("mask") else torch.zeros_like(value) for name, value in none.items()})
    drawn, early = (objective.draw(each, torch.Generator().manual_seed(seed)) for each in (p, masks))
    assert drawn.keys() == early.keys()
    for name, values in drawn.items():
        assert len(values) == len(p)
        assert torch.equal(torch.nn.functional.pad(values, (0, extra)), early[name])


@every
@settings(max_examples=6)
@given(seed=seeds)
def test_order_of_the_pairs_does_not_matter(objective, seed):
    p = random_pairs(seed, objective=objective)
    state, draws = start(objective, p)
    order = [2, 0, 1]
    shuffled = losses_of(objective, p.map(lambda x: x[order]), state=state, draws={k: v[order] for k, v in draws.items()})
    torch.testing.assert_close(shuffled, losses_of(objective, p, state=state, draws=draws)[order], rtol=1e-10, atol=1e-10)


@every
@pytest.mark.parametrize("training", [True, False])
def test_couples_says_whether_a_batch_may_be_cut(objective, training):
    differs = False
    for seed in range(5):
        p = random_pairs(seed, objective=objective)
        state, draws = start(objective, p)
        if not training:
            state = objective(p, state, draws, training=True)[1]
        whole = losses_of(objective, p, training, state, draws)
        alone = [
            losses_of(objective, p.map(lambda x, i=i: x[i : i + 1]), training, state, {k: v[i : i + 1] for k, v in draws.items()})
            for i in range(len(p))
        ]
        differs |= not torch.allclose(whole, torch.cat(alone), rtol=1e-9, atol=1e-9)
    assert objective.couples(training=training) == differs
    if training:
        assert objective.couples_pairs == differs


def extreme_pairs(dtype, objective, lengths):
    """Pairs with sequence log-ratios of -1000, 0 and 1000 in all combinations, policy log-probs never above 0."""
    pairs = []
    for x1 in (-1000.0, 0.0, 1000.0):
        for x2 in (-1000.0, 0.0, 1000.0):
            pair = {}
            for side, x, n in (("chosen", x1, lengths[0]), ("rejected", x2, lengths[1])):
                policy, ref = (-1e-6 + min(x, 0) / n, -1e-6 - max(x, 0) / n)
                pair |= {side: [policy] * n, f"ref_{side}": [ref] * n, f"align_{side}": [0.0] * n}
            pairs.append(pair)
    p = pairs_of(pairs, dtype)
    if objective.degraded_spec():
        p = replace(p, degraded=random_pairs(0, [(1, 1)] * 9, dtype=dtype, objective=objective).degraded)
    return p


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("lengths", [(1, 1), (1, 2000), (2000, 1), (7, 5)], ids=str)
def test_finite_over_a_thousand_nats(objective, dtype, lengths):
    p = extreme_pairs(dtype, objective, lengths)
    batches = [p, *(p.map(lambda x, i=i: x[i : i + 1]) for i in range(len(p)))]
    for batch in batches:
        credited = credit_of(objective, batch)
        assert credited.outcome.losses.isfinite().all()
        assert credited.chosen.isfinite().all()
        assert credited.rejected.isfinite().all()
        assert all(value.isfinite().all() for value in credited.outcome.terms.values())
        assert all(value.isfinite().all() for value in credited.state.values())


@every
def test_finite_at_probability_one(objective):
    zeros = {name: [0.0, 0.0] for name in TOKEN_FIELDS}
    p = pairs_of([zeros, zeros | {"chosen": [-1.0, 0.0]}, zeros | {"rejected": [-1.0, 0.0]}], torch.float32)
    if objective.degraded_spec():
        p = replace(p, degraded=random_pairs(0, dtype=torch.float32, objective=objective).degraded)
    credited = credit_of(objective, p)
    assert credited.outcome.losses.isfinite().all()
    assert credited.chosen.isfinite().all()
    assert credited.rejected.isfinite().all()


@every
@settings(max_examples=6)
@given(lengths=lengths, seed=seeds)
def test_known_value_at_the_first_step_in_any_layout(objective, lengths, seed):
    p = random_pairs(seed, lengths, spread=0.0, dtype=torch.float32, objective=objective)
    outcome = credit_of(objective, p).outcome
    assert outcome.losses.isfinite().all()
    expected = objective.first_step_loss()
    if expected is not None:
        torch.testing.assert_close(outcome.terms[objective.first_step_term], torch.full((len(p),), expected), rtol=1e-5, atol=1e-5)


AVERAGED = [o for o in ALL if o.length_normalized]


@pytest.mark.parametrize("objective", AVERAGED, ids=[label(o) for o in AVERAGED])
@settings(max_examples=6)
@given(lengths=lengths, seed=seeds)
def test_averaged_losses_do_not_see_a_doubled_answer(objective, lengths, seed):
    p = random_pairs(seed, lengths, objective=objective)
    doubled = {
        name: value.repeat_interleave(2, dim=1)
        for name, value in vars(p).items()
        if name in FIELDS and isinstance(value, torch.Tensor)
    }
    twice = losses_of(objective, PairLogps(**doubled, degraded=p.degraded))
    torch.testing.assert_close(twice, losses_of(objective, p), rtol=1e-10, atol=1e-10)


@every
def test_evaluation_leaves_the_state_alone(objective):
    p = random_pairs(0, objective=objective)
    state, draws = start(objective, p)
    _, state = objective(p, state, draws, training=True)
    before = {key: value.clone() for key, value in state.items()}
    _, after = objective(random_pairs(1, objective=objective), state, draws, training=False)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(torch.equal(state[key], before[key]) for key in before)


@every
def test_facts_survive_writing_and_reading(objective):
    again = make_objective(**json.loads(json.dumps(objective.spec())))
    assert again == objective
    assert again.spec() == objective.spec()
    assert objective.replace() == objective
    assert all((objective.name, objective.title, objective.source, objective.formula, type(objective).__doc__))
    assert "arXiv" in objective.source
    assert all(isinstance(sentence, str) for sentence in objective.warnings())


@every
def test_the_reference_is_asked_for_exactly_where_it_is_needed(objective):
    p = random_pairs(0, objective=objective)
    bare = replace(p, ref_chosen=None, ref_rejected=None)
    if objective.needs_reference:
        state, _ = start(objective, p)
        with pytest.raises(ValueError, match="ref_chosen"):
            objective(bare, state, {}, training=True)
    else:
        assert torch.equal(losses_of(objective, bare), losses_of(objective, p))


@every
@pytest.mark.parametrize("training", [True, False])
def test_nothing_waits_for_the_device(objective, training):
    """Meta tensors have no values, so whatever would fetch one from an accelerator (item, nonzero, bool) raises here."""
    p = random_pairs(0, objective=objective).map(lambda x: x.to("meta"))
    credited = credit_of(objective, p, training=training)
    assert credited.chosen.device.type == credited.outcome.losses.device.type == "meta"
    assert all(value.device.type == "meta" for value in credited.outcome.terms.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_explains_itself_and_is_checked(name):
    kind = OBJECTIVES[name]
    assert kind().warnings() == [], "defaults lie inside the published ranges"
    for key, info in kind.model_fields.items():
        assert info.description, key
        assert {"symbol", "unit", "recommended", "changeable"} <= set(info.json_schema_extra), key
    with pytest.raises(ValueError, match="no parameter 'temprature'"):
        make_objective(name, temprature=1.0)
    with pytest.raises(ValueError):
        kind(temprature=1.0)
    if "beta" in kind.model_fields:
        for wrong in (0.0, -1.0, math.nan, math.inf, "much"):
            with pytest.raises(ValueError):
                make_objective(name, beta=wrong)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_presets_are_valid_and_named_with_their_source(name):
    for title, preset in OBJECTIVES[name].presets.items():
        assert make_objective(name, **preset.parameters).spec().items() >= preset.parameters.items(), title
        assert preset.source


FOLDER = Path(lab.objectives.__path__[0])
MODULES = sorted(FOLDER.rglob("*.py"))


def test_every_module_imports_on_its_own():
    names = [
        ".".join(("lab", *path.relative_to(FOLDER.parent).with_suffix("").parts)) for path in MODULES if path.stem != "__init__"
    ]
    script = """import importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.startswith("lab.")]:
        del sys.modules[loaded]
    importlib.import_module(name)"""
    root = Path(lab.objectives.__path__[0]).parents[1]
    subprocess.run([sys.executable, "-c", script, *names], check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_the_mathematics_stands_on_torch_and_pydantic_alone(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "imports from a neighbouring package"
            own = node.level or node.module.startswith(("lab.objectives", "lab.errors", "lab.glossary", "lab.deferred"))
            imported |= set() if own else {node.module.partition(".")[0]}
    # torch and pydantic both depend on typing_extensions.
    assert imported - set(sys.stdlib_module_names) <= {"torch", "pydantic", "typing_extensions"}
