"""A script that repeats a run's training in TRL, for the objectives that TRL has.

Which losses are equal, and where TRL's differ, is tested value by value in tests/objectives/test_objectives_trl.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.objectives import Objective
from lab.training.trackers import BUILT_IN

from .data import Data
from .source import ExportError, Source, adapter_configuration, one_line

if TYPE_CHECKING:
    from lab.run.config import TrainConfig
    from lab.run.handle import Run

TRL = "1.16"
PAIRS, SCRIPT, TEMPLATE = "pairs.jsonl", "train_trl.py", "train_chat_template.jinja"


@dataclass(frozen=True)
class Recipe:
    """An objective in TRL.

    Attributes:
        trainer: The trainer: "DPO", "KTO", "CPO" or "ORPO".
        arguments: Its arguments.
        differences: Differences to the lab, in sentences.
    """

    trainer: str
    arguments: dict[str, Any]
    differences: tuple[str, ...] = field(default=())


_CPO_NLL = "TRL averages the likelihood of the chosen answers over all tokens of a batch, the lab over each pair."
_ORPO_NLL = "TRL takes the likelihood over prompt and answer, averaged over a batch; the lab over the answer, per pair."
_KTO_KL = "TRL estimates the KL from unrelated completions of the batch, the lab from the other side of the same batch."

_RECIPES: dict[str, Callable[[Any], Recipe]] = {
    "dpo": lambda o: Recipe("DPO", {"loss_type": ["sigmoid"], "beta": o.beta}),
    "hinge": lambda o: Recipe("DPO", {"loss_type": ["hinge"], "beta": o.beta}),
    "ipo": lambda o: Recipe("DPO", {"loss_type": ["ipo"], "beta": o.beta}),
    "robust": lambda o: Recipe("DPO", {"loss_type": ["robust"], "beta": o.beta, "label_smoothing": o.label_smoothing}),
    "exo_pair": lambda o: Recipe("DPO", {"loss_type": ["exo_pair"], "beta": o.beta, "label_smoothing": o.label_smoothing}),
    "nca_pair": lambda o: Recipe("DPO", {"loss_type": ["nca_pair"], "beta": o.beta}),
    "bco_pair": lambda o: Recipe("DPO", {"loss_type": ["bco_pair"], "beta": o.beta}),
    "sppo_hard": lambda o: Recipe("DPO", {"loss_type": ["sppo_hard"], "beta": o.beta}),
    "apo_zero": lambda o: Recipe("DPO", {"loss_type": ["apo_zero"], "beta": o.beta}),
    "apo_down": lambda o: Recipe("DPO", {"loss_type": ["apo_down"], "beta": o.beta}),
    "aot": lambda o: Recipe("DPO", {"loss_type": ["aot"], "beta": o.beta}),
    "aot_unpaired": lambda o: Recipe("DPO", {"loss_type": ["aot_unpaired"], "beta": o.beta}),
    "discopop": lambda o: Recipe("DPO", {"loss_type": ["discopop"], "beta": o.beta, "discopop_tau": o.tau}),
    "dpo_norm": lambda o: Recipe("DPO", {"loss_type": ["sigmoid_norm"], "beta": o.beta}),
    "ld_dpo": lambda o: Recipe("DPO", {"loss_type": ["sigmoid"], "beta": o.beta, "ld_alpha": o.alpha}),
    "wpo": lambda o: Recipe("DPO", {"loss_type": ["sigmoid"], "beta": o.beta, "use_weighting": True}),
    "kto_pair": lambda o: Recipe("KTO", {"loss_type": "kto", "beta": o.beta}, (_KTO_KL,)),
    "cpo": lambda o: Recipe("CPO", {"loss_type": "sigmoid", "beta": o.beta, "cpo_alpha": o.nll_weight}, (_CPO_NLL,)),
    "simpo": lambda o: Recipe(
        "CPO",
        {
            "loss_type": "simpo",
            "beta": o.beta,
            "simpo_gamma": o.beta * o.gamma_beta_ratio,
            "label_smoothing": o.label_smoothing,
            "cpo_alpha": 0.0,
        },
    ),
    "orpo": lambda o: Recipe("ORPO", {"beta": o.weight}, (_ORPO_NLL,)),
}

_NOT_THERE: dict[str, Callable[[Any], str]] = {
    "dpo": lambda o: "ignores label_smoothing for this loss" if o.label_smoothing else "",
    "ipo": lambda o: "averages log-ratios per token, where this run sums them" if not o.average else "",
    "bco_pair": lambda o: "has no shift (delta) of the rewards" if o.delta else "",
}
"""Settings of objectives that TRL cannot reproduce: objective name -> function that returns the reason, or "" if it can."""


_BF16 = {
    "auto": "torch.cuda.is_available() and torch.cuda.is_bf16_supported()",
    "float32": "False",
    "bfloat16": "True",
}


def recipe(objective: Objective) -> Recipe:
    """Return an objective in TRL's terms. Raises ExportError, naming what is missing, if TRL lacks it."""
    make = _RECIPES.get(objective.name)
    if make is None:
        raise ExportError(f"TRL {TRL} has no {objective.name}, so there is no script for it; export without the script.")
    if missing := _NOT_THERE.get(objective.name, lambda o: "")(objective):
        raise ExportError(f"TRL {TRL} {missing}, so it cannot train this {objective.name}; export without the script.")
    if objective.uses_degree:
        raise ExportError(
            f"TRL {TRL} has no margin by a pair's degree (degree_margin), so it cannot train this {objective.name}; "
            "export without the script."
        )
    return make(objective)


