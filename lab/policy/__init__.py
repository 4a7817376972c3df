"""The model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from lab.policy.checks.layout_check import LayoutCheck, choose_layout
from lab.policy.text.tokens import Encoded, Encoder, Prompt

from .frozen import is_untouched, reference_model
from .graphs import largest
from .kernel_choice import choose_kernel, keep_kernel
from .layout import PromptAnswer
from .loading import Lora, ModelError, choose_device, load_policy, load_trained
from .logps import CompletionLogps, completion_logps
from .policy import Policy, whole
from .reference import ReferenceCache
from .sampling import Answer, asked, sample, sample_answers

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
    "asked",
    "choose_device",
    "choose_kernel",
    "choose_layout",
    "completion_logps",
    "is_untouched",
    "keep_kernel",
    "largest",
    "load_policy",
    "load_trained",
    "reference_model",
    "sample",
    "sample_answers",
    "whole",
]
