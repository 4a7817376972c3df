"""The language model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.policy.checks.layout_check import LayoutCheck, choose_layout
    from lab.policy.text.encoding import Encoded, Encoder, Prompt

    from .cuda_graphs import largest_sizes
    from .kernel_choice import choose_kernel, restore_kernel
    from .layout import PromptAnswer
    from .loading import Lora, ModelError, choose_device, load_policy
    from .logps import CompletionLogps, answer_mask, completion_logps
    from .policy import Policy, full_tensor
    from .reference_cache import ReferenceCache
    from .reference_policy import is_untouched, reference_model
    from .sampling import Answer, encode_prompts, sample, sample_answers

__all__ = [
    "Answer",
    "CompletionLogps",
    "Encoded",
    "Encoder",
    "LayoutCheck",
    "Lora",
    "ModelError",
    "Policy",
    "Prompt",
    "PromptAnswer",
    "ReferenceCache",
    "answer_mask",
    "choose_device",
    "choose_kernel",
    "choose_layout",
    "completion_logps",
    "encode_prompts",
    "full_tensor",
    "is_untouched",
    "largest_sizes",
    "load_policy",
    "reference_model",
    "restore_kernel",
    "sample",
    "sample_answers",
]

_SOURCES = {
    "lab.policy.checks.layout_check": ("LayoutCheck", "choose_layout"),
    "lab.policy.text.encoding": ("Encoded", "Encoder", "Prompt"),
    "lab.policy.cuda_graphs": ("largest_sizes",),
    "lab.policy.kernel_choice": ("choose_kernel", "restore_kernel"),
    "lab.policy.layout": ("PromptAnswer",),
    "lab.policy.loading": ("Lora", "ModelError", "choose_device", "load_policy"),
    "lab.policy.logps": ("CompletionLogps", "answer_mask", "completion_logps"),
    "lab.policy.policy": ("Policy", "full_tensor"),
    "lab.policy.reference_cache": ("ReferenceCache",),
    "lab.policy.reference_policy": ("is_untouched", "reference_model"),
    "lab.policy.sampling": ("Answer", "encode_prompts", "sample", "sample_answers"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: a module of this package that needs neither torch nor transformers loads neither."""
    for source, names in _SOURCES.items():
        if name in names:
            return getattr(importlib.import_module(source), name)
    raise AttributeError(f"module 'lab.policy' has no attribute {name!r}")
