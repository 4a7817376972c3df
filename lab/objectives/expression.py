"""Expression language of the objectives' formulas: parsed once into a small tree, evaluated with tensors.

    (line,) = parse("loss = -log_sigmoid(beta * h)")

A formula has one line `name = expression` per quantity, and the last one defines `loss`. Expressions have numbers, names,
+ - * / **, parentheses and the functions of `FUNCTIONS`. `typeset` writes the same tree as text and as LaTeX.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.deferred import torch

from .batch_moments import moments

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Number:
    """A literal number."""

    value: float


@dataclass(frozen=True)
class Name:
    """A named value; `base.beta` is the parameter beta of a nested objective."""

    name: str


@dataclass(frozen=True)
class Negative:
    """The operand with its sign reversed."""

    operand: Node


@dataclass(frozen=True)
class Binary:
    """Two operands joined by one of + - * / **."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function of `FUNCTIONS` with its arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Negative | Binary | Call


@dataclass(frozen=True)
class Line:
    """One line of a formula: the name that it defines, and its expression."""

    name: str
    expression: Node


def _over(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0."""
    usable = b != 0
    return torch.where(usable, a / torch.where(usable, b, 1.0), 0.0)


def _log1mexp(a: Tensor) -> Tensor:
    """log(1 - exp(a)) of a log-prob; above -eps of its type, a counts as -eps (the odds of probability 1 are infinite)."""
    return (-torch.expm1(a.clamp(max=-torch.finfo(a.dtype).eps))).log()


def _matched(a: Tensor, b: Tensor) -> Tensor:
    """Entry of the sorted b [B] at the rank of each a [B]; ties keep the order of the batch."""
    return b.sort(stable=True).values[a.detach().argsort(stable=True).argsort()]


FUNCTIONS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "log": (1, lambda x: x.log()),
    "exp": (1, lambda x: x.exp()),
    "sigmoid": (1, lambda x: x.sigmoid()),
    "log_sigmoid": (1, lambda x: torch.nn.functional.logsigmoid(x)),
    "softplus": (1, lambda x: torch.nn.functional.softplus(x)),
    "log1mexp": (1, _log1mexp),
    "max": (2, lambda a, b: torch.maximum(a, b)),
    "min": (2, lambda a, b: torch.minimum(a, b)),
    "over": (2, _over),
    "sg": (1, lambda x: x.detach()),
    "mean": (1, lambda x: moments(x).mean),
    "std": (1, lambda x: moments(x).std),
    "matched": (2, _matched),
}
"""Number of arguments and computation of every function of the language.

log1mexp(a) is log(1 - exp(a)); over(a, b) is a/b, and 0 where b is 0; sg(x) is x without gradient; mean(x) and std(x) run over
the batch (std divides by B - 1, and is 0 for one pair); matched(a, b) is the entry of the sorted b at the rank of a.
"""

OVER_THE_BATCH = frozenset({"mean", "std", "matched"})
"""Functions whose value for a pair depends on the other pairs of the batch."""

_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
_COMPUTE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


def parse(source: str) -> tuple[Line, ...]:
    """Parse a formula into its lines.

    Raises:
        ValueError: The text is not in the language, defines a name twice, reads `loss` or a name that a later line defines, or
            does not end with `loss = ...`.
    """
    lines = tuple(_line(statement) for statement in _statements(source))
    if not lines or lines[-1].name != "loss":
        raise ValueError("The last line of a formula must be `loss = ...`; name the loss so.")
    names = [line.name for line in lines]
    for position, line in enumerate(lines):
        if line.name in names[:position]:
            raise ValueError(f"The formula defines {line.name} twice; use two names.")
        if early := names_in(line.expression) & set(names[position:]):
            raise ValueError(f"The formula reads {min(early)} before its line; move that line up.")
    return lines


def renamed(source: str, names: Mapping[str, str]) -> str:
    """Return the formula with other names, in the language; raises ValueError for a text that is not in it."""
    parse(source)
    return "\n".join(ast.unparse(_Renamer(names).visit(statement)) for statement in _statements(source))


def names_in(node: Node) -> set[str]:
    """Return the names that an expression reads."""
    return {part.name for part in _parts(node) if isinstance(part, Name)}


def evaluate(node: Node, lookup: Callable[[str], Tensor]) -> Tensor:
    """Compute an expression for all pairs of a batch at once.

    Args:
        node: The expression.
        lookup: Returns the value of a name, [B] or a scalar tensor.
    """
    match node:
        case Number(value):
            return torch.tensor(value, dtype=torch.float64)
        case Name(name):
            return lookup(name)
        case Negative(operand):
            return -evaluate(operand, lookup)
        case Binary(sign, left, right):
            return _COMPUTE[sign](evaluate(left, lookup), evaluate(right, lookup))
        case Call(function, arguments):
            return FUNCTIONS[function][1](*(evaluate(argument, lookup) for argument in arguments))


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(inspect.cleandoc(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError("The formula is not in the language of formulas; write lines such as `loss = beta * h`.") from error


def _line(statement: ast.stmt) -> Line:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return Line(name, _node(value))
    raise _refused(statement)


def _node(part: ast.expr) -> Node:
    match part:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and math.isfinite(value):
            return Number(float(value))
        case ast.Name(id=name):
            return Name(name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return Name(f"{owner}.{name}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Negative(_node(operand))
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return _binary(_OPERATORS[type(operator)], _node(left), _node(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if len(arguments) != FUNCTIONS[name][0]:
                raise ValueError(f"{name} in the formula has {len(arguments)} arguments; give {FUNCTIONS[name][0]}.")
            return Call(name, tuple(_node(argument) for argument in arguments))
    raise _refused(part)


def _binary(operator: str, left: Node, right: Node) -> Node:
    """Take the sign of a product out of it, so that -1/2 * x is the negative of 1/2 * x."""
    if operator in "*/" and isinstance(left, Negative):
        return Negative(Binary(operator, left.operand, right))
    return Binary(operator, left, right)


def _refused(part: ast.AST) -> ValueError:
    return ValueError(
        f"`{ast.unparse(part)}` is not in the language of formulas; use numbers, names, + - * / ** and {', '.join(FUNCTIONS)}."
    )


def _parts(node: Node) -> Iterator[Node]:
    yield node
    match node:
        case Negative(operand):
            yield from _parts(operand)
        case Binary(_, left, right):
            yield from _parts(left)
            yield from _parts(right)
        case Call(_, arguments):
            for argument in arguments:
                yield from _parts(argument)


class _Renamer(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.parse(self.names.get(node.id, node.id), mode="eval").body

    def visit_Call(self, node: ast.Call) -> ast.expr:
        node.args = [self.visit(argument) for argument in node.args]
        return node
