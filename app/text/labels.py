"""Labels of fields and of lists with text search."""

from __future__ import annotations

from lab.objectives import OBJECTIVES

FIELDS = {
    "pairs_version": "Edits of the pairs",
    "micro_batch_size": "Micro-batch size",
    "warmup_ratio": "Warm-up ratio",
    "adam_beta1": "AdamW β₁",
    "adam_beta2": "AdamW β₂",
    "max_grad_norm": "Maximum gradient norm",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "lora_targets": "LoRA targets",
    "max_length": "Maximum length (tokens)",
    "too_long": "Answers that are too long",
    "quantize": "Quantization",
    "save_every": "Steps between checkpoints",
    "keep_checkpoints": "Checkpoints to keep",
    "keep_best": "Best checkpoint by",
    "eval_every": "Steps between evaluations",
    "held_out": "Held-out share of prompts",
    "eval_pairs": "Evaluation pairs",
    "eval_prompts": "Evaluation prompts",
    "eval_tokens": "Tokens of a sampled answer",
    "probe_layers": "Layers of the gradient probe",
    "panel_every": "Steps between panels",
    "token_steps": "Steps with token values",
    "keep_pair_rows": "Pair rows to keep whole",
    "template_time": "Time for the chat template",
}
"""Labels of settings whose Python name does not read well with blanks in the place of underscores."""


def field_label(name: str) -> str:
    """Return a readable label for a setting or a parameter: "learning_rate" is "Learning rate", "r1" stays "r1"."""
    label = FIELDS.get(name) or name.replace("_", " ").replace(".", ": ")
    return label if len(label) < 3 else label[0].upper() + label[1:]


def objective_label(name: str) -> str:
    """Return an objective's name and title, followed by invisible blanks.

    Streamlit ranks the labels that contain the typed letters by how early they occur and by how short the label is, so "dpo" would
    select dpop, whose title is shorter. With the blanks the shorter name has the shorter label.
    """
    widest = max(len(f"{other}: {kind.title}") for other, kind in OBJECTIVES.items())
    return f"{name}: {OBJECTIVES[name].title}".ljust(widest + 2 * len(name))
