"""The rule by which an experiment's variants are compared, checked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lab.errors import did_you_mean
from lab.glossary import HELD_OUT
from lab.objectives import has_own_objectives
from lab.run.config import ConfigError, TrainConfig

from .metrics import FROM_ANSWERS, FROM_JUDGES, FROM_ORACLE, METRICS, RECORDED
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


def check_recorded(compare: Mapping[str, Any], configs: Sequence[TrainConfig], *, oracle: bool) -> None:
    """Check that runs with these settings can record what a checked rule compares, and reach the place where it does.

    Args:
        compare: See `Declaration`; accepted by `check_comparison`.
        configs: The settings of all runs.
        oracle: Whether the pairs of any run are those of an embedded world, whose oracle judges answers.

    Raises:
        ConfigError: For a measure or step that no run can have.
    """
    if not compare:
        return
    from .statistics.levels import parse_level  # imports pandas

    levels = [parse_level(place) for place in listed(compare.get("at"))]
    for name in dict.fromkeys([*listed(compare.get("metrics")), *(level.scalar for level in levels if level.scalar)]):
        missing = [_missing(name, config, oracle) for config in configs]
        if all(missing):
            raise ConfigError(f"compare: no run will record {name}: {missing[0]}.")
    steps = max(config.steps for config in configs)
    for level in levels:
        if level.name == "step" and level.value is not None and level.value > steps:
            raise ConfigError(f"compare: step={level.value:g} is after the end of training; the runs have at most {steps} steps.")


def _missing(name: str, config: TrainConfig, oracle: bool) -> str:
    """Return what a run lacks to record a measure, in a few words; "" if nothing is known to be missing."""
    if not config.evaluate:
        return "evaluate is off"
    if name not in FROM_ANSWERS:
        return "" if config.held_out else "held_out is 0, so no pairs are held out"
    if config.eval_prompts == 0:
        return "eval_prompts is 0, so no answers are sampled"
    if not config.held_out and not oracle:
        return "held_out is 0, so there is no prompt to answer"
    if name in FROM_ORACLE and config.reward_model:
        return "the reward model judges the answers in place of the oracle"
    if name in FROM_ORACLE and not oracle:
        return "only the embedded world has an oracle; give a reward_model for eval/reward, or compare eval/rewards/accuracies"
    if name in FROM_JUDGES - FROM_ORACLE and not config.reward_model and (name == "eval/reward" or not oracle):
        return "no reward_model is set, which judges the answers"
    return ""


def _check_metric(name: str) -> None:
    """Raise ConfigError for a name that no evaluation records.

    Terms of own objectives may have any name, so where one is registered, it need only begin with eval/.
    """
    if name in RECORDED or (name.startswith(HELD_OUT) and has_own_objectives()):
        return
    near = did_you_mean(name, METRICS) or did_you_mean(f"{HELD_OUT}{name}", METRICS)
    raise ConfigError(f"compare: {name!r} is no measure of evaluations, such as eval/oracle_reward or eval/kl.{near}")
