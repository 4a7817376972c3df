"""Colours of a quantity over the plane of log X1 and log X2: the range they span, the numbers on their bar, their palette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lab.plots.style import Palette

DECADES = 4.0
"""The colours of a ratio end at 1/10,000 and 10,000."""

HALVED = 0.30103
"""log10 of 2."""


@dataclass(frozen=True)
class ColourRange:
    """Values at both ends of the colours of a quantity; of a ratio their log10.

    Attributes:
        low: Value at the first colour.
        high: Value at the last colour.
        ticks: Values that are written on the colour bar.
        texts: The numbers written there.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    texts: tuple[str, ...]


def is_logarithmic(quantity: str) -> bool:
    """Return whether the colours of a quantity follow its log10, as those of ratios do."""
    return quantity.endswith("ratio")


def decades(ratio: np.ndarray) -> np.ndarray:
    """Return log10 of a ratio, clipped to the range of the colours and rounded; NaN where it is undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.round(np.log10(ratio), 9), -DECADES, DECADES) + 0.0


def largest(values: np.ndarray) -> float:
    """Return the largest finite absolute value; 0 if there is none."""
    return float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))


def colour_range(values: np.ndarray, attainable: np.ndarray, quantity: str) -> ColourRange:
    """Return the range of the colours of a quantity: centred at 1 for ratios, at 0 for derivatives, all values for the loss.

    Args:
        values: The quantity over the grid, [N, M]. Values that are not finite do not count.
        attainable: Points that count, bool [N, M].
        quantity: A key of `lab.glossary.FIELD_QUANTITIES`.
    """
    shown = decades(values) if is_logarithmic(quantity) else values
    finite = shown[np.isfinite(shown) & attainable]
    if quantity == "loss":
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        return _linear(low, high if high > low else low + 1.0)
    bound = largest(finite)
    if not is_logarithmic(quantity):
        return _linear(-(bound or 1.0), bound or 1.0)
    bound = min(max(bound, HALVED), DECADES)
    small = (-HALVED, 0.0, HALVED) if bound < 1 else ()
    ticks = sorted({*small, *(float(t) for t in np.arange(-DECADES, DECADES + 1) if abs(t) <= bound)})
    return ColourRange(-bound, bound, tuple(ticks), tuple(f"{10**t:,.0f}" if t >= 0 else f"{10**t:.4g}" for t in ticks))


def colour_stops(quantity: str, c: Palette) -> tuple[str, ...]:
    """Return evenly spaced colours "#rrggbb" from the lowest to the highest value.

    Blue means in favour of the chosen side or pushed up, orange in favour of the rejected side or pushed down.
    """
    if quantity == "loss":
        return (c.empty, _mixed(c.empty, c.neutral[1], 0.75))
    return (c.rejected, c.empty, c.chosen) if is_logarithmic(quantity) else (c.chosen, c.empty, c.rejected)


def _linear(low: float, high: float) -> ColourRange:
    """Return a range with four to eight round numbers on its bar."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(np.log(factor * power / rough)))
    ticks = [float(k * step) for k in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]
    return ColourRange(low, high, tuple(ticks), tuple(f"{tick:.6g}" for tick in ticks))


def _mixed(one: str, other: str, share: float) -> str:
    """Return the colour between two colours "#rrggbb"; share 1 gives the second."""
    pairs = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
