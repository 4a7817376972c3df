"""The configuration of a run: every setting once, with its range, unit and meaning. Command line and form are made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from lab.errors import LabError, did_you_mean, requirement
from lab.objectives import OBJECTIVES, Objective, make_objective
from lab.pairs import PairsError
from lab.pairs.addresses import refuse_password
from lab.policy.text.template_time import as_moment

from .yaml_text import YamlError, read_yaml

if TYPE_CHECKING:
    from lab.policy import Lora

SEEDS = 2**32
"""Number of seeds that torch's CPU generator distinguishes."""


class ConfigError(LabError):
    """A configuration that cannot work."""


def _as_objective(value: Any) -> Objective:
    if isinstance(value, Objective):
        return value
    if isinstance(value, str):
        return make_objective(value)
    if isinstance(value, dict) and "name" in value:
        return make_objective(**value)
    raise ValueError('give the name of an objective, a dict {"name": ..., "beta": ...}, or an Objective')


AnyObjective = Annotated[Objective, BeforeValidator(_as_objective), PlainSerializer(lambda o: o.spec())]


class TrainConfig(BaseModel):
    """The settings of a run. Unknown fields are errors; `parse` reports errors in one sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: AnyObjective = Field(description="the preference objective with its parameters")
    pairs: str = Field("world", description="the pairs: world, a file, a hub id, or a pair store")
    pairs_version: str = Field(
        "current",
        min_length=1,
        description="which edits of the pairs the run trains on: current takes those made before the run, and later ones on "
        "request; follow also takes later ones by itself, between two steps; a version number, or the name of a snapshot of the "
        "set, trains on that version alone",
        json_schema_extra={"choices": {"current": "Current, later edits on request", "follow": "Follow later edits"}},
    )
    split: str = Field("train", min_length=1, description="split of a data set of the hub, or of a folder of `datasets`")
    configuration: str = Field("", description="configuration (subset) of a data set of the hub; empty: its default")
    skip_bad_rows: bool = Field(
        False,
        description="leave out rows that are no pairs, and pairs that the model's chat template refuses; off: such a set is "
        "refused, with a list of all of them",
    )
    model: str = Field("world", description="the model: world, a folder, or a hub id of a causal language model")
    steps: int = Field(200, ge=1, description="optimizer steps")
    batch_size: int = Field(8, ge=1, description="pairs per optimizer step")
    micro_batch_size: int | Literal["fit"] | None = Field(
        None,
        description="pairs computed at once (not set: the whole batch); smaller saves memory and changes no result except the "
        "random numbers of lora_dropout; fit: the largest that fits into memory, measured before the first step",
        json_schema_extra={"word": ["fit", "Fit to memory"]},
    )
    learning_rate: float = Field(1e-4, ge=0, description="peak learning rate of AdamW")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps in which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of AdamW; norm gains and biases do not decay")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are clipped to this norm; 0 switches clipping off")
    lora_rank: int = Field(0, ge=0, description="rank of a LoRA adapter; 0 trains the whole model")
    lora_alpha: float = Field(32.0, gt=0, description="the adapter is scaled by lora_alpha / lora_rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    lora_targets: str = Field("all-linear", description="modules that get an adapter: all-linear, or names separated by commas")
    max_length: int = Field(1024, ge=16, description="tokens of prompt and answer together; longer prompts lose their beginning")
    too_long: Literal["cut", "drop"] = Field(
        "cut",
        description="pairs with an answer longer than max_length: cut trains on the beginning of the answer, without an "
        "end-of-sequence token; drop excludes the pair",
    )
    seed: int = Field(
        0, ge=0, lt=SEEDS, description="fixes the order of the pairs, the pilots, the adapter and the sampled answers"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products: auto is float32 on the CPU, bfloat16 on a GPU; trained weights stay float32",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute every layer in the backward pass: much less memory, about a third more time"
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="4bit keeps the base model under an adapter in 4 bits (QLoRA); GPU only"
    )
    layout: Literal["auto", "shared", "plain"] = Field(
        "auto",
        description="auto computes a prompt once for all its answers, if the model passes a check; plain: one row per answer",
    )
    save_every: int = Field(100, ge=0, description="steps between checkpoints; 0 saves only at the end")
    keep_checkpoints: int = Field(3, ge=1, description="latest checkpoints that are kept, besides those saved on request")
    keep_best: str = Field(
        "auto",
        description="evaluation scalar by which the best checkpoint is kept besides the latest, for example "
        "eval/rewards/accuracies, or eval/loss:min (lower is better); auto: oracle reward, else reward, else held-out accuracy; "
        "empty: none",
    )
    evaluate: bool = Field(True, description="evaluate held-out pairs and sampled answers before, during and after training")
    eval_every: int = Field(50, ge=0, description="steps between evaluations; 0: only before and after training")
    held_out: float = Field(
        0.05, ge=0, lt=1, description="share of the prompts kept for evaluation and never trained on; 0 trains on all pairs"
    )
    eval_pairs: int = Field(100, ge=1, description="most held-out pairs per evaluation")
    eval_prompts: int | None = Field(
        None,
        ge=0,
        description="most held-out prompts that are answered per evaluation (not set: 100 if the world's oracle judges, else 32); "
        "0 samples no answers",
    )
    eval_tokens: int = Field(160, ge=1, description="most tokens of a sampled answer")
    reward_model: str = Field(
        "", description="scores the sampled answers: folder or hub id of a sequence-classification model with one output"
    )
    probe_budget: float = Field(
        0.05,
        ge=0,
        le=1,
        description="largest share of the training time for all probes (gradient by layer, panel of held-out pairs), which are "
        "spaced accordingly; 0 switches them off",
    )
    probe_layers: str = Field(
        "all",
        min_length=1,
        description="layers whose gradient is split by side: all, or names separated by commas with * as a wildcard "
        "(layers.0, layers.1*, lm_head); fewer cost less time and memory",
    )
    panel_pairs: int = Field(
        16,
        ge=0,
        le=64,
        description="held-out pairs whose chosen, rejected and greedy answers are measured throughout the run; 0: none",
    )
    panel_every: int | None = Field(
        None,
        ge=0,
        description="steps between measurements of the panel, at any cost (not set: at every evaluation, and in between as "
        "often as half of probe_budget allows); 0: only at evaluations",
    )
    token_steps: int = Field(20, ge=1, description="latest steps for which token credit is kept")
    keep_pair_rows: int = Field(
        500_000,
        ge=0,
        description="rows of pair terms (pairs times steps) that are kept in full; older steps are thinned, except extremes and "
        "every pair's first and latest row; 0 keeps all",
    )
    template_time: str = Field(
        "",
        description="date and time for chat templates that print them, as 2026-01-31T12:00:00; empty: when the run is made. "
        "Stored with the run, so that resumed runs, branches and twins have the same prompts on any other day",
    )
    trackers: str = Field(
        "", description="experiment trackers that also get every scalar: tensorboard, wandb, trackio; separated by commas"
    )
    alerts: Literal["none", "terminal"] = Field(
        "none",
        description="terminal: print findings of the diagnosis, failure and end in the terminal that trains, with a bell",
    )
    alert_hosts: str = Field("", description="hosts other than this machine that alert_webhook may name; separated by commas")
    alert_webhook: str = Field(
        "",
        description="receives the same alerts as a POST of JSON: an address on this machine, as http://127.0.0.1:9000/alerts, or "
        "on a host in alert_hosts; empty: none",
    )
    name: str = Field("", max_length=200, description="a readable name of the run")

    @field_validator("precision", mode="before")
    @classmethod
    def _no_float16(cls, value: Any) -> Any:
        if str(value) in ("float16", "fp16", "half"):
            raise ValueError(
                "float16 cannot hold the range of these gradients (largest number 65,504) and would need loss scaling, which no "
                "preference loss here is tested with; use bfloat16 or float32"
            )
        return value

    @field_validator("pairs_version", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("micro_batch_size", mode="before")
    @classmethod
    def _count_or_fit(cls, value: Any) -> Any:
        if value is None or value == "fit":
            return value
        try:
            count = int(value) if not isinstance(value, bool) and float(value) == int(value) else 0
        except (TypeError, ValueError, OverflowError):
            count = 0
        if count < 1:
            raise ValueError("give a whole number of pairs, at least 1, or fit for as many as memory holds")
        return count

    @field_validator("keep_best")
    @classmethod
    def _known_direction(cls, value: str) -> str:
        if value.partition(":")[1:] not in (("", ""), (":", "min")):
            raise ValueError("give a scalar of the evaluation (higher is better), or one with :min at its end (lower is better)")
        return value

    @field_validator("alert_webhook")
    @classmethod
    def _allowed(cls, value: str, info: ValidationInfo) -> str:
        if value:
            from lab.diagnosis.alerts import parse_hook  # imports pandas

            parse_hook(value, info.data.get("alert_hosts", ""))
        return value

    @field_validator("template_time")
    @classmethod
    def _one_moment(cls, value: str) -> str:
        if not value:
            return value
        return as_moment(value).isoformat(timespec="seconds")

    @property
    def micro_batch(self) -> int | None:
        """Pairs computed at once; None for the whole batch, also before `fit` has been measured."""
        return None if self.micro_batch_size == "fit" else self.micro_batch_size

    @property
    def lora(self) -> Lora | None:
        """The LoRA adapter of these settings, or None for full fine-tuning."""
        from lab.policy import Lora

        return Lora(self.lora_rank, self.lora_alpha, self.lora_dropout, self.lora_targets) if self.lora_rank else None

    @property
    def moment(self) -> datetime:
        """The date and time for chat templates: `template_time`, or now if it is empty."""
        return as_moment(self.template_time)

    def made_at(self, created: str | None = None) -> TrainConfig:
        """Return these settings with an empty `template_time` replaced by `created` (ISO 8601), or by now."""
        if self.template_time:
            return self
        moment = as_moment(created or "").replace(microsecond=0)
        return self.model_copy(update={"template_time": moment.isoformat(timespec="seconds")})

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises from 0."""
        return math.ceil(self.warmup_ratio * self.steps)

    def rate(self, step: int) -> float:
        """Return the learning rate of an optimizer step, counted from 1.

        Follows Hugging Face's convention: linear warm-up from 0, so that the first warm-up step has rate 0, then the schedule.
        """
        done, warmup = step - 1, self.warmup_steps
        if done < warmup:
            return self.learning_rate * done / max(1, warmup)
        share = (done - warmup) / max(1, self.steps - warmup)
        factor = {"constant": 1.0, "linear": max(0.0, 1 - share), "cosine": 0.5 * (1 + math.cos(math.pi * share))}[self.schedule]
        return self.learning_rate * factor

    @classmethod
    def parse(cls, **fields: Any) -> TrainConfig:
        """Validate plain values as settings. Raises ConfigError with one sentence that names the field and the remedy."""
        try:
            refuse_password(fields.get("pairs"))  # first: a message about another field may repeat no password either
            return cls(**fields)
        except PairsError as error:
            raise ConfigError(str(error)) from None
        except ValidationError as error:
            raise ConfigError(one_sentence(error)) from None


