"""The model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from .check import LayoutCheck, choose_kernel, choose_layout
from .layout import Completion
from .loading import Lora, ModelError, choose_device, load_policy, load_trained
from .logps import CompletionLogps, completion_logps
from .policy import Policy
from .reference import ReferenceCache
from .sampling import sample_answers
from .tokens import Encoded, Encoder, Prompt

__all__ = [
    "Completion",
    "CompletionLogps",
    "Encoded",
    "Encoder",
    "LayoutCheck",
    "Lora",
    "ModelError",
    "Policy",
    "Prompt",
    "ReferenceCache",
    "choose_device",
    "choose_kernel",
    "choose_layout",
    "completion_logps",
    "load_policy",
    "load_trained",
    "sample_answers",
]
