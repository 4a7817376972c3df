"""The one interface that every preference objective stands on.

An objective is a pure function of the token log-probs of a batch of pairs. What it remembers
(`State`) and what it throws dice for (`Draws`) are values that go in and come out, so a checkpoint
cannot forget them and a test can pin them.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from .logps import Degraded, PairLogps, masked_sum

__all__ = [
    "OBJECTIVES",
    "Degraded",
    "DegradedAnswers",
    "Draws",
    "Objective",
    "Outcome",
    "PairLogps",
    "Preset",
    "State",
    "make_objective",
    "masked_sum",
    "parameter",
    "register",
]

State = dict[str, Tensor]
"""Moving statistics and counters of an objective, by name; scalars of float64 or int64."""

Draws = dict[str, Tensor]
"""What an objective has drawn at random for one batch, by name; for example two bool [B, T] masks."""


@dataclass(frozen=True)
class Outcome:
    """What one call of an objective says about a batch.

    losses:      [B], unreduced, carry gradient.
    terms:       named per-pair numbers, detached, each [B]; the names are explained in lab/plots/glossary.py.
    token_terms: named per-token values, detached, each [B, T] (SGDPO: the pilot's two bool masks).
    """

    losses: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    token_terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """Parameters somebody published, with the learning rate they used and where it stands."""

    parameters: Mapping[str, Any]
    source: str
    learning_rate: float | None = None


@dataclass(frozen=True)
class DegradedAnswers:
    """Which weakened answers an objective wants behind each prompt (SPO).

    degrees: N, how many degrees, the intact answer included.
    source:  "chosen", "rejected", "both" or "sampled" (a fresh answer of the policy).
    share:   share of the batch's pairs that get them, in (0, 1].
    pooling: which hidden state the head reads: "last" completion token or the "mean" over the completion.
    """

    degrees: int
    source: str
    share: float
    pooling: str


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
    """Declare a hyper-parameter once: validation, command-line flag, slider and documentation follow from it.

    meaning: one sentence; symbol: as in the paper; unit: "nats", "1/nats", ...; recommended: range outside
    which the lab warns (the published settings, or ours where none are); changeable: may be set in mid-run; limits:
    pydantic's ge, gt, le, lt.
    """
    extra: dict[str, Any] = {
        "symbol": symbol,
        "unit": unit,
        "recommended": list(recommended) if recommended else None,
        "changeable": changeable,
    }
    return Field(default, description=meaning, json_schema_extra=extra, **limits)


class Objective(BaseModel):
    """A preference loss: hyper-parameters as validated fields, mathematics in `compute`.

    To add one, subclass, set `name`, declare parameters, write `compute` and decorate with `@register`.
    An unknown parameter raises pydantic.ValidationError (a ValueError).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Facts, read by the loop, the form and the documentation. Ask an instance, not the class: a few objectives make
    # one of them a property, because it depends on their parameters.
    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    needs_reference: ClassVar[bool] = True
    needs_alignment: ClassVar[bool] = False
    length_normalized: ClassVar[bool] = False
    couples_pairs: ClassVar[bool] = False
    """True where, in training, the loss of one pair depends on the others in the batch, so that a batch must not be cut."""
    needs_dataset: ClassVar[bool] = False
    """True where `dataset_state` has to be called before the first step."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    first_step_term: ClassVar[str] = "loss"
    """The term that `first_step_loss` speaks of."""

    def compute(self, p: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        """The mathematics. Return unreduced losses [B], at least the terms `logit` and `target_margin`
        where the objective has them, and the state after the call."""
        raise NotImplementedError(f"{type(self).__name__} has no compute(); write the loss there.")

    def initial_state(self) -> State:
        """The state before the first step."""
        return {}

    def couples(self, *, training: bool) -> bool:
        """Whether the loss of one pair depends on the others in the batch in this kind of call."""
        return self.couples_pairs

    def dataset_state(self, batches: Iterable[PairLogps]) -> State:
        """The state before the first step, of an objective with `needs_dataset`, from the log-probs of the whole training set."""
        return self.initial_state()

    def draw(self, p: PairLogps, rng: torch.Generator) -> Draws:
        """What is random in this batch, from `rng` and never from the global generator."""
        return {}

    def degraded_answers(self) -> DegradedAnswers | None:
        """The weakened answers this objective wants in the batch, or None."""
        return None

    def first_step_loss(self) -> float | None:
        """The value of `first_step_term` of every pair when policy = reference (nats), or None where it depends on the data."""
        return None

    def rewards(self, p: PairLogps) -> tuple[Tensor, Tensor]:
        """Implicit rewards of both sides, each [B]: beta times the log-ratio (TRL's rewards/chosen, rewards/rejected).
        Without a reference, beta times the (length-normalised) log-prob, as TRL's CPO trainer has it."""
        beta = getattr(self, "beta", 1.0)
        if self.needs_reference:
            w, l = p.X1, p.X2
        elif self.length_normalized:
            w, l = p.avg_w, p.avg_l
        else:
            w, l = p.S_w, p.S_l
        return beta * w, beta * l

    def warnings(self) -> list[str]:
        """One sentence for each parameter outside its recommended range."""
        found = []
        for key, info in type(self).model_fields.items():
            limits = _extra(info).get("recommended")
            value = getattr(self, key)
            if limits and isinstance(value, (int, float)) and not limits[0] <= value <= limits[1]:
                found.append(
                    f"{self.name}: {key} = {value:g} is outside {limits[0]:g} to {limits[1]:g}, the range the lab "
                    f"recommends for it; choose a value inside it unless you mean to study this."
                )
        return found

    @classmethod
    def unused_parameters(cls, values: Mapping[str, Any]) -> frozenset[str]:
        """Names of the parameters that the loss does not read when all parameters have these values; giving one is an error."""
        return frozenset()

    @model_validator(mode="after")
    def _refuse_unused(self) -> Self:
        for key in sorted(self.unused_parameters(self._values()) & self.model_fields_set):
            raise ValueError(
                f"{self.name} does not use {key} with these settings; leave it out or change the setting that turns it off."
            )
        return self

    def _values(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in type(self).model_fields}

    def __call__(self, logps: PairLogps, state: State, draws: Draws, *, training: bool) -> tuple[Outcome, State]:
        """Losses [B], terms and the next state for a batch of pairs.

        Raises ValueError if a needed reference, alignment, draw or weakened answer is missing, a shape is wrong, or
        (on the CPU, where looking costs no wait) a completion has no token.
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
                    f"{self.name}: {key} has shape {tuple(value.shape)}; it must hold one number for each of {len(logps)} pairs."
                )
        detached = {key: value.detach() for key, value in terms.items()}
        return Outcome(outcome.losses, detached, {k: v.detach() for k, v in outcome.token_terms.items()}), after

    def spec(self) -> dict[str, Any]:
        """Name and the parameters in use as plain JSON values; `make_objective(**spec)` gives the objective back."""
        return {"name": self.name, **self.model_dump(mode="json", exclude=set(self.unused_parameters(self._values())))}

    def replace(self, **changes: Any) -> Self:
        """The same objective with other parameter values, validated; what the changed settings turn off is left behind."""
        values = self._values() | changes
        left_behind = self.unused_parameters(values) - changes.keys()
        return type(self)(**{key: value for key, value in values.items() if key not in left_behind})


def _require_tokens(p: PairLogps) -> None:
    for side, mask in (("chosen", p.chosen_mask), ("rejected", p.rejected_mask)):
        if mask.device.type == "cpu" and not mask.any(-1).all():
            row = int((~mask.any(-1)).nonzero()[0])
            raise ValueError(
                f"The {side} answer in row {row} of the batch has no token; drop the pair or give its answer an end-of-sequence."
            )


def _extra(info: Any) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


OBJECTIVES: dict[str, type[Objective]] = {}
"""Every registered objective by name."""

Kind = TypeVar("Kind", bound=type[Objective])


def register(kind: Kind) -> Kind:
    """Class decorator: puts an objective into `OBJECTIVES`, where the command line, the forms and the documentation find it,
    and lists its parameters with their ranges at the end of its docstring.

    Registering a name again replaces one's own objective, as when a notebook cell is run twice. Raises ValueError for a name that
    is no plain word or belongs to the lab, and for a parameter that no form can show.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", kind.name):
        raise ValueError(
            f"{kind.__name__}.name is {kind.name!r}; give a name of letters, digits, _, - and . that people will type."
        )
    there = OBJECTIVES.get(kind.name)
    if there is not None and there.__module__.startswith(_OWN) and not kind.__module__.startswith(_OWN):
        raise ValueError(f"{kind.name!r} is one of the lab's own objectives; give yours another name.")
    declared: dict[str, Any] = dict(kind.__pydantic_fields__)
    for name, info in declared.items():
        if info.is_required():
            raise ValueError(f"{kind.name}: the parameter {name} has no default; give one, so that a form can begin with it.")
        if not _fits_a_form(info.annotation):
            raise ValueError(
                f"{kind.name}: the parameter {name} is a {info.annotation}; use a number, a bool, a text or a Literal."
            )
    kind.__doc__ = f"{inspect.cleandoc(kind.__doc__ or kind.name)}\n\n{_parameter_list(kind)}".rstrip()
    OBJECTIVES[kind.name] = kind
    return kind


_OWN = __name__.rsplit(".", 1)[0] + "."


def _fits_a_form(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Literal:
        return True
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return all(part is type(None) or _fits_a_form(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, (bool, int, float, str, Objective))


def _parameter_list(kind: type[Objective]) -> str:
    """name (symbol, unit; limits; recommended range; default): meaning - a line for each parameter."""
    lines = ["Parameters:"] if kind.model_fields else []
    for name, info in kind.model_fields.items():
        extra = _extra(info)
        rules = [(rule, attribute) for rule in info.metadata for attribute in _SIGNS if hasattr(rule, attribute)]
        limits = [f"{_SIGNS[attribute]} {getattr(rule, attribute):g}" for rule, attribute in rules]
        around = extra.get("recommended")
        facts = [
            *(fact for fact in (extra.get("symbol"), extra.get("unit")) if fact and fact != name),
            *limits,
            *([f"recommended {around[0]:g} to {around[1]:g}"] if around else []),
            f"default {info.default}",
        ]
        lines.append(f"    {name} ({', '.join(facts)}): {info.description or ''}")
    return "\n".join(lines)


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def make_objective(name: str, **parameters: Any) -> Objective:
    """An objective by its registry name. Raises ValueError, in one sentence, for an unknown name or parameter (naming
    what there is) or a value out of range."""
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ValueError(f"There is no objective {name!r}; choose one of {', '.join(sorted(OBJECTIVES))}.")
    kind = OBJECTIVES[name]
    for key in parameters:
        if key not in kind.model_fields:
            raise ValueError(f"{name} has no parameter {key!r}; it has {', '.join(kind.model_fields) or 'none'}.")
    try:
        return kind(**parameters)
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(name, found) for found in error.errors()) + ".") from error


def _sentence(name: str, found: Any) -> str:
    where = ".".join(map(str, found["loc"]))
    return f"{name}: {where} = {found['input']!r}: {requirement(found)}" if where else requirement(found)


_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def requirement(detail: Mapping[str, Any]) -> str:
    """Return what a wrong value must be, in plain words without a full stop: "it must be at least 0".

    Args:
        detail: An entry of `pydantic.ValidationError.errors()`.
    """
    if detail["type"] in _LIMITS:
        key, text = _LIMITS[detail["type"]]
        limit = detail["ctx"][key]
        return f"it must be {text} {limit:g}" if isinstance(limit, float) else f"it must be {text} {limit}"
    return str(detail["msg"]).removeprefix("Value error, ").rstrip(".")