def with_parameters(objective: Any, keywords: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Split keyword arguments into parameters of the objective and settings: ("sgdpo", r1=0.7, steps=9).

    Args:
        objective: A name, {"name": ..., parameters}, or an Objective.
        keywords: Fields of TrainConfig and parameters of the objective, mixed.

    Returns:
        The objective with its parameters, and the remaining fields of TrainConfig.

    Raises:
        ConfigError: For a keyword that is neither.
    """
    (specified,), settings = with_parameters_of_one([objective], keywords)
    return specified, settings


def with_parameters_of_one(objectives: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Split keyword arguments into settings and parameters, each of which belongs to exactly one of several objectives.

    Args:
        objectives: As in `with_parameters`.
        keywords: Fields of TrainConfig and parameters of the objectives, mixed.

    Returns:
        The objectives with their parameters, and the remaining fields of TrainConfig.

    Raises:
        ConfigError: For a keyword that is neither, or a parameter that several of the objectives have.
    """
    settings = {name: value for name, value in keywords.items() if name in TrainConfig.model_fields}
    chosen = list(objectives)
    specs = [_spec(objective) for objective in objectives]
    kinds = [OBJECTIVES.get(str(spec.get("name"))) if isinstance(spec, dict) else None for spec in specs]
    for name in (name for name in keywords if name not in settings):
        owners = [at for at, kind in enumerate(kinds) if kind is not None and name in kind.model_fields]
        if not owners:
            known = {kind.name: list(kind.model_fields) for kind in kinds if kind is not None}
            of = "".join(f", and {each} has no such parameter (it has {', '.join(fields)})" for each, fields in known.items())
            suggestion = did_you_mean(name, [*(field for fields in known.values() for field in fields), *TrainConfig.model_fields])
            raise ConfigError(f"There is no setting {name!r}{of}; `python -m lab train --help` lists the settings.{suggestion}")
        if len(owners) > 1:
            named = [specs[at]["name"] for at in owners]
            raise ConfigError(
                f"{name} is a parameter of {' and of '.join(named)}; say which with the objective itself: "
                f'{{"name": "{named[0]}", "{name}": {keywords[name]!r}}}.'
            )
        at = owners[0]
        chosen[at] = specs[at] = {**specs[at], name: keywords[name]}
    return chosen, settings


def _spec(objective: Any) -> Any:
    """Return an objective's name and parameters; other values are returned for validation to refuse."""
    if isinstance(objective, Objective):
        return objective.spec()
    return {"name": objective} if isinstance(objective, str) else objective


def one_sentence(error: ValidationError) -> str:
    """Return the first problem in a pydantic error as one sentence."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the settings"
    if first["type"] == "extra_forbidden":
        suggestion = did_you_mean(where, TrainConfig.model_fields)
        return f"There is no setting {where!r}; `python -m lab train --help` lists them.{suggestion}"
    what = requirement(first)
    return f"{where} = {first['input']!r} does not work: {what[0].lower()}{what[1:]}{'' if what.endswith(('.', '?')) else '.'}"


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from a YAML or JSON file. Raises ConfigError if it cannot be read or is no mapping of settings."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (YamlError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"The configuration {path} must hold settings, one `name: value` a line.")
    for name in content:
        if name not in TrainConfig.model_fields:
            owner = _spec(content.get("objective"))
            kind = OBJECTIVES.get(str(owner.get("name"))) if isinstance(owner, dict) else None
            if kind is not None and name in kind.model_fields:
                place = f"`objective: {{name: {kind.name}, {name}: {content[name]}}}`"
                raise ConfigError(f"The configuration {path} has {name!r}, a parameter of {kind.name}; write {place}.")
            raise ConfigError(
                f"The configuration {path} has {name!r}, which is no setting; `python -m lab train --help` lists them."
                f"{did_you_mean(name, TrainConfig.model_fields)}"
            )
    return content
