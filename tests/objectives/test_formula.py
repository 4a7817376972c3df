"""The formula of every objective is the loss that it computes, its gradient included, and is written as text and as LaTeX."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from lab.objectives import (
    OBJECTIVES,
    Objective,
    Outcome,
    formula_of,
    formula_text,
    make_objective,
    numbers_of,
    parameter,
    values_of,
)
from lab.objectives.expression import names_in, parse
from lab.objectives.formula import parameter_values
from lab.objectives.quantities import QUANTITIES
from lab.objectives.typeset import latex_symbol, number_latex
from tests.objectives.helpers import label, pairs_of, random_pairs, start, variants

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("dpo", {"label_smoothing": 0.1}),
    ("simpo", {"label_smoothing": 0.1}),
    ("simpo", {"gamma_beta_ratio": 0.0}),
    ("dpo", {"degree_margin": 1.5}),
    ("simpo", {"degree_margin": 0.3, "label_smoothing": 0.1}),
    ("alpha_dpo", {"degree_margin": 0.3, "normalize": "batch", "stop_gradient": False}),
    ("alpha_dpo", {"degree_margin": 0.3, "alpha": 0.0, "gamma_beta_ratio": 0.0}),
    ("spo", {"base": {"name": "simpo", "degree_margin": 0.3}}),
    ("sgdpo", {"label_smoothing": 0.1}),
    ("sgdpo", {"label_smoothing": 0.1, "detach_pilot": False}),
    ("robust", {"label_smoothing": 0.0}),
    ("bco_pair", {"delta": 0.3}),
    ("cpo", {"nll_weight": 0.0}),
    ("orpo", {"weight": 0.0}),
    ("ld_dpo", {"alpha": 0.0}),
    ("alpha_dpo", {"alpha": 0.0}),
    ("alpha_dpo", {"alpha": 0.0, "gamma_beta_ratio": 0.0}),
    ("alpha_dpo", {"gamma_beta_ratio": 0.0, "stop_gradient": False}),
    ("alpha_dpo", {"normalize": "batch", "stop_gradient": False}),
    ("alpha_dpo", {"normalize": "batch", "eps": 0.0}),
    ("alpha_dpo", {"normalize": "dataset", "stop_gradient": False, "reference": "policy"}),
    ("alpha_dpo", {"normalize": "none", "stop_gradient": False, "length_normalize": False}),
    ("alpha_dpo", {"ema_variant": "official", "stop_gradient": False, "ema_decay": 0.5}),
    ("alpha_dpo", {"eps": 0.1, "reference": "inverse_reference", "length_normalize": False}),
    ("spo", {"weight": 0.0}),
    *(("spo", {"base": {"name": name}, "weight": 0.3}) for name in OBJECTIVES if name not in ("spo", "dpo")),
    ("spo", {"base": {"name": "alpha_dpo", "normalize": "batch", "stop_gradient": False}}),
]
ALL = [*variants(), *(make_objective(name, **values) for name, values in SETTINGS)]
every = pytest.mark.parametrize("objective", ALL, ids=[label(o) for o in ALL])
lengths = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3)


def called(objective, p, state=None, training=True, draws=None):
    """Outcome and next state of a batch; by default from the initial state."""
    initial, drawn = start(objective, p)
    return objective(p, initial if state is None else state, draws or drawn, training=training)


def formula_loss(objective, p, outcome, state):
    return values_of(objective, p, outcome, state)["loss"]


def assert_formula_is_the_loss(objective, p, state, training):
    p = replace(p, chosen=p.chosen.clone().requires_grad_(), rejected=p.rejected.clone().requires_grad_())
    outcome, after = called(objective, p, state, training)
    loss = formula_loss(objective, p, outcome, after)
    torch.testing.assert_close(loss, outcome.losses, rtol=1e-9, atol=1e-12)
    inputs = (p.chosen, p.rejected)
    # Both losses are made from the cached sums of one batch, so their graphs share nodes.
    expected = torch.autograd.grad(outcome.losses.sum(), inputs, retain_graph=True, materialize_grads=True, allow_unused=True)
    gradient = torch.autograd.grad(loss.sum(), inputs, materialize_grads=True, allow_unused=True)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-10)
    return after


@every
@settings(max_examples=6)
@given(lengths=lengths, seed=st.integers(0, 2**31))
def test_the_formula_is_the_loss_and_has_its_gradient(objective, lengths, seed):
    """The gradient proves that each stop-gradient in the formula is one in the code, and that none is missing."""
    state = assert_formula_is_the_loss(objective, random_pairs(seed, lengths, objective=objective), None, True)
    assert_formula_is_the_loss(objective, random_pairs(seed + 1, lengths, objective=objective), state, False)
    assert_formula_is_the_loss(objective, random_pairs(seed + 2, lengths, objective=objective), None, False)


def balanced(latex: str) -> bool:
    """Whether braces and tall parentheses are paired; escaped characters do not count."""
    bare = re.sub(r"\\[^A-Za-z]", "", latex)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0 and bare.count(r"\left") == bare.count(r"\right")


@every
def test_every_pair_has_its_numbers_in_valid_latex(objective):
    formula = formula_of(objective)
    assert formula is not None
    assert balanced(formula.latex)
    assert formula.latex.isascii(), "every symbol has its LaTeX command"
    for spread in (0.5, 100.0):
        p = random_pairs(0, objective=objective, spread=spread, dtype=torch.float32)
        outcome, state = called(objective, p)
        for row in range(len(p)):
            numbers = numbers_of(objective, p, outcome, state, row)
            assert [line.name for line in numbers] == [line.name for line in formula.lines]
            assert all(balanced(line.latex) for line in numbers)
            assert numbers[-1].latex.endswith(number_latex(numbers[-1].value))


@every
def test_a_formula_reads_no_result_and_no_symbol_means_two_things(objective):
    formula = formula_of(objective)
    assert formula is not None
    p = random_pairs(0, objective=objective)
    outcome, state = called(objective, p)
    names = {name for line in formula.lines for name in names_in(line.expression)}
    known = {*(line.name for line in formula.lines), *parameter_values(objective), *QUANTITIES}
    assert names <= known | objective.formula_values(p, outcome, state).keys()
    used = names | {line.name for line in formula.lines}
    assert len({formula.symbol(name) for name in used}) == len(used)


TEXTS = {
    "dpo": "h = log X₁ − log X₂\nL = −log σ(β h)",
    "sgdpo": "z₁ = β (log X₁ − sg[log Y₂])\nz₂ = β (sg[log Y₁] − log X₂)\nL = −½ log σ(z₁) − ½ log σ(z₂)",
    "simpo": "L = −log σ(β (avg log π(y_w) − avg log π(y_l) − γ/β))",
    "alpha_dpo": "d = avg log π(y_w) − avg log π(y_l)\ngap = d − (avg log ref(y_w) − avg log ref(y_l))\n"
    "M* = (gap − mean)/std\nL = −log σ(β (d − sg[γ/β + α M*]))",
    "kto_pair": "K_w = sg[max(0, mean(log X₁))]\nK_l = sg[max(0, mean(log X₂))]\n"
    "z₁ = β (log X₁ − K_l)\nz₂ = β (K_w − log X₂)\nL = ½ σ(−z₁) + ½ σ(−z₂)",
    "robust": "h = log X₁ − log X₂\nx = β h\nL = (−(1 − ε) log σ(x) + ε log σ(−x))/(1 − 2ε)",
    "cal_dpo": "h = log X₁ − log X₂\nL = −log σ(h) + (log X₁ − 1/(2β))² + (log X₂ + 1/(2β))²",
    "spo": "h = log X₁ − log X₂\nL_align = −log σ(β h)\nL = L_align + λ_PD L_PD",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(name):
    assert formula_text(make_objective(name)) == TEXTS[name]
    for line in TEXTS[name].splitlines():
        assert f"\n    {line}\n" in (OBJECTIVES[name].__doc__ or "")


def test_latex():
    (dpo, ipo, sgdpo) = (formula_of(make_objective(name)) for name in ("dpo", "ipo", "sgdpo"))
    assert dpo is not None
    assert ipo is not None
    assert sgdpo is not None
    assert dpo.latex == r"\begin{aligned} h &= \log X_{1} - \log X_{2} \\ L &= -\log \sigma(\beta h) \end{aligned}"
    assert ipo.latex == r"L = \left(\frac{\log X_{1}}{n_{w}} - \frac{\log X_{2}}{n_{l}} - \frac{1}{2 \beta}\right)^{2}"
    assert sgdpo.latex_lines[0] == r"z_{1} = \beta\,(\log X_{1} - \mathrm{sg}[\log Y_{2}])"


PAIR = {"chosen": [-1.0, -1.5], "ref_chosen": [-2.0, -2.81], "rejected": [-3.2], "ref_rejected": [-2.0]}


def test_numbers_of_dpo_and_sgdpo():
    p = pairs_of([PAIR])
    dpo, sgdpo = make_objective("dpo"), make_objective("sgdpo")
    lines = numbers_of(dpo, p, *called(dpo, p), row=0)
    assert [line.latex for line in lines] == ["h = 2.31 - (-1.20) = 3.51", r"L = -\log \sigma(0.1 \cdot 3.51) = 0.533"]
    pilots = {"pilot_chosen": torch.tensor([[True, False]]), "pilot_rejected": torch.tensor([[True]])}
    lines = numbers_of(sgdpo, p, *called(sgdpo, p, draws=pilots), row=0)
    assert [line.latex for line in lines] == [
        r"z_{1} = 0.1\,(2.31 - (-1.20)) = 0.351",
        r"z_{2} = 0.1\,(1.00 - (-1.20)) = 0.220",
        r"L = -\tfrac{1}{2} \log \sigma(0.351) - \tfrac{1}{2} \log \sigma(0.220) = 0.561",
    ]
    assert [line.value for line in lines] == pytest.approx([0.351, 0.22, 0.5611], abs=1e-4)


@pytest.mark.parametrize("normalize", ["ema", "batch", "dataset"])
def test_a_margin_without_a_spread_is_shown_as_zero(normalize):
    p = random_pairs(0, [(2, 2)])
    objective = make_objective("alpha_dpo", normalize=normalize)
    lines = numbers_of(objective, p, *called(objective, p), row=0)
    assert [line.latex for line in lines if line.name == "z"] == ["M^{*} = 0"]


@pytest.mark.parametrize(
    ("value", "latex"),
    [
        (0.0, "0"),
        (-1.2, "-1.20"),
        (123.4, "123"),
        (999.7, "1000"),
        (-12345.6, "-12346"),
        (1.234e6, r"1.23 \times 10^{6}"),
        (1.5e-7, r"1.50 \times 10^{-7}"),
        (float("nan"), r"\mathrm{NaN}"),
        (float("-inf"), r"-\infty"),
    ],
)
def test_numbers_have_three_digits(value, latex):
    assert number_latex(value) == latex
    assert number_latex(1e-8, exact=True) == "10^{-8}"
    assert number_latex(0.125, exact=True) == "0.125"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "h = log_x1",
        "L = exp(−a h)",
        "loss = (",
        "loss: float = h",
        "loss = loss",
        "h = h\nloss = h",
        "h = 1\nh = 2\nloss = h",
        "a = b\nb = h\nloss = a",
        "loss = __import__('os').getcwd()",
        "loss = h if h else 0",
        "loss = [h]",
        "loss = h.x.y",
        "loss = f(h)",
        "loss = log(h, h)",
        "loss = log(h, base=2)",
        "loss = True",
        "loss = 'h'",
        "loss = 1e999",
        "loss = h @ h",
        "loss = 1j",
        "loss = +h",
        "loss = (lambda: h)()",
        "import os",
        "a, loss = h",
        "loss = a = h",
        "loss = \0",
        "loss = " + "(" * 500,
    ],
)
def test_what_is_not_in_the_language_is_refused_in_one_sentence(source):
    with pytest.raises(ValueError, match="formula") as refusal:
        parse(source)
    assert "\n" not in str(refusal.value)


@given(st.text(max_size=20) | st.text("abγ₁₂_*²′'|\\{}$&#%^~ ", max_size=20))
def test_any_symbol_gives_valid_latex(symbol):
    latex = latex_symbol(symbol)
    assert balanced(latex)
    assert "$" not in re.sub(r"\\\$", "", latex)
    assert not re.search(r"_\{[^{}]*\}_|\^\{[^{}]*\}\^", latex), "two scripts at one base"
    assert not re.search(r"\\(partial|alpha|beta|gamma|le|vert)[A-Za-z@]", latex), "a command that runs into the next letter"


class Own(Objective):
    """Objective of a user's own."""

    name: ClassVar[str] = "own"
    formula: ClassVar[str] = "logit = beta * h - margin\nloss = -log_sigmoid(logit)"
    beta: float = parameter(0.1, "Scale.", symbol="β", gt=0)
    margin: float = parameter(0.5, "Target margin.", ge=0)

    def compute(self, p, state, draws, *, training):
        logit = self.beta * p.h - self.margin
        return Outcome(-logsigmoid(logit), {"logit": logit}), state


