"""The model in training: loading, adapters, tokens, log-probs, the reference cache, sampling."""

from .check import ensure_right_head
from .frozen import is_untouched, reference_model
from .loading import Lora, ModelError, Policy, choose_device, load_policy, load_trained
from .logps import Completion, CompletionLogps, completion_logps
from .reference import ReferenceCache
from .sampling import Answer, sample, sample_answers
from .tokens import Encoded, Encoder, Prompt

__all__ = [
    "Answer",
    "Completion",
    "CompletionLogps",
    "Encoded",
    "Encoder",
    "Lora",
    "ModelError",
    "Policy",
    "Prompt",
    "ReferenceCache",
    "choose_device",
    "completion_logps",
    "ensure_right_head",
    "is_untouched",
    "load_policy",
    "load_trained",
    "reference_model",
    "sample",
    "sample_answers",
]
