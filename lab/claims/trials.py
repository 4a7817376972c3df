"""The experiments that feed the claims: variants with their settings, declared before any result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lab.experiments import Declaration, declare

RATES = (1e-4, 2e-4, 4e-4)
"""Learning rates of the main comparisons: methods are compared over several, never at one."""
RATE = 2e-4
"""Learning rate of the ablations."""
HARD_RATES = (1e-4, 2e-4)
"""Learning rates on the second world."""
PILOTS = (0.6, 0.8, 1.0)
"""Values of SGDPO's r1 and of r2; the paper searched one of them over 0.6 to 1."""
FLIPPED_SHARE = 0.2
"""Share of the labels that are flipped, beyond those that the world's annotator has wrong already."""

Spec: TypeAlias = dict[str, Any]
"""Name and parameters of an objective."""

DPO: Spec = {"name": "dpo", "beta": 0.1}
SGDPO: Spec = {"name": "sgdpo", "beta": 0.1, "r1": 0.6, "r2": 0.9}
SIMPO: Spec = {"name": "simpo", "beta": 10.0, "gamma_beta_ratio": 0.4}
ALPHA_DPO: Spec = {"name": "alpha_dpo", "beta": 10.0, "gamma_beta_ratio": 0.4, "alpha": 0.05}
ABLATED: Spec = ALPHA_DPO | {"alpha": 0.2}
"""AlphaDPO in the setting of the paper's ablation (Llama-3-8B-Instruct v0.2)."""
SPO: Spec = {"name": "spo", "base": DPO}
METHODS = {"dpo": DPO, "sgdpo": SGDPO, "simpo": SIMPO, "alpha_dpo": ALPHA_DPO, "spo": SPO}
"""The methods by the name that labels begin with."""


@dataclass(frozen=True)
class Base:
    """The base models and pair sets of an experiment, one for each seed: seed s takes number s, beginning anew after the last.

    Attributes:
        models: Anything that `lab.train` accepts as a model.
        pairs: Anything that it accepts as pairs.
    """

    models: tuple[str, ...]
    pairs: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """Size of the runs, the same in every experiment.

    Attributes:
        seeds: Number of seeds that a verdict needs.
        settings: Settings of every run.
        rounds: Rounds in which costs are timed.
    """

    seeds: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 8


FULL = Scale(
    8,
    {"steps": 200, "batch_size": 16, "eval_every": 50, "held_out": 0.1, "eval_pairs": 200, "panel_pairs": 0, "probe_budget": 0,
     "save_every": 100},
)  # fmt: skip
"""Size of the runs in the report."""


@dataclass(frozen=True)
class Trial:
    """One experiment: variants on the same pairs.

    Attributes:
        key: Its name is "claims-" and this.
        world: Name of the world: "world" or "world-hard".
        flipped: Whether FLIPPED_SHARE of the labels are flipped.
        variants: Objective, parameters and own settings of each variant, by label. Labels are unique over all experiments.
    """

    key: str
    world: str
    variants: Mapping[str, Mapping[str, Any]]
    flipped: bool = False

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return f"claims-{self.key}"


def rated(method: str, rate: float, prefix: str = "") -> str:
    """Return the label of a method at a learning rate: "dpo 2e-4"."""
    return f"{prefix}{method} {rate_text(rate)}"


def rate_text(rate: float) -> str:
    """Return a learning rate as labels have it: "2e-4"."""
    return f"{rate:.0e}".replace("e-0", "e-")


def pilots(r1: float, r2: float) -> str:
    """Return the label of SGDPO with certain pilots at RATE."""
    return f"sgdpo r1={r1:g} r2={r2:g}"


def _at(rate: float, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {**spec, "learning_rate": rate}


TRIALS = (
    Trial(
        "rates",
        "world",
        {rated(name, rate): _at(rate, METHODS[name]) for rate in RATES for name in ("dpo", "sgdpo", "simpo", "alpha_dpo")},
    ),
    Trial(
        "alpha",
        "world",
        {
            label: _at(RATE, spec)
            for label, spec in {
                "alpha 0.2": ABLATED,
                "alpha 0.5": ABLATED | {"alpha": 0.5},
                "alpha 0.2 without stop-gradient": ABLATED | {"stop_gradient": False},
                "alpha 0.2 without normalisation": ABLATED | {"normalize": "none"},
                "alpha 0.2 gamma 0": ABLATED | {"gamma_beta_ratio": 0.0},
                "alpha 0.2 policy only": ABLATED | {"reference": "policy"},
                "alpha 0.2 reference only": ABLATED | {"reference": "reference"},
                "alpha 0.2 inverse reference": ABLATED | {"reference": "inverse_reference"},
                "simpo gamma 1": SIMPO | {"gamma_beta_ratio": 1.0},
            }.items()
        },
    ),
    Trial(
        "spo",
        "world",
        {f"spo on {base['name']}": _at(RATE, {"name": "spo", "base": base}) for base in (DPO, SIMPO, SGDPO)},
    ),
    Trial("flipped", "world", {f"flipped {name}": _at(RATE, spec) for name, spec in METHODS.items()}, flipped=True),
    Trial(
        "pilots",
        "world",
        {pilots(r1, r2): _at(RATE, SGDPO | {"r1": r1, "r2": r2}) for r1 in PILOTS for r2 in PILOTS},
    ),
    Trial(
        "hard",
        "world-hard",
        {rated(name, rate, "hard "): _at(rate, spec) for rate in HARD_RATES for name, spec in METHODS.items()},
    ),
)
"""All experiments, in the order in which their runs are trained."""


def trial_of(variant: str) -> Trial:
    """Return the experiment with a variant. Raises KeyError for an unknown label."""
    for trial in TRIALS:
        if variant in trial.variants:
            return trial
    raise KeyError(variant)


def declaration_of(
    trial: Trial, base: Base, scale: Scale, seeds: int | Sequence[int], only: Sequence[str] | None = None
) -> Declaration:
    """Return what `lab.sweep` runs for an experiment.

    Args:
        trial: The experiment.
        base: Its base models and pairs.
        scale: Size of the runs.
        seeds: Number of seeds, or the seeds.
        only: Labels of the variants to run; None for all.
    """
    objectives = [{"label": label, **spec} for label, spec in trial.variants.items() if only is None or label in only]
    with_seed = {"model": list(base.models), "pairs": list(base.pairs)}
    return declare(objectives, seeds, scale.settings, with_seed)
