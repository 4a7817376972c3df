"""Formula of an objective: typeset, and with the numbers of one pair put in, from one declaration.

    print(formula_of(objective).text)
    outcome, state = objective(logps, state, draws, training=False)
    print([line.latex for line in numbers_of(objective, logps, outcome, state, row=0)])

Values are evaluated with the tensors of the batch, so a formula that does not describe `compute` is recognised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.deferred import torch

from .base import Objective, Outcome, PairLogps, State
from .expression import Node, evaluate
from .quantities import QUANTITIES
from .typeset import Formula, NumberWriter, latex_symbol, number_latex, readable

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["Formula", "NumberedLine", "formula_of", "formula_text", "numbers_of", "values_of"]


@dataclass(frozen=True)
class NumberedLine:
    """One line of a formula with the numbers of one pair.

    name:  The name that the line defines; the last line's is `loss`.
    latex: For example h = 2.31 - (-1.20) = 3.51.
    value: Value of the line.
    """

    name: str
    latex: str
    value: float


def formula_of(objective: Objective) -> Formula | None:
    """Return the formula of an objective with its parameters, or None where it declares none in the language of formulas."""
    try:
        return Formula.parse(objective.formula, objective.symbols())
    except ValueError:
        return None


def formula_text(objective: Objective) -> str:
    """Return the formula of an objective as text; a declaration outside the language is returned as it is, "" if there is none."""
    return readable(objective.formula, objective.symbols())


def values_of(objective: Objective, logps: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
    """Evaluate every line of an objective's formula for a batch.

    Args:
        objective: An objective with a formula in the language.
        logps: Token log-probs of the batch.
        outcome: As returned by the objective for this batch.
        state: The next state, as returned by that call.

    Returns:
        The value of each line, [B], with gradient to the log-probs; the last one is the loss.

    Raises:
        ValueError: The objective has no formula in the language, or the formula reads a name without a value.
    """
    return _Values(objective, logps, outcome, state).lines


def numbers_of(objective: Objective, logps: PairLogps, outcome: Outcome, state: State, row: int) -> list[NumberedLine]:
    """Put the numbers of one pair into the formula of an objective, line by line.

    Args:
        objective: Any objective.
        logps: Token log-probs of the batch.
        outcome: As returned by the objective for this batch.
        state: The next state, as returned by that call.
        row: The pair's row in the batch.

    Returns:
        One entry per line; an empty list where the objective declares no formula in the language.

    Raises:
        ValueError: The formula reads a name without a value, or gives another loss than the objective computed.
    """
    formula = formula_of(objective)
    if formula is None:
        return []
    values = _Values(objective, logps, outcome, state)
    loss, computed = float(values.lines["loss"][row]), float(outcome.losses[row])
    if not math.isclose(loss, computed, rel_tol=1e-3, abs_tol=1e-5):
        raise ValueError(
            f"The formula of {objective.name} gives {loss:.6g} for row {row} of the batch, but its loss is {computed:.6g}; "
            "correct the formula or compute()."
        )
    writer = NumberWriter(lambda node: values.number(node, row), values.exact)
    numbered = []
    for line in formula.lines:
        value = float(values.lines[line.name][row])
        sides = [latex_symbol(formula.symbol(line.name)), writer.write(line.expression), number_latex(value)]
        numbered.append(NumberedLine(line.name, " = ".join(sides[:2] if sides[1] == sides[2] else sides), value))
    return numbered


class _Values:
    """Values of the names in a formula for one batch; `lines` has those of its own lines, each [B]."""

    def __init__(self, objective: Objective, logps: PairLogps, outcome: Outcome, state: State) -> None:
        formula = formula_of(objective)
        if formula is None:
            raise ValueError(f"{objective.name} declares no formula in the language of formulas; see `lab.objectives.expression`.")
        self.objective, self.logps, self.outcome = objective, logps, outcome
        self.supplied = objective.formula_values(logps, outcome, state)
        self.parameters = parameter_values(objective)
        self.exact = frozenset(self.parameters) | {name for name, quantity in QUANTITIES.items() if quantity.exact}
        self.lines: dict[str, Tensor] = {}
        for line in formula.lines:
            self.lines[line.name] = evaluate(line.expression, self.lookup).expand(len(logps))

    def lookup(self, name: str) -> Tensor:
        """Return the value of a name: of an earlier line, else supplied, a parameter, a quantity of the batch, or a term."""
        if name in self.lines:
            return self.lines[name]
        if name in self.supplied:
            return self.supplied[name]
        if name in self.parameters:
            return torch.tensor(self.parameters[name], dtype=torch.float64)
        if name in QUANTITIES:
            return QUANTITIES[name].of(self.logps)
        if name in self.outcome.terms:
            return self.outcome.terms[name]
        raise ValueError(
            f"The formula of {self.objective.name} reads {name}, which has no value; use a parameter, an earlier line, a quantity "
            "of the batch or a term of the outcome."
        )

    def number(self, node: Node, row: int) -> float:
        """Return the value of an expression for one pair."""
        return float(evaluate(node, self.lookup).expand(len(self.logps))[row])


def parameter_values(objective: Objective) -> dict[str, float]:
    """Return the numeric parameters of an objective by name, those of a nested one as in `base.beta`."""
    values: dict[str, float] = {}
    for key in type(objective).model_fields:
        value = getattr(objective, key)
        if isinstance(value, Objective):
            values |= {f"{key}.{inner}": number for inner, number in parameter_values(value).items()}
        elif isinstance(value, (int, float)):
            values[key] = float(value)
    return values
