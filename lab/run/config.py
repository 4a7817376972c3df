"""What a run is: every setting once, with its range, unit and meaning; the command line and the form are made from it."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
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

from lab.diagnosis.alerts import parse_hook
from lab.errors import LabError
from lab.objectives import Objective, make_objective
from lab.objectives.base import requirement
from lab.policy import Lora
from lab.policy.text.chat_template import as_moment

SEEDS = 2**32
"""How many seeds there are: so many the CPU's generator tells apart."""


class ConfigError(LabError):
    """A configuration that cannot work, in one sentence."""


def _as_objective(value: Any) -> Objective:
    if isinstance(value, Objective):
        return value
    if isinstance(value, str):
        return make_objective(value)
    if isinstance(value, dict) and "name" in value:
        return make_objective(**value)
    raise ValueError('give the name of an objective, {"name": ..., parameters}, or an Objective')


AnyObjective = Annotated[Objective, BeforeValidator(_as_objective), PlainSerializer(lambda o: o.spec())]


class TrainConfig(BaseModel):
    """Every field of a run. Unknown fields are errors; `parse` says in one sentence what is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: AnyObjective = Field(description="the preference objective with its parameters")
    pairs: str = Field("world", description="the pairs: world, a file, a hub id, or a pair store")
    model: str = Field("world", description="the model: world, a folder, or a hub id of a causal language model")
    steps: int = Field(200, ge=1, description="optimizer steps")
    batch_size: int = Field(8, ge=1, description="pairs per optimizer step")
    micro_batch_size: int | Literal["fit"] | None = Field(
        None,
        description="pairs computed at once (not set: the whole batch); smaller saves memory and changes no result (but what "
        "lora_dropout draws); fit takes the most that fit into memory, measured before the first step",
        json_schema_extra={"word": ["fit", "Fit to memory"]},
    )
    learning_rate: float = Field(1e-4, ge=0, description="peak learning rate of AdamW")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="share of the steps in which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of AdamW; gains and biases do not decay")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm; 0 switches it off")
    lora_rank: int = Field(0, ge=0, description="rank of a LoRA adapter; 0 trains the whole model")
    lora_alpha: float = Field(32.0, gt=0, description="the adapter is scaled by lora_alpha / lora_rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    lora_targets: str = Field("all-linear", description="modules that get an adapter: all-linear, or names separated by commas")
    max_length: int = Field(
        1024, ge=16, description="tokens of prompt and answer together; a prompt that does not fit loses its beginning"
    )
    too_long: Literal["cut", "drop"] = Field(
        "cut",
        description="a pair with an answer that does not fit into max_length: cut trains on the answer's beginning, without an end "
        "of sequence; drop leaves the pair out",
    )
    seed: int = Field(
        0, ge=0, lt=SEEDS, description="fixes the order of the pairs, the pilots, the adapter and the sampled answers"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of matrix products: auto is float32 on the CPU, bfloat16 on a GPU; weights in training stay float32"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute every layer again in the backward pass: much less memory, about a third more time"
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="4bit holds the base below an adapter in 4 bits (QLoRA); GPU only"
    )
    layout: Literal["auto", "shared", "plain"] = Field(
        "auto", description="auto computes a prompt once for all its answers where the model agrees; plain gives each its own row"
    )
    save_every: int = Field(100, ge=0, description="steps between checkpoints; 0 saves only at the end")
    keep_checkpoints: int = Field(3, ge=1, description="latest checkpoints that are kept, apart from those asked for")
    keep_best: str = Field(
        "auto",
        description="evaluation scalar whose best checkpoint is saved and kept beside the latest, as eval/rewards/accuracies, or "
        "eval/loss:min where lower is better; auto: oracle reward, else reward, else held-out accuracy; empty: none",
    )
    evaluate: bool = Field(True, description="look at held-out pairs and sampled answers before, during and after training")
    eval_every: int = Field(50, ge=0, description="steps between two looks; 0 looks only before and after training")
    held_out: float = Field(
        0.05, ge=0, lt=1, description="share of the prompts that is never trained on but looked at; 0 trains on all pairs"
    )
    eval_pairs: int = Field(100, ge=1, description="held-out pairs that a look computes, at most")
    eval_prompts: int | None = Field(
        None,
        ge=0,
        description="held-out prompts that are answered at a look, at most (not set: 100 where the world's oracle judges, "
        "32 elsewhere); 0 samples no answers",
    )
    eval_tokens: int = Field(160, ge=1, description="tokens that a sampled answer may have")
    reward_model: str = Field(
        "", description="judges the sampled answers: a folder or hub id of a sequence-classification model with one output"
    )
    probe_budget: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of the training time that all probes may take (gradient by layer, panel of held-out pairs), kept by "
        "spacing them; 0 switches them off",
    )
    probe_layers: str = Field(
        "all",
        min_length=1,
        description="layers whose gradient is split by side: all, or names with commas between, in which * stands for anything "
        "(layers.0, layers.1*, lm_head); fewer cost less time and memory",
    )
    panel_pairs: int = Field(
        16,
        ge=0,
        le=64,
        description="held-out pairs whose chosen, rejected and greedy answer are followed through the run; 0: none",
    )
    panel_every: int | None = Field(
        None,
        ge=0,
        description="steps between two looks at the panel, whatever they cost (not set: at every evaluation, and in between as "
        "often as half of probe_budget allows); 0 looks only at evaluations",
    )
    token_steps: int = Field(20, ge=1, description="latest steps for which every token's credit is kept")
    keep_pair_rows: int = Field(
        500_000,
        ge=0,
        description="rows of pair terms (pairs times steps) that are kept whole; older steps are thinned, but extremes and "
        "every pair's first and latest row stay; 0 keeps all",
    )
    template_time: str = Field(
        "",
        description="date and time that a chat template which prints them is told, as 2026-01-31T12:00:00; empty: when the run is "
        "made. It is kept with the run, so that resuming, branches and twins read the same prompts on any other day",
    )
    trackers: str = Field(
        "", description="experiment trackers that get every scalar too: tensorboard, wandb, trackio; several with commas between"
    )
    alerts: Literal["none", "terminal"] = Field(
        "none",
        description="terminal: findings of the diagnosis, failure and end are a line in the terminal that trains, with a bell",
    )
    alert_hosts: str = Field("", description="hosts beside this machine that alert_webhook may be on; several with commas between")
    alert_webhook: str = Field(
        "",
        description="gets the same alerts as a POST of JSON: an address on this machine, as http://127.0.0.1:9000/alerts, or on a "
        "host that alert_hosts names; empty: none",
    )
    name: str = Field("", max_length=200, description="a name people will recognise")

    @field_validator("precision", mode="before")
    @classmethod
    def _no_float16(cls, value: Any) -> Any:
        if str(value) in ("float16", "fp16", "half"):
            raise ValueError(
                "float16 cannot hold the range of these gradients (largest number 65,504) and would need loss scaling, which no "
                "preference loss here is tested with; use bfloat16 or float32"
            )
        return value

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

    @field_validator("alert_webhook")
    @classmethod
    def _allowed(cls, value: str, info: ValidationInfo) -> str:
        if value:
            parse_hook(value, info.data.get("alert_hosts", ""))
        return value

    @field_validator("template_time")
    @classmethod
    def _one_moment(cls, value: str) -> str:
        return as_moment(value).isoformat(timespec="seconds") if value else value

    @property
    def micro_batch(self) -> int | None:
        """Pairs computed at once, where that is a number already; None computes the whole batch at once."""
        return None if self.micro_batch_size == "fit" else self.micro_batch_size

    @property
    def lora(self) -> Lora | None:
        """The adapter these settings ask for, or None for full fine-tuning."""
        return Lora(self.lora_rank, self.lora_alpha, self.lora_dropout, self.lora_targets) if self.lora_rank else None

    @property
    def moment(self) -> datetime:
        """What a chat template is told: `template_time`, or the present moment where there is none."""
        return as_moment(self.template_time)

    def made_at(self, created: str | None = None) -> TrainConfig:
        """The same settings with a `template_time`, where there is none: that of a run made then (ISO text), or now."""
        if self.template_time:
            return self
        moment = as_moment(created or "").replace(microsecond=0)
        return self.model_copy(update={"template_time": moment.isoformat(timespec="seconds")})

    @property
    def warmup_steps(self) -> int:
        """Steps in which the learning rate rises."""
        return math.ceil(self.warmup_ratio * self.steps)

    def rate(self, step: int) -> float:
        """Learning rate of optimizer step `step` (1-based), with Hugging Face's convention: linear warm-up from 0, so that
        the first of several warm-up steps moves nothing, then the schedule, which ends at 0."""
        done, warmup = step - 1, self.warmup_steps
        if done < warmup:
            return self.learning_rate * done / max(1, warmup)
        share = (done - warmup) / max(1, self.steps - warmup)
        factor = {"constant": 1.0, "linear": max(0.0, 1 - share), "cosine": 0.5 * (1 + math.cos(math.pi * share))}[self.schedule]
        return self.learning_rate * factor

    @classmethod
    def parse(cls, **fields: Any) -> TrainConfig:
        """A configuration from plain values. Raises ConfigError with one sentence that names the field and the remedy."""
        try:
            return cls(**fields)
        except ValidationError as error:
            raise ConfigError(one_sentence(error)) from None


def one_sentence(error: ValidationError) -> str:
    """The first complaint of a pydantic error, for people."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the settings"
    if first["type"] == "extra_forbidden":
        return f"There is no setting {where!r}; run `python -m lab train --help` for the ones there are."
    what = requirement(first)
    return f"{where} = {first['input']!r} does not work: {what[0].lower()}{what[1:]}."


def read_config(path: Path) -> dict[str, Any]:
    """Settings from a YAML (or JSON) file. Raises ConfigError if it is not a mapping of settings."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration {path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"The configuration {path} must hold settings, one `name: value` a line.")
    for name in content:
        if name not in TrainConfig.model_fields:
            raise ConfigError(
                f"The configuration {path} has {name!r}, which is no setting; `python -m lab train --help` lists them."
            )
    return content