def arguments(config: TrainConfig) -> dict[str, Any]:
    """Return a run's settings, including those of the objective, as arguments of TRL's configuration."""
    equivalent = recipe(config.objective)
    micro = config.batch_size
    if config.micro_batch and not config.objective.couples_pairs:
        micro = math.gcd(config.batch_size, config.micro_batch)
    values = {
        "max_length": config.max_length,
        "max_steps": config.steps,
        # KTO counts answers, the other trainers pairs.
        "per_device_train_batch_size": micro * (2 if equivalent.trainer == "KTO" else 1),
        "gradient_accumulation_steps": config.batch_size // micro,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if config.schedule == "constant" else config.schedule,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "max_grad_norm": config.max_grad_norm,
        "disable_dropout": not (config.lora_rank and config.lora_dropout),
        "seed": config.seed,
        "gradient_checkpointing": config.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [name for name in BUILT_IN if name in [t.strip() for t in config.trackers.split(",")]] or "none",
    }
    if equivalent.trainer in ("CPO", "ORPO"):
        values["remove_unused_columns"] = False
    if config.device == "cpu":
        values["use_cpu"] = True
    return equivalent.arguments | values


def script(run: Run, source: Source, data: Data, *, dated: bool = False) -> str:
    """Return the text of the script.

    Args:
        run: The run.
        source: The exported checkpoint.
        data: The pairs that were trained on.
        dated: Whether the chat template prints the date; a template with the run's date is then next to the script.

    Raises:
        ExportError: If TRL cannot train this.
    """
    config = source.config
    equivalent = recipe(config.objective)
    if len({isinstance(pair.prompt, str) for pair in data.pairs}) > 1:
        raise ExportError("TRL takes plain or conversational prompts, and this set mixes both; export without the script.")
    module = "trl" if equivalent.trainer in ("DPO", "KTO") else f"trl.experimental.{equivalent.trainer.lower()}"
    names = [
        f"{equivalent.trainer}Config",
        f"{equivalent.trainer}Trainer",
        *(["unpair_preference_dataset"] if equivalent.trainer == "KTO" else []),
    ]
    listed = "\n".join(f"        {key}={_literal(value)}," for key, value in arguments(config).items())
    branched = "branch" in run.manifest
    weighted = sum(pair.weight != 1 for pair in data.pairs)
    unpaired = f"\n    pairs = unpair_preference_dataset(pairs).shuffle(seed={config.seed})"
    notes = [
        *equivalent.differences,
        "The order of the pairs is TRL's own, so single steps differ from the run's.",
        "TRL tokenizes prompt and answer together and leaves BOS to the tokenizer; it cuts long rows at the right end.",
        *([f"TRL has no weights of pairs; in the run {weighted:,} pairs have one other than 1."] if weighted else []),
        *(["TRL leaves biases and norms out of the weight decay."] if config.weight_decay else []),
        *(["Settings or pairs were changed during the run; these are the last ones."] if source.changes else []),
        *(["The run began from a checkpoint of another run; this begins from the model before both."] * branched),
        *(["The run kept the model under the adapter in 4 bits; this does not."] if config.quantize != "none" else []),
        *(["The model's own dropout stays on, besides the adapter's."] if config.lora_rank and config.lora_dropout else []),
    ]
    return _SCRIPT.format(
        run=one_line(run.name),
        step=source.step,
        objective=config.objective.name,
        trl=TRL,
        install=f'pip install "trl[peft]=={TRL}.*"' if config.lora else f'pip install "trl=={TRL}.*"',
        notes="\n".join(f"# - {note}" for note in notes),
        peft="from peft import LoraConfig\n" if config.lora else "",
        module=module,
        names=", ".join(names),
        place=" (a folder on the machine that exported this)" if source.base.local else "",
        model=_literal(source.base.place()),
        pairs=PAIRS,
        template=_FIXED.format(moment=config.template_time, template=TEMPLATE) if dated else "",
        trainer=equivalent.trainer,
        bf16=_BF16[config.precision],
        arguments=listed,
        shuffled=unpaired if equivalent.trainer == "KTO" else "",
        adapter=_adapter(source),
    )


