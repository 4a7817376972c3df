"""Text and LaTeX of a formula, symbolic or with the numbers of one pair put in, written from one tree."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.glossary import GLOSSARY, PAIR_TERMS

from .expression import OVER_THE_BATCH, Binary, Call, Line, Name, Negative, Node, Number, parse
from .quantities import QUANTITIES

SUM, QUOTIENT, PRODUCT, POWER, ATOM = range(5)
"""Order of binding of a piece of a formula; a looser piece gets parentheses."""

_HALF = Binary("/", Number(1), Number(2))
_HEADS = {
    "log": ("log", r"\log"),
    "exp": ("exp", r"\exp"),
    "sigmoid": ("σ", r"\sigma"),
    "log_sigmoid": ("log σ", r"\log \sigma"),
    "softplus": ("softplus", r"\mathrm{softplus}"),
    "max": ("max", r"\max"),
    "min": ("min", r"\min"),
    "mean": ("mean", r"\mathrm{mean}"),
    "std": ("std", r"\mathrm{std}"),
}
"""Head of a function in text and in LaTeX."""


@dataclass(frozen=True)
class Formula:
    """Formula of an objective's loss, parsed.

    lines:   One per quantity; the last one is the loss.
    symbols: Symbol of each parameter and of each further name that the objective declares.
    """

    lines: tuple[Line, ...]
    symbols: Mapping[str, str]

    @classmethod
    def parse(cls, source: str, symbols: Mapping[str, str]) -> Formula:
        """Parse `source`; raises ValueError for a text that is not in the language (see `expression`)."""
        return cls(parse(source), symbols)

    @property
    def text(self) -> str:
        """The formula as Unicode text, one line per quantity."""
        writer = Writer(self.symbol)
        return "\n".join(f"{self.symbol(line.name)} = {writer.write(line.expression)}" for line in self.lines)

    @property
    def latex_lines(self) -> tuple[str, ...]:
        """LaTeX of each line."""
        return tuple(" ".join(sides) for sides in self._latex_sides())

    @property
    def latex(self) -> str:
        """LaTeX of the whole formula, its lines aligned at the equals signs."""
        if len(self.lines) == 1:
            return self.latex_lines[0]
        rows = r" \\ ".join(f"{left} &{right}" for left, right in self._latex_sides())
        return rf"\begin{{aligned}} {rows} \end{{aligned}}"

    def symbol(self, name: str) -> str:
        """Return the Unicode symbol of a name: as declared, else that of the quantity or the recorded term, else the name."""
        if name in self.symbols:
            return self.symbols[name]
        if name in QUANTITIES:
            return QUANTITIES[name].symbol
        return GLOSSARY[name].symbol if name in PAIR_TERMS else name

    def _latex_sides(self) -> list[tuple[str, str]]:
        writer = LatexWriter(self.symbol)
        return [(latex_symbol(self.symbol(line.name)), f"= {writer.write(line.expression)}") for line in self.lines]


def readable(source: str, symbols: Mapping[str, str]) -> str:
    """Return the text of a formula, or `source` itself where it is not in the language."""
    try:
        return Formula.parse(source, symbols).text
    except ValueError:
        return source


class Writer:
    """Writes an expression as Unicode text.

    Args:
        symbol: Returns the symbol of a name.
    """

    minus = "−"
    latex = False

    def __init__(self, symbol: Callable[[str], str]) -> None:
        self.symbol = symbol

    def write(self, node: Node, at_least: int = SUM) -> str:
        """Write an expression, in parentheses if it binds more loosely than `at_least`."""
        text, level = self.piece(node)
        return text if level >= at_least else self.enclosed(text)

    def piece(self, node: Node) -> tuple[str, int]:
        """Write an expression without parentheses around it; return it with how tightly it binds."""
        if node == _HALF:
            return self.half()
        match node:
            case Number(value):
                return f"{value:g}", ATOM
            case Name(name):
                return self.name(name)
            case Negative(operand):
                return f"{self.minus}{self.write(operand, QUOTIENT)}", SUM
            case Binary("+" | "-" as operator, left, right):
                sign = "+" if operator == "+" else self.minus
                return f"{self.write(left)} {sign} {self.write(right, QUOTIENT)}", SUM
            case Binary("*", left, right):
                return self.product(left, right), PRODUCT
            case Binary("/", left, right) | Call("over", (left, right)):
                return self.quotient(left, right)
            case Binary(_, left, right):
                return self.power(left, right), POWER
            case Call(function, arguments):
                return self.call(function, arguments)
        raise TypeError(f"{node!r} is no expression.")

    def half(self) -> tuple[str, int]:
        """Write one half."""
        return "½", ATOM

    def name(self, name: str) -> tuple[str, int]:
        """Write the symbol of a name."""
        symbol = self.symbol(name)
        return symbol, binding(symbol)

    def product(self, left: Node, right: Node) -> str:
        """Write a product by juxtaposition."""
        tight = isinstance(left, Number) and isinstance(right, Name) and " " not in self.symbol(right.name)
        return f"{self.write(left, PRODUCT)}{'' if tight else ' '}{self.write(right, PRODUCT)}"

    def quotient(self, left: Node, right: Node) -> tuple[str, int]:
        """Write a quotient."""
        return f"{self.write(left, PRODUCT)}/{self.write(right, POWER)}", QUOTIENT

    def power(self, base: Node, exponent: Node) -> str:
        """Write a power."""
        if exponent in (Number(2), Number(3)):
            return self.write(base, ATOM) + ("²" if exponent == Number(2) else "³")
        return f"{self.write(base, ATOM)}^{self.write(exponent, ATOM)}"

    def call(self, function: str, arguments: tuple[Node, ...]) -> tuple[str, int]:
        """Write a function of its arguments."""
        inner = [self.write(argument) for argument in arguments]
        if function == "sg":
            return f"sg[{inner[0]}]", ATOM
        if function == "log1mexp":
            return f"log(1 {self.minus} exp({inner[0]}))", PRODUCT
        if function == "matched":
            return f"sorted({inner[1]})[rank({inner[0]})]", ATOM
        return f"{_HEADS[function][0]}({', '.join(inner)})", PRODUCT

    def enclosed(self, text: str) -> str:
        """Put parentheses around a piece."""
        return f"({text})"


class LatexWriter(Writer):
    """Writes an expression as LaTeX that KaTeX understands."""

    minus = "-"

    def half(self) -> tuple[str, int]:
        """Write one half as a small fraction."""
        return r"\tfrac{1}{2}", POWER

    def name(self, name: str) -> tuple[str, int]:
        """Write the symbol of a name as LaTeX."""
        symbol = self.symbol(name)
        return latex_symbol(symbol), binding(symbol)

    def product(self, left: Node, right: Node) -> str:
        """Write a product: a dot between two numbers, a thin space before a parenthesis, else juxtaposition."""
        one, other = self.write(left, PRODUCT), self.write(right, PRODUCT)
        if other[0].isdigit():
            return rf"{one} \cdot {other}"
        return rf"{one}\,{other}" if other.startswith(("(", r"\left", r"\mathrm")) else f"{one} {other}"

    def quotient(self, left: Node, right: Node) -> tuple[str, int]:
        """Write a quotient as a fraction."""
        return rf"\frac{{{self.write(left)}}}{{{self.write(right)}}}", POWER

    def power(self, base: Node, exponent: Node) -> str:
        """Write a power."""
        return f"{self.write(base, ATOM)}^{{{self.write(exponent)}}}"

    def call(self, function: str, arguments: tuple[Node, ...]) -> tuple[str, int]:
        """Write a function of its arguments."""
        inner = [self.write(argument) for argument in arguments]
        if function == "sg":
            return self.applied(r"\mathrm{sg}", self.enclosed(inner[0], "[", "]")), ATOM
        if function == "log1mexp":
            exponential = self.applied(r"\exp", self.enclosed(inner[0]))
            return self.applied(r"\log", self.enclosed(f"1 - {exponential}")), PRODUCT
        if function == "matched":
            return rf"\mathrm{{sorted}}{self.enclosed(inner[1])}_{{\mathrm{{rank}}{self.enclosed(inner[0])}}}", ATOM
        return self.applied(_HEADS[function][1], self.enclosed(", ".join(inner))), PRODUCT

    def applied(self, head: str, argument: str) -> str:
        """Put a function's name before its argument, without the space that LaTeX puts before tall parentheses."""
        return head + (r"\!" if argument.startswith(r"\left") else "") + argument

    def enclosed(self, text: str, opening: str = "(", closing: str = ")") -> str:
        """Put parentheses around a piece, as tall as it is."""
        if r"\frac" in text:
            return rf"\left{opening}{text}\right{closing}"
        return f"{opening}{text}{closing}"


