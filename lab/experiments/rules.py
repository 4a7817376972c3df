"""The rule by which an experiment's variants are compared, checked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lab.errors import did_you_mean
from lab.glossary import GLOSSARY, HELD_OUT
from lab.objectives import has_own_objectives
from lab.run.config import ConfigError

from .metrics import METRICS
from .plan import find_variant, listed


def check_comparison(compare: Mapping[str, Any], known: Sequence[str]) -> None:
    """Check the comparisons of a declaration before anything is trained: where, against which variant, in which measures.

    Args:
        compare: See `Declaration`.
        known: Labels of the variants.

    Raises:
        ConfigError: For a level or baseline that does not exist, a measure that evaluations cannot have, or a size that is none.
    """
    if not compare:
        return
    from .statistics.levels import parse_level  # imports pandas

    for name in listed(compare.get("metrics")):
        _check_metric(name)
    names, levels = listed(compare.get("metrics")), [parse_level(place) for place in listed(compare.get("at"))]
    if names and levels and all(level.scalar == name for level in levels for name in names):
        raise ConfigError(
            f"compare: {names[0]} is equal where runs are compared, so nothing is compared; add a measure or a place."
        )
    if (baseline := compare.get("baseline")) is not None:
        try:
            find_variant(str(baseline), known)
        except ConfigError as error:
            raise ConfigError(f"compare: baseline = {baseline!r} does not work. {error}") from None
    if (smallest := compare.get("smallest")) is not None:
        try:
            valid = 0 < float(smallest) < math.inf and not isinstance(smallest, bool)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ConfigError(
                f"compare: smallest = {smallest!r} does not work: give the smallest difference that matters, above 0."
            )


def _check_metric(name: str) -> None:
    """Raise ConfigError for a name that no evaluation records.

    Terms of own objectives may have any name, so where one is registered, it need only begin with eval/.
    """
    known = name in METRICS or (name.startswith(HELD_OUT) and {name, name.removeprefix(HELD_OUT)} & GLOSSARY.keys())
    if known or (name.startswith(HELD_OUT) and has_own_objectives()):
        return
    near = did_you_mean(name, METRICS) or did_you_mean(f"{HELD_OUT}{name}", METRICS)
    raise ConfigError(f"compare: {name!r} is no measure of evaluations, such as eval/oracle_reward or eval/kl.{near}")