def _literal(value: Any) -> str:
    """A value as a Python literal, with texts in double quotes."""
    return json.dumps(value) if isinstance(value, str | list) else repr(value)


def _adapter(source: Source) -> str:
    """The adapter's configuration, with the modules of the run's adapter, because all-linear may mean others in TRL."""
    config = source.config
    if config.lora is None:
        return ""
    written = adapter_configuration(source)
    modules, left_out = written["target_modules"], written.get("exclude_modules")
    listed = {
        "r": config.lora_rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": modules if isinstance(modules, str) else sorted(modules),
        **({"exclude_modules": left_out if isinstance(left_out, str) else sorted(left_out)} if left_out else {}),
        "task_type": "CAUSAL_LM",
    }
    lines = "".join(f"            {key}={_literal(value)},\n" for key, value in listed.items())
    return f"\n        peft_config=LoraConfig(\n{lines}        ),"


_FIXED = """
    # It prints the date; this one prints that of the run, {moment}.
    tokenizer.chat_template = (HERE / "{template}").read_text(encoding="utf-8")"""

_SCRIPT = """\
# The training of the run "{run}" ({objective}) in TRL {trl}, on its pairs, with its settings.
#
#     {install}
#     python train_trl.py
#
# Differences:
{notes}

from pathlib import Path

import torch
from datasets import Dataset
{peft}from transformers import AutoModelForCausalLM, AutoTokenizer
from {module} import {names}

HERE = Path(__file__).resolve().parent
MODEL = {model}  # the model before training{place}


def settings() -> {trainer}Config:
    return {trainer}Config(
        output_dir=str(HERE / "trl-output"),
        bf16={bf16},
{arguments}
    )


def main() -> None:
    pairs = Dataset.from_json(str(HERE / "{pairs}")){shuffled}
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token{template}
    trainer = {trainer}Trainer(
        model=AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32),
        args=settings(),
        train_dataset=pairs,
        processing_class=tokenizer,{adapter}
    )
    trainer.train()
    trainer.save_model(str(HERE / "trl-output"))


if __name__ == "__main__":
    main()
"""