class NumberWriter(LatexWriter):
    """Writes an expression as LaTeX with the numbers of one pair in place of the names.

    Args:
        value: Returns the number that an expression has for this pair.
        exact: Names whose numbers are shown with all their digits: parameters and counts.
    """

    def __init__(self, value: Callable[[Node], float], exact: frozenset[str]) -> None:
        super().__init__(str)
        self.value = value
        self.exact = exact

    def name(self, name: str) -> tuple[str, int]:
        """Write the number that a name stands for."""
        return _piece(number_latex(self.value(Name(name)), exact=name in self.exact))

    def call(self, function: str, arguments: tuple[Node, ...]) -> tuple[str, int]:
        """Write a function of numbers; of a function over the batch, and of a quotient that counts as 0, the value."""
        node = Call(function, arguments)
        if function in OVER_THE_BATCH:
            return _piece(number_latex(self.value(node)))
        return self.piece(arguments[0]) if function == "sg" else super().call(function, arguments)

    def piece(self, node: Node) -> tuple[str, int]:
        """Write an expression without parentheses around it; return it with how tightly it binds."""
        if isinstance(node, Call) and node.function == "over" and self.value(node.arguments[1]) == 0:
            return "0", ATOM
        return super().piece(node)


def number_latex(value: float, *, exact: bool = False) -> str:
    """Return a number as LaTeX with 3 significant digits (with up to 6, and no more than it has, where `exact`)."""
    if math.isnan(value):
        return r"\mathrm{NaN}"
    if math.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    if value == 0:
        return "0"
    rounded = f"{value:.0f}" if 999.5 <= abs(value) < 99999.5 else f"{value:#.3g}".rstrip(".")
    digits = f"{value:.6g}" if exact else rounded
    mantissa, _, exponent = digits.partition("e")
    if not exponent:
        return digits
    factor = {"1": "", "-1": "-"}.get(mantissa, rf"{mantissa} \times ")
    return f"{factor}10^{{{int(exponent)}}}"