class AsText(Own):
    formula: ClassVar[str] = "L = −log σ(β h − margin)"


class Wrong(Own):
    formula: ClassVar[str] = "loss = -log_sigmoid(beta * h)"


class Unknown(Own):
    formula: ClassVar[str] = "loss = -log_sigmoid(beta * h - target)"


def test_a_users_objective_declares_one_in_the_same_way():
    p = random_pairs(0)
    assert formula_text(Own()) == "z = β h − margin\nL = −log σ(z)"
    assert [line.name for line in numbers_of(Own(), p, *called(Own(), p), row=1)] == ["logit", "loss"]


def test_text_outside_the_language_is_shown_as_it_is_without_numbers():
    p = random_pairs(0)
    assert formula_of(AsText()) is None
    assert formula_text(AsText()) == AsText.formula
    assert numbers_of(AsText(), p, *called(AsText(), p), row=0) == []
    objective = make_objective("spo", base=AsText())
    p = random_pairs(0, objective=objective)
    assert formula_text(objective) == "L = L_align + λ_PD L_PD"
    (line,) = numbers_of(objective, p, *called(objective, p), row=0)
    assert line.value == pytest.approx(float(called(objective, p)[0].losses[0]))


@pytest.mark.parametrize(("objective", "sentence"), [(Wrong(), "but its loss is"), (Unknown(), "reads target")])
def test_a_formula_that_is_not_the_loss_is_refused(objective, sentence):
    p = random_pairs(0)
    with pytest.raises(ValueError, match=sentence):
        numbers_of(objective, p, *called(objective, p), row=0)
