"""Base class and parameter declarations of all preference objectives.

An objective is a pure function of the token log-probs of a batch of pairs. Its state (`State`) and its random numbers
(`Draws`) are explicit arguments and return values, so that checkpoints can store them and tests can fix them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lab.deferred import torch

from .documentation import extra_of
from .pair_logps import Degraded, PairLogps, masked_sum

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Degraded",
    "DegradedSpec",
    "Draws",
    "Objective",
    "Outcome",
    "PairLogps",
    "Preset",
    "State",
    "masked_sum",
    "parameter",
]

State: TypeAlias = "dict[str, Tensor]"
"""Moving statistics and counters of an objective, by name; scalars of float64 or int64."""

Draws: TypeAlias = "dict[str, Tensor]"
"""Random values of an objective for one batch, by name; SGDPO: two bool masks [B, T]."""


@dataclass(frozen=True)
class Outcome:
    """Losses and terms of one batch.

    losses:      [B], unreduced; carries gradient.
    terms:       Named numbers, one per pair, each [B], detached; lab/glossary explains the names.
    token_terms: Named values, one per token, each [B, T], detached (SGDPO: the two bool masks of the pilots).
    """

    losses: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    token_terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """Published parameter values of an objective, with their source and the learning rate used with them."""

    parameters: Mapping[str, Any]
    source: str
    learning_rate: float | None = None


@dataclass(frozen=True)
class DegradedSpec:
    """Which degraded answers SPO needs for each pair of a batch.

    degrees: N, the number of degrees, the intact answer included.
    source:  "chosen", "rejected", "both" or "sampled": the answer that is degraded; sampled: a fresh one of the policy.
    share:   Share of the batch's pairs that get degraded answers, in (0, 1].
    pooling: Hidden state that the degree head reads: of the "last" completion token, or the "mean" over the completion.
    annotated: Whether the rejected answer of a pair with an annotated degree is one of the degraded answers.
    """

    degrees: int
    source: str
    share: float
    pooling: str
    annotated: bool = False


def parameter(
    default: Any,
    meaning: str,
    *,
    symbol: str = "",
    unit: str = "",
    recommended: tuple[float, float] | None = None,
    changeable: bool = True,
    **limits: Any,
) -> Any:
    """Declare a hyper-parameter; validation, command-line flag, form field and documentation are made from it.

    Args:
        default: Value of a form and of an objective made without it.
        meaning: One sentence.
        symbol: As in the paper.
        unit: "nats", "1/nats", ...
        recommended: Range outside which the lab warns: the published settings, or ours where there are none.
        changeable: Whether it may be changed during a run.
        limits: ge, gt, le, lt as in pydantic.
    """
    extra: dict[str, Any] = {
        "symbol": symbol,
        "unit": unit,
        "recommended": list(recommended) if recommended else None,
        "changeable": changeable,
    }
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


class Objective(BaseModel):
    """A preference loss: hyper-parameters as validated fields, the mathematics in `compute`.

    To add one, subclass, set `name`, declare the parameters, write `compute` and decorate with `@register`.
    An unknown parameter raises pydantic.ValidationError (a ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Read these from an instance, not from the class: where one depends on the parameters, the subclass makes it a property.
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    """The loss in the language of `lab.objectives.expression`; any other text is shown as it is, without numbers."""
    formula_symbols: ClassVar[Mapping[str, str]] = {}
    """Symbols of names in the formula that are neither parameters nor quantities of `PairLogps` nor in the glossary."""
    needs_reference: ClassVar[bool] = True
    needs_alignment: ClassVar[bool] = False
    length_normalized: ClassVar[bool] = False
    couples_pairs: ClassVar[bool] = False
    """True where, in training, the loss of a pair depends on the others in its batch, which then cannot be split."""
    draws_from_masks: ClassVar[bool] = False
    """True where `draw` reads the masks of the batch alone, its values have one row per pair (and one column per token, False or 0
    in the padding), and more padding changes none of them. It is then called before the model, so that micro-batches that do not
    depend on each other otherwise go forward once."""
    uses_degree: ClassVar[bool] = False
    """True where the annotated degree of a pair (`lab.pairs.Pair.degree`) enters its loss."""
    needs_dataset: ClassVar[bool] = False
    """True where `dataset_state` must be called before the first step."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    first_step_term: ClassVar[str] = "loss"
    """Name of the term whose value at the first step `first_step_loss` returns."""
    first_step_value: ClassVar[float | None] = None
    """That value, where it is a constant."""

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        """Compute the unreduced losses [B], the terms and the next state; called by `__call__` after its checks.

        Args:
            p: Token log-probs of the batch.
            state: As returned by the previous call, or `initial_state()`.
            draws: As returned by `draw` for this batch.
            training: False in evaluation, where the statistics in the state must not change.

        Returns:
            The outcome, with at least the terms `logit` and `target_margin` where the objective has them, and the next state.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define compute(); implement the loss there.")

    def initial_state(self) -> State:
        """Return the state before the first step."""
        return {}

    def couples(self, *, training: bool) -> bool:
        """Return whether the loss of a pair depends on the other pairs of the batch in this kind of call."""
        return self.couples_pairs

    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        """Compute the state before the first step from the log-probs of the whole training set (see `needs_dataset`)."""
        return self.initial_state()

    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        """Draw the random values for this batch from `rng`, never from the global generator."""
        return {}

    def draws_before_log_probs(self) -> bool:
        """Return whether `draw` may be called before the model: it draws nothing, or reads masks alone."""
        return self.draws_from_masks or type(self).draw is Objective.draw

    def degraded_spec(self) -> DegradedSpec | None:
        """Return which degraded answers the batch must contain, or None for none."""
        return None

    def first_step_loss(self) -> float | None:
        """Return the value (nats) of `first_step_term` while policy = reference, or None where it depends on the data."""
        return self.first_step_value

    def symbols(self) -> dict[str, str]:
        """Return the symbol of every parameter (its name where none is declared) and those of `formula_symbols`."""
        declared = {key: extra_of(info).get("symbol") or key for key, info in type(self).model_fields.items()}
        return {**self.formula_symbols, **declared}

    def formula_values(self, p: PairLogps, outcome: Outcome, state: State) -> dict[str, Tensor]:
        """Return the values of names in the formula that are neither parameters nor quantities of `PairLogps` nor terms.

        Args:
            p: Token log-probs of the batch.
            outcome: As returned by the call for this batch.
            state: The next state, as returned by that call.

        Returns:
            Tensors [B] or scalars, by name.
        """
        return {}

    @property
    def reward_measure(self) -> str:
        """The part of `rewards` that beta multiplies: "log-ratio", "log-prob per token" or "log-prob"."""
        if self.needs_reference:
            return "log-ratio"
        return "log-prob per token" if self.length_normalized else "log-prob"

    def rewards(self, p: PairLogps) -> tuple[Tensor, Tensor]:
        """Compute the implicit rewards of the chosen and of the rejected answers, each [B].

        They are beta times the log-ratio (TRL's rewards/chosen and rewards/rejected); without a reference, beta times the log-prob,
        averaged per token where the objective does so (TRL's CPO trainer).
        """
        beta = getattr(self, "beta", 1.0)
        if self.reward_measure == "log-ratio":
            w, l = p.X1, p.X2
        elif self.reward_measure == "log-prob per token":
            w, l = p.avg_w, p.avg_l
        else:
            w, l = p.S_w, p.S_l
        return beta * w, beta * l

    def warnings(self) -> list[str]:
        """Return one sentence for each parameter outside its recommended range."""
        messages = []
        for key, info in type(self).model_fields.items():
            limits = extra_of(info).get("recommended")
            value = getattr(self, key)
            if limits and isinstance(value, (int, float)) and not limits[0] <= value <= limits[1]:
                messages.append(
                    f"{self.name}: {key} = {value:g} is outside {limits[0]:g} to {limits[1]:g}, its recommended range; "
                    f"choose a value in that range unless this is intended."
                )
        return messages

    @classmethod
    def unused_parameters(cls, values: Mapping[str, Any]) -> frozenset[str]:
        """Return the parameters that the loss does not read given all `values`; setting one of them is an error."""
        return frozenset()

    @model_validator(mode="after")
    def _refuse_unused(self) -> Self:
        for key in sorted(self.unused_parameters(self._values()) & self.model_fields_set):
            raise ValueError(
                f"{self.name} does not use {key} with these settings; leave it out, or change the setting that disables it."
            )
        return self

    def _values(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in type(self).model_fields}

    def __call__(self, logps: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        """Compute the losses [B] with all terms of a batch, and the next state.

        Adds the terms that every objective has: loss, summed log-probs, rewards and log-ratios.

        Raises:
            ValueError: A needed reference, alignment, draw or degraded answer is missing, a shape is wrong, or (checked on the
                CPU only, where it costs no synchronisation) a completion has no token.
        """
        _require_tokens(logps)
        for needed, prefix in ((self.needs_reference, "ref"), (self.needs_alignment, "align")):
            if needed:
                logps.required(f"{prefix}_chosen")
                logps.required(f"{prefix}_rejected")
        outcome, after = self.compute(logps, state, draws, training=training)
        reward_chosen, reward_rejected = self.rewards(logps)
        terms = {
            "loss": outcome.losses,
            "logps_chosen": logps.S_w,
            "logps_rejected": logps.S_l,
            "reward_chosen": reward_chosen,
            "reward_rejected": reward_rejected,
            **outcome.terms,
        }
        if logps.has_reference:
            terms |= {"log_ratio_chosen": logps.X1, "log_ratio_rejected": logps.X2}
        for key, value in terms.items():
            if value.shape != (len(logps),):
                raise ValueError(
                    f"{self.name}: {key} has shape {tuple(value.shape)}; it must have one entry for each of the {len(logps)} pairs."
                )
        detached = {key: value.detach() for key, value in terms.items()}
        return Outcome(outcome.losses, detached, {k: v.detach() for k, v in outcome.token_terms.items()}), after

    def spec(self) -> dict[str, Any]:
        """Return the name and the parameters in use as JSON values; `make_objective(**spec)` restores the objective."""
        return {"name": self.name, **self.model_dump(mode="json", exclude=set(self.unused_parameters(self._values())))}

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with other parameter values; parameters that the changes disable return to their defaults."""
        values = self._values() | changes
        disabled = self.unused_parameters(values) - changes.keys()
        return type(self)(**{key: value for key, value in values.items() if key not in disabled})


def _require_tokens(p: PairLogps) -> None:
    for side, mask in (("chosen", p.chosen_mask), ("rejected", p.rejected_mask)):
        if mask.device.type == "cpu" and not mask.any(-1).all():
            row = int((~mask.any(-1)).nonzero()[0])
            raise ValueError(
                f"The {side} answer in row {row} of the batch has no token; drop the pair, or end its answer with end-of-sequence."
            )