def _piece(number: str) -> tuple[str, int]:
    return number, SUM if number.startswith("-") else PRODUCT if "^" in number else ATOM


def binding(symbol: str) -> int:
    """Return how tightly a Unicode symbol binds: "γ/β" as a quotient, "log X₁" as a product, "γ + α M*" as a sum."""
    bare = symbol
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]", "", bare)) != bare:
        bare = shorter
    if re.search(r"^[−-]|\s[+−-]\s", bare):
        return SUM
    return QUOTIENT if "/" in bare else PRODUCT if " " in bare.strip() else ATOM


_LETTERS = dict(
    zip(
        "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ",
        re.findall(
            r"\w+",
            "alpha beta gamma delta varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau varphi chi psi omega "
            "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega",
        ),
        strict=True,
    )
)
_SIGNS = {
    "−": "-",
    "½": r"\tfrac{1}{2}",
    "′": "'",
    "∂": r"\partial",
    "≤": r"\le",
    "≥": r"\ge",
    "·": r"\cdot",
    "‖": r"\Vert",
    "|": r"\vert",
    "\\": r"\backslash",
    "~": r"\sim",
    "^": r"\wedge",
    **{sign: f"\\{sign}" for sign in "{}$&#%"},
}
_OPERATORS = ("log", "exp", "max", "min")
_PIECES = re.compile(r"[A-Za-z]{2,}|(?:_[A-Za-z0-9_]+|[₀-₉])+|[*²³]+|\s+|.", re.S)
_DIGITS = str.maketrans("₀₁₂₃₄₅₆₇₈₉²³", "012345678923")


def latex_symbol(symbol: str) -> str:
    r"""Return a Unicode symbol of the glossary or of a parameter as LaTeX: "log X₁" as \log X_{1}. Any text gives valid LaTeX."""
    latex = ""
    scripts: set[str] = set()
    for piece in _PIECES.findall(symbol):
        written = _latex_piece(piece)
        if script := {"_": "below", "^": "above", "'": "above"}.get(written[:1]):
            if script in scripts:  # a second script of one base is an error in LaTeX
                latex, scripts = latex + "{}", set()
            scripts.add(script)
        elif written.strip():
            scripts = set()
        ends_a_command = re.search(r"\\[A-Za-z]+$", latex) and re.match(r"[A-Za-z@]", written)
        latex += (" " if ends_a_command else "") + written
    return latex.strip()


def _latex_piece(piece: str) -> str:
    if piece in _OPERATORS:
        return f"\\{piece}"
    if piece.isascii() and piece.isalpha():
        return piece if len(piece) == 1 else rf"\mathrm{{{piece}}}"
    if piece[0] in "_₀₁₂₃₄₅₆₇₈₉":
        inner = piece.translate(_DIGITS).removeprefix("_")
        return (
            f"_{{{inner}}}"
            if inner.isdigit() or (inner.isalpha() and len(inner) == 1)
            else rf"_{{\mathrm{{{inner.replace('_', chr(92) + '_')}}}}}"
        )
    if piece[0] in "*²³":
        return f"^{{{piece.translate(_DIGITS)}}}"
    if piece in _LETTERS:
        return f"\\{_LETTERS[piece]}"
    if piece.isspace():
        return " "
    if piece in _SIGNS:
        return _SIGNS[piece]
    return piece if piece.isascii() and piece.isprintable() else rf"\text{{{piece}}}" if piece.isprintable() else ""
