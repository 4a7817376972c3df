"""The language model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from lab.policy.checks.layout_check import LayoutCheck, choose_layout
from lab.policy.text.encoding import Encoded, Encoder, Prompt

from .cuda_graphs import largest_sizes
from .kernel_choice import choose_kernel, restore_kernel
from .layout import PromptAnswer
from .loading import Lora, ModelError, choose_device, load_policy
from .logps import CompletionLogps, completion_logps
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
