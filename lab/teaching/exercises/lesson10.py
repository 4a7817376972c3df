"""Exercises of lesson 10: the size of an adapter, the memory of full fine-tuning, and the reference of a second run."""

from __future__ import annotations

from typing import Any

from lab.objectives import make_objective
from lab.teaching.lessons.chat_models import SMOLLM2_SHAPE, model_size

from .judging import choice, number
from .registry import Verdict, exercise

RANK, INPUTS, OUTPUTS = 16, 576, 1536
"""Rank of the adapter of exercise 10.1, and the size of the layer it is for: the largest of SmolLM2-135M."""


@exercise("10.1")
def adapter_of_a_layer(answer: Any) -> Verdict:
    """Numbers that a LoRA adapter trains for one linear layer."""
    import torch
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"):
        layer = torch.nn.Sequential(torch.nn.Linear(INPUTS, OUTPUTS, bias=False))
        adapted = get_peft_model(layer, LoraConfig(r=RANK, target_modules=["0"]))
    right = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    return number(
        answer,
        right,
        why=f"The adapter is a matrix of {RANK} × {INPUTS} and one of {OUTPUTS:,} × {RANK}: {RANK} · ({INPUTS} + {OUTPUTS:,}) "
        f"numbers, {right / (INPUTS * OUTPUTS):.1%} of the layer's {INPUTS * OUTPUTS:,}.",
        wrong=[
            (INPUTS * OUTPUTS, "These are the numbers of the layer itself, which LoRA does not train."),
            (
                INPUTS * OUTPUTS * RANK,
                "The adapter is no stack of full matrices: its two matrices have inputs and outputs once each.",
            ),
            (INPUTS * OUTPUTS / RANK, "The rank does not divide the layer; it is the inner size of two narrow matrices."),
            (RANK * INPUTS, "This is the first of two matrices; the second one leads from the rank to the outputs."),
            (RANK * OUTPUTS, "This is the second of two matrices; the first one leads from the inputs to the rank."),
            (INPUTS + OUTPUTS, "This is the adapter of rank 1; each further rank adds as many numbers."),
        ],
        otherwise="Two matrices: inputs × rank, and rank × outputs.",
        relative=0.0,
        absolute=0.5,
    )


@exercise("10.2")
def full_memory(answer: Any) -> Verdict:
    """Memory of weights, gradients and AdamW's moments under full fine-tuning of SmolLM2 in float32, GB."""
    from transformers import LlamaConfig

    size = model_size(LlamaConfig(**SMOLLM2_SHAPE), lora_rank=8)
    parts = size.memory(lora=False)
    right = sum(parts.values()) / 1e3
    one = parts["weights"] / 1e3
    return number(
        answer,
        right,
        why=f"Four numbers of 4 bytes per parameter (weight, gradient, two moments): 16 · {size.parameters:,} bytes. The library's "
        "own memory, activations and logits come on top.",
        wrong=[
            (one, "These are the weights alone; training holds a gradient and AdamW's two moments of each as well."),
            (2 * one, "Weights and gradients; AdamW adds two moments per trained number."),
            (3 * one, "AdamW has two moments, the mean of the gradients and the mean of their squares."),
            (5 * one, "A copy of the reference is not among these: its log-probs are computed before the first step and kept."),
            (right / 2, "This is for numbers of 2 bytes; float32 has 4."),
            (sum(size.memory(lora=True).values()) / 1e3, "This is for LoRA of rank 8, which trains the adapter alone."),
        ],
        otherwise="Count the numbers that are held per parameter, times 4 bytes; GB are 10⁹ bytes.",
        relative=0.01,
    )


@exercise("10.3")
def second_run(answer: Any) -> Verdict:
    """First loss of a DPO run whose model is the export of an earlier run on the same pairs."""
    first = make_objective("dpo").first_step_loss()
    start = f"The loss starts at {first:.4f}"
    return choice(
        answer,
        {
            "a": (False, f"{start}: the loss compares the policy with the reference, and both are the exported model now."),
            "b": (True, f"{start}, and the log-ratios count from the exported model. What the first run changed is not in them."),
            "c": (False, f"{start}: the reference is the model that the run starts from, whatever that was trained on before."),
        },
    )
